//! Makes endpoints of the nodes that answer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use futures::StreamExt;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use knode_client::{Api, Backoff, Change, Client, Retry, WatchConfig, watch};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use super::service::{ensure, is_ours};
use super::{ClusterDns, NAMESPACE, PORT_ANNOTATION, SERVICE};
use crate::dual::Dual;
use crate::server::objects::{put, typed};

/// Marks the slices.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "dns.knode";
/// No slice may have more endpoints.
const MOST: usize = 1000;

/// A node that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    ips: Vec<IpAddr>,
    port: u16,
}

/// Makes the Service unless there is one. Whether that is done.
pub async fn prepare(client: &Client, dns: ClusterDns, services: &Dual<IpNet>) -> bool {
    let made = ensure(client, dns, services).await;
    if let Err(error) = &made {
        tracing::error!(
            error = format!("{error:#}"),
            "the cluster's DNS has no Service; trying again"
        );
    }
    made.is_ok()
}

/// Makes the Service and keeps its endpoints, until it is dropped.
pub async fn start(client: Client, dns: ClusterDns, services: Dual<IpNet>) {
    let mut retry = Retry::new(Backoff::API);
    while !prepare(&client, dns, &services).await {
        tokio::time::sleep(retry.failed()).await;
    }
    follow(client).await;
}

async fn follow(client: Client) {
    let kube_dns = WatchConfig::fields(format!("metadata.name={SERVICE}"));
    let mut services = watch(Api::<Service>::namespaced(client.clone(), NAMESPACE), kube_dns);
    let mut nodes = watch(Api::<Node>::all(client.clone()), WatchConfig::default());
    let (mut ours, mut members): (Option<bool>, Option<BTreeMap<String, Member>>) = (None, None);
    let mut written: Option<Vec<EndpointSlice>> = None;
    let mut retry = Retry::new(Backoff::API);
    let mut again = None;
    loop {
        tokio::select! {
            Some(change) = services.next() => match change {
                Ok(change) => ours = Some(now_ours(change)),
                Err(error) => interrupted(&error),
            },
            Some(change) = nodes.next() => match change {
                Ok(change) => take(members.get_or_insert_default(), change),
                Err(error) => interrupted(&error),
            },
            () = until(again) => again = None,
        }
        let (Some(ours), Some(members), None) = (ours, &members, again) else {
            continue;
        };
        let wanted = if ours { slices(members) } else { Vec::new() };
        if written.as_ref() == Some(&wanted) {
            continue;
        }
        match write(&client, &wanted).await {
            Ok(()) => {
                retry.succeeded();
                written = Some(wanted);
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the endpoints of kube-dns are not up to date; trying again"
                );
                again = Some(tokio::time::Instant::now() + retry.failed());
            }
        }
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn interrupted(error: &knode_client::WatchError) {
    tracing::debug!(error = error as &dyn std::error::Error, "watch interrupted");
}

/// Whether the Service is ours after a change.
pub(super) fn now_ours(change: Change<Service>) -> bool {
    match change {
        Change::Restarted(services) => services.iter().any(is_ours),
        Change::Applied(service) => is_ours(&service),
        Change::Deleted(_) => false,
    }
}

fn take(members: &mut BTreeMap<String, Member>, change: Change<Node>) {
    let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
    match change {
        Change::Restarted(nodes) => {
            *members = nodes
                .iter()
                .filter_map(|node| Some((name(node), member(node)?)))
                .collect();
        }
        Change::Applied(node) => {
            match member(&node) {
                Some(member) => members.insert(name(&node), member),
                None => members.remove(&name(&node)),
            };
        }
        Change::Deleted(node) => {
            members.remove(&name(&node));
        }
    }
}

/// What a node says, unless nobody has heard of it for a while.
fn member(node: &Node) -> Option<Member> {
    let port = node
        .metadata
        .annotations
        .as_ref()?
        .get(PORT_ANNOTATION)?
        .parse()
        .ok()?;
    let status = node.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    let ready = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")?;
    if ready.status == "Unknown" || node.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let addresses = status
        .addresses
        .iter()
        .flatten()
        .filter(|address| address.type_ == "InternalIP");
    let ips = addresses
        .filter_map(|address| address.address.parse().ok())
        .collect();
    Some(Member { ips, port })
}

/// One slice for each family, port and thousand of nodes.
fn slices(members: &BTreeMap<String, Member>) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<(&str, u16), Vec<(&str, IpAddr)>> = BTreeMap::new();
    for (name, member) in members {
        for ip in &member.ips {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            groups.entry((family, member.port)).or_default().push((name, *ip));
        }
    }
    let sliced = groups.iter().flat_map(|((family, port), endpoints)| {
        let chunks = endpoints.chunks(MOST).enumerate();
        chunks.map(move |(at, endpoints)| slice(family, *port, at, endpoints))
    });
    sliced.collect()
}

fn slice(family: &str, port: u16, at: usize, endpoints: &[(&str, IpAddr)]) -> EndpointSlice {
    let endpoint = |(node, ip): &(&str, IpAddr)| {
        json!({
            "addresses": [ip],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": node,
            "hints": {"forNodes": [{"name": node}]},
        })
    };
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    typed(json!({
        "metadata": {
            "name": format!("{SERVICE}-{}-{port}-{at}", family.to_lowercase()),
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": SERVICE, "k8s-app": "kube-dns", MANAGED_BY: US},
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [
            {"name": "dns", "port": port, "protocol": "UDP"},
            {"name": "dns-tcp", "port": port, "protocol": "TCP"},
        ],
    }))
}

/// Brings the slices of ours to this state.
async fn write(client: &Client, wanted: &[EndpointSlice]) -> anyhow::Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let ours = ListParams::default().labels(&format!("{MANAGED_BY}={US}"));
    let there = api.list(&ours).await.context("list the endpoints of kube-dns")?;
    for slice in wanted {
        put(&api, slice).await?;
    }
    let is_wanted = |name: &str| {
        wanted
            .iter()
            .any(|slice| slice.metadata.name.as_deref() == Some(name))
    };
    for name in there.into_iter().filter_map(|slice| slice.metadata.name) {
        if !is_wanted(&name) {
            let deleted = api.delete(&name, &DeleteParams::default()).await;
            deleted.with_context(|| format!("delete EndpointSlice {name}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ready: &str, port: Option<&str>, ips: &[&str]) -> Node {
        let addresses: Vec<_> = ips
            .iter()
            .map(|ip| json!({"type": "InternalIP", "address": ip}))
            .collect();
        typed(json!({
            "metadata": {"name": name, "annotations": port.map(|port| json!({PORT_ANNOTATION: port}))},
            "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]},
        }))
    }

    #[test]
    fn nodes_that_answer_are_endpoints_for_their_own_pods() {
        let mut members = BTreeMap::new();
        let nodes = vec![
            node("a", "True", Some("10053"), &["192.0.2.1", "fd00::1"]),
            node("b", "False", Some("10053"), &["192.0.2.2"]),
            node("lost", "Unknown", Some("10053"), &["192.0.2.3"]),
            node("other", "True", None, &["192.0.2.4"]),
        ];
        take(&mut members, Change::Restarted(nodes));
        let made = slices(&members);
        let shown: Vec<(&str, usize)> = made
            .iter()
            .map(|slice| {
                (
                    slice.address_type.as_str(),
                    slice.endpoints.as_ref().map_or(0, Vec::len),
                )
            })
            .collect();
        assert_eq!(shown, [("IPv4", 2), ("IPv6", 1)]);
        let first = &made[0].endpoints.as_ref().unwrap()[0];
        let hints = first
            .hints
            .as_ref()
            .and_then(|hints| hints.for_nodes.as_ref())
            .unwrap();
        assert_eq!(
            (first.node_name.as_deref(), hints[0].name.as_str()),
            (Some("a"), "a")
        );

        take(
            &mut members,
            Change::Applied(node("a", "Unknown", Some("10053"), &["192.0.2.1"])),
        );
        take(
            &mut members,
            Change::Deleted(node("b", "True", Some("10053"), &["192.0.2.2"])),
        );
        assert!(slices(&members).is_empty());
        take(
            &mut members,
            Change::Applied(node("b", "True", Some("53"), &["192.0.2.2"])),
        );
        let ports = slices(&members)[0].ports.clone().unwrap();
        assert_eq!(
            ports.iter().map(|port| port.port).collect::<Vec<_>>(),
            [Some(53), Some(53)]
        );
    }
}
