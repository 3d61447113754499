//! What the API says of a packet, read from the objects themselves, without any of the crate's code.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::cluster::{Cluster, NODE};
use super::tracer::Packet;

struct Pod<'a> {
    namespace: &'a str,
    object: &'a Value,
}

/// Whether the policies of the cluster let the first packet of a connection pass on this node.
pub fn passes(cluster: &Cluster, packet: &Packet) -> bool {
    if packet.saddr == packet.daddr {
        return true;
    }
    let (source, target) = (owner(cluster, packet.saddr), owner(cluster, packet.daddr));
    let out = source
        .as_ref()
        .is_none_or(|pod| allows(cluster, pod, "Egress", packet.daddr, packet));
    let into = target
        .as_ref()
        .is_none_or(|pod| allows(cluster, pod, "Ingress", packet.saddr, packet));
    out && into
}

fn counts(object: &Value) -> bool {
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    object["spec"]["hostNetwork"] != true && !["Succeeded", "Failed"].contains(&phase)
}

fn has(object: &Value, ip: IpAddr) -> bool {
    let ips = object["status"]["podIPs"].as_array().into_iter().flatten();
    ips.filter_map(|entry| entry["ip"].as_str()?.parse::<IpAddr>().ok())
        .any(|own| own == ip)
}

/// The pods that have an address.
fn owners(cluster: &Cluster, ip: IpAddr) -> Vec<Pod<'_>> {
    let all = cluster
        .pods
        .iter()
        .filter(|(_, object)| counts(object) && has(object, ip));
    all.map(|((namespace, _), object)| Pod { namespace, object })
        .collect()
}

/// The pod of this node that has an address; of several the youngest, then the last by name.
fn owner(cluster: &Cluster, ip: IpAddr) -> Option<Pod<'_>> {
    let here = owners(cluster, ip)
        .into_iter()
        .filter(|pod| pod.object["spec"]["nodeName"] == NODE);
    here.max_by_key(|pod| {
        let meta = &pod.object["metadata"];
        let text = |key: &str| meta[key].as_str().unwrap_or_default().to_owned();
        (text("creationTimestamp"), text("namespace"), text("name"))
    })
}

fn allows(cluster: &Cluster, pod: &Pod<'_>, kind: &str, other: IpAddr, packet: &Packet) -> bool {
    let mut is_isolated = false;
    for ((namespace, _), spec) in &cluster.policies {
        let selects = matches(
            spec.get("podSelector").unwrap_or(&json!({})),
            &pod.object["metadata"]["labels"],
        );
        if namespace != pod.namespace || !selects || !is_about(spec, kind) {
            continue;
        }
        is_isolated = true;
        let (rules, peers) = match kind {
            "Ingress" => ("ingress", "from"),
            _ => ("egress", "to"),
        };
        for rule in list(&spec[rules]) {
            let peers = list(&rule[peers]);
            let peer = peers.is_empty() || peers.iter().any(|peer| is_peer(cluster, namespace, peer, other));
            if peer && is_port(cluster, kind, &rule["ports"], packet) {
                return true;
            }
        }
    }
    !is_isolated
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_about(spec: &Value, kind: &str) -> bool {
    let types = list(&spec["policyTypes"]);
    match types.is_empty() {
        true => kind == "Ingress" || !list(&spec["egress"]).is_empty(),
        false => types.iter().any(|own| own == kind),
    }
}

fn is_peer(cluster: &Cluster, namespace: &str, peer: &Value, other: IpAddr) -> bool {
    if let Some(block) = peer.get("ipBlock") {
        let inside = |net: &Value| {
            net.as_str()
                .is_some_and(|net| net.parse::<IpNet>().is_ok_and(|net| net.contains(&other)))
        };
        return inside(&block["cidr"]) && !list(&block["except"]).iter().any(inside);
    }
    owners(cluster, other).iter().any(|pod| {
        let in_space = match peer.get("namespaceSelector") {
            None => pod.namespace == namespace,
            Some(selector) if selector == &json!({}) => true,
            Some(selector) => cluster
                .namespaces
                .get(pod.namespace)
                .is_some_and(|labels| matches(selector, labels)),
        };
        let labels = &pod.object["metadata"]["labels"];
        in_space
            && peer
                .get("podSelector")
                .is_none_or(|selector| matches(selector, labels))
    })
}

fn matches(selector: &Value, labels: &Value) -> bool {
    let pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = list(&selector["matchExpressions"]);
    pairs
        .into_iter()
        .all(|(key, value)| labels.get(key) == Some(value))
        && expressions.iter().all(|one| {
            let own = labels.get(one["key"].as_str().unwrap_or_default());
            let listed = own.is_some_and(|own| list(&one["values"]).contains(own));
            match one["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                Some("Exists") => own.is_some(),
                Some("DoesNotExist") => own.is_none(),
                other => panic!("operator {other:?}"),
            }
        })
}

fn is_port(cluster: &Cluster, kind: &str, ports: &Value, packet: &Packet) -> bool {
    let ports = list(ports);
    let number = |protocol: &str| {
        [("TCP", 6), ("UDP", 17), ("SCTP", 132)]
            .iter()
            .any(|(name, n)| *name == protocol && *n == packet.protocol)
    };
    ports.is_empty()
        || ports.iter().any(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            if !number(protocol) {
                return false;
            }
            match &port["port"] {
                Value::Null => true,
                Value::Number(first) => {
                    let first = first.as_u64().expect("a port");
                    (first..=port["endPort"].as_u64().unwrap_or(first)).contains(&u64::from(packet.dport))
                }
                Value::String(name) => {
                    // Into this node's pods: any pod here of that address. Out: any pod of the cluster.
                    let pods = owners(cluster, packet.daddr);
                    let local = |pod: &&Pod<'_>| kind == "Egress" || pod.object["spec"]["nodeName"] == NODE;
                    pods.iter()
                        .filter(local)
                        .any(|pod| calls(pod.object, name, protocol, packet.dport))
                }
                other => panic!("port {other}"),
            }
        })
}

fn calls(pod: &Value, name: &str, protocol: &str, number: u16) -> bool {
    let containers = list(&pod["spec"]["containers"]).iter();
    containers
        .flat_map(|container| list(&container["ports"]))
        .any(|port| {
            port["name"] == name
                && port["containerPort"] == number
                && port["protocol"].as_str().unwrap_or("TCP") == protocol
        })
}
