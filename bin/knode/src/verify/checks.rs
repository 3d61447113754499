//! Which questions are asked: pure, from what the API server says of nodes, pods and the service.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};

/// One node with the pod that runs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub node: String,
    pub node_ip: IpAddr,
    pub pod: String,
    pub pod_ip: IpAddr,
    pub lease: Option<IpNet>,
}

/// Where a page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The node it is about, in the table.
    pub node: String,
    /// `pod IP`, `ClusterIP` or `NodePort`.
    pub by: &'static str,
    pub url: String,
    /// The pod to ask from; from this machine if none.
    pub from: Option<String>,
}

/// What is not yet as it must be before anything can be asked, or the pods and their nodes.
pub fn placed(nodes: &[Node], pods: &[Pod]) -> Result<Vec<Placed>, String> {
    if nodes.is_empty() {
        return Err("no node has joined".into());
    }
    nodes.iter().map(|n| place(n, pods)).collect()
}

fn place(node: &Node, pods: &[Pod]) -> Result<Placed, String> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let on_node = |p: &&Pod| {
        p.spec
            .as_ref()
            .is_some_and(|s| s.node_name.as_deref() == Some(&name))
    };
    let pod = pods
        .iter()
        .filter(|p| p.metadata.deletion_timestamp.is_none())
        .find(on_node)
        .ok_or_else(|| format!("no pod on node {name} yet"))?;
    let pod_name = pod.metadata.name.clone().unwrap_or_default();
    let status = pod.status.as_ref();
    if !is_ready(pod) {
        return Err(format!("pod {pod_name} on node {name} is {}", why_not_ready(pod)));
    }
    let pod_ip: Option<IpAddr> = status
        .and_then(|s| s.pod_ip.as_deref())
        .and_then(|ip| ip.parse().ok());
    let pod_ip = pod_ip.ok_or_else(|| format!("pod {pod_name} has no address"))?;
    Ok(Placed {
        node_ip: internal_ip(node).ok_or_else(|| format!("node {name} has no InternalIP"))?,
        pod_ip,
        lease: lease(node, pod_ip),
        node: name,
        pod: pod_name,
    })
}

/// The node's lease of an address's family.
fn lease(node: &Node, ip: IpAddr) -> Option<IpNet> {
    let spec = node.spec.as_ref()?;
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    all.filter_map(|range| range.parse::<IpNet>().ok())
        .find(|range| range.addr().is_ipv6() == ip.is_ipv6())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Phase and the first container's reason to wait: what a person needs to see.
fn why_not_ready(pod: &Pod) -> String {
    let Some(status) = &pod.status else {
        return "without a status".into();
    };
    let phase = status.phase.as_deref().unwrap_or("Pending");
    let waiting = status.container_statuses.iter().flatten().find_map(|c| {
        let waiting = c.state.as_ref()?.waiting.as_ref()?;
        Some(format!(
            "{}: {}",
            waiting.reason.as_deref()?,
            waiting.message.as_deref().unwrap_or("")
        ))
    });
    match waiting {
        Some(w) => format!("{phase} ({})", w.trim_end_matches(": ")),
        None => format!("{phase}, not ready"),
    }
}

fn internal_ip(node: &Node) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses
        .iter()
        .find(|a| a.type_ == "InternalIP")?
        .address
        .parse()
        .ok()
}

/// Whether the pod's address lies in its node's lease, or what is wrong.
pub fn in_lease(p: &Placed) -> Option<String> {
    match p.lease {
        Some(lease) if lease.contains(&p.pod_ip) => None,
        Some(lease) => Some(format!(
            "address {} is outside the node's lease {lease}",
            p.pod_ip
        )),
        None => Some("the node has no lease (spec.podCIDR)".into()),
    }
}

/// Every way to the page: by pod address, cluster address and node port, from here and from inside a pod.
pub fn questions(placed: &[Placed], service: &Service) -> Result<Vec<Question>, String> {
    let spec = service.spec.as_ref().ok_or("the service has no spec")?;
    let cluster_ip: IpAddr = spec
        .cluster_ip
        .as_deref()
        .and_then(|ip| ip.parse().ok())
        .ok_or("the service has no ClusterIP")?;
    let port = spec
        .ports
        .as_ref()
        .and_then(|p| p.first())
        .and_then(|p| p.node_port)
        .ok_or("the service has no node port")?;
    let mut all = Vec::new();
    for from in [None]
        .into_iter()
        .chain(placed.iter().map(|p| Some(p.pod.clone())))
    {
        for p in placed {
            let mut ask = |by, url| {
                all.push(Question {
                    node: p.node.clone(),
                    by,
                    url,
                    from: from.clone(),
                })
            };
            ask("pod IP", format!("http://{}/", bracketed(p.pod_ip)));
            ask("ClusterIP", format!("http://{}/", bracketed(cluster_ip)));
            ask("NodePort", format!("http://{}:{port}/", bracketed(p.node_ip)));
        }
    }
    Ok(all)
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node() -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "a"}, "spec": {"podCIDR": "172.30.1.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}),
        )
        .unwrap()
    }

    fn pod(ip: &str, ready: &str) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "a", "containers": []},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}}),
        )
        .unwrap()
    }

    #[test]
    fn an_address_outside_the_lease_is_found() {
        let good = placed(&[node()], &[pod("172.30.1.7", "True")]).unwrap();
        assert_eq!(in_lease(&good[0]), None);
        let bad = placed(&[node()], &[pod("172.17.0.2", "True")]).unwrap();
        assert!(in_lease(&bad[0]).unwrap().contains("172.17.0.2"));
    }

    #[test]
    fn the_lease_is_that_of_the_addresses_family() {
        let mut node = node();
        let ranges = ["172.30.1.0/24", "fd00:30:0:1::/64"].map(str::to_owned);
        node.spec.as_mut().unwrap().pod_cidrs = Some(ranges.to_vec());
        for (ip, fits) in [
            ("172.30.1.7", true),
            ("fd00:30:0:1::7", true),
            ("fd00:30:0:2::7", false),
        ] {
            let placed = placed(std::slice::from_ref(&node), &[pod(ip, "True")]).unwrap();
            assert_eq!(in_lease(&placed[0]).is_none(), fits, "{ip}");
        }
    }

    #[test]
    fn waits_say_what_they_wait_for() {
        assert!(placed(&[node()], &[]).unwrap_err().contains("no pod on node a"));
        assert!(
            placed(&[node()], &[pod("172.30.1.7", "False")])
                .unwrap_err()
                .contains("Running, not ready")
        );
    }

    #[test]
    fn asks_from_here_and_from_inside() {
        let service = serde_json::from_value(json!({"spec": {"clusterIP": "10.254.0.9",
            "ports": [{"port": 80, "nodePort": 30080}]}}))
        .unwrap();
        let placed = placed(&[node()], &[pod("172.30.1.7", "True")]).unwrap();
        let all = questions(&placed, &service).unwrap();
        assert_eq!(all.len(), 6);
        assert_eq!(all[2].url, "http://10.0.0.1:30080/");
        assert_eq!(all[3].from.as_deref(), Some("p"));
    }
}
