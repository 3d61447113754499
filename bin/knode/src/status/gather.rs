//! Asks the daemon, the API, the kernel and the disk. Whoever does not answer is named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1 as core;
use knode_client::{Api, Client};
use knode_linux::cgroup::{self, Cgroups};
use knode_proxy::inspect::{End, Inspection};
use knode_proxy::model::Protocol;
use knode_proxy::table::TableConfig;
use kube::api::ListParams;

use super::model::{Certificate, Condition, Node, Peer, Pod, Services, Status, Warning};
use crate::cluster::State;
use crate::layout::Layout;
use crate::{control, lock, upgrade};

/// A server that is silent for so long is named as not reached.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many warnings are shown, the latest.
const WARNINGS: usize = 8;
/// The overlay's address of a node, where other nodes look for it.
const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";

/// Everything, asked anew.
pub async fn all(layout: &Layout) -> Status {
    let mut status = Status::default();
    daemon(layout, &mut status).await;
    certificates(layout, &mut status);
    let state = State::load(&layout.state_file()).unwrap_or_default();
    let Some(kubeconfig) = kubeconfig(layout, &state) else {
        status
            .unreached
            .push("the API: no kubeconfig of an administrator or of this node is here".into());
        return status;
    };
    let asked = tokio::time::timeout(PATIENCE, ask_api(&kubeconfig, &state, layout, &mut status)).await;
    let failure = match asked {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(knode_client::brief(error.as_ref())),
        Err(_) => Some(format!("no answer in {PATIENCE:?}")),
    };
    let told = failure.map(|why| format!("the API, by {}: {why}", kubeconfig.display()));
    status.unreached.extend(told);
    status
}

async fn daemon(layout: &Layout, status: &mut Status) {
    status.daemon = upgrade::ask(layout).await;
    if status.daemon.is_none() {
        status.unreached.push(match lock::holder(&layout.lock_file()) {
            Some(pid) => format!(
                "the daemon: process {pid} does not answer on {}",
                layout.control_socket().display()
            ),
            None => format!("the daemon: none runs from {}", layout.data_dir().display()),
        });
        return;
    }
    match control::ask(&layout.control_socket(), &control::Request::ListImages).await {
        Ok(images) => status.images = images,
        // A control plane alone has none.
        Err(control::ControlError::Refused(_)) => {}
        Err(error) => status
            .unreached
            .push(format!("images: {}", knode_client::brief(&error))),
    }
}

fn certificates(layout: &Layout, status: &mut Status) {
    let places = [layout.pki_dir(), layout.cert_dir()];
    let there: Vec<PathBuf> = places.into_iter().filter(|place| place.exists()).collect();
    let now = Timestamp::now();
    match knode_pki::inventory::scan(&there) {
        Ok(inventory) => {
            let found = inventory.found.into_iter().filter(|found| !found.kubeconfig);
            status.certificates = found
                .map(|found| Certificate {
                    file: found.file.display().to_string(),
                    subject: found.certificate.subject.common_name.clone(),
                    not_after: found.certificate.not_after,
                    days_left: found.certificate.not_after.duration_since(now).as_hours() / 24,
                })
                .collect();
        }
        Err(error) => status
            .unreached
            .push(format!("certificates: {}", knode_client::brief(&error))),
    }
}

/// The administrator's, or else the node's own.
fn kubeconfig(layout: &Layout, state: &State) -> Option<PathBuf> {
    let administrator = state.control_plane.as_ref().map(|kept| kept.kubeconfig.clone());
    let own = layout.kubelet_kubeconfig();
    administrator.into_iter().chain([own]).find(|path| path.exists())
}

async fn ask_api(
    kubeconfig: &Path,
    state: &State,
    layout: &Layout,
    status: &mut Status,
) -> anyhow::Result<()> {
    let client = knode_client::from_kubeconfig(kubeconfig)?.client;
    let nodes = Api::<core::Node>::all(client.clone())
        .list(&ListParams::default())
        .await
        .context("list nodes")?;
    let own = state.node.as_ref().map(|node| node.name.as_str());
    for node in nodes.items {
        if node.metadata.name.as_deref() == own {
            status.node = Some(of_node(&client, &node).await);
        } else {
            status.peers.push(peer(&node));
        }
    }
    let listed = Api::<core::Service>::all(client.clone())
        .list(&ListParams::default())
        .await
        .context("list services")?;
    if own.is_some() {
        match Inspection::read(&TableConfig::default()) {
            Ok(inspection) => status.services = Some(services(&listed.items, &inspection)),
            Err(error) => status
                .unreached
                .push(format!("rules of services: {}", knode_client::brief(&error))),
        }
    }
    if let Some(own) = own {
        let mine = ListParams::default().fields(&format!("spec.nodeName={own}"));
        let pods = Api::<core::Pod>::all(client.clone())
            .list(&mine)
            .await
            .context("list pods")?;
        let cgroups = Cgroups::detect(Path::new(cgroup::DEFAULT_ROOT)).ok();
        let pods = pods
            .items
            .iter()
            .map(|pod| of_pod(pod, cgroups.as_ref(), &layout.cgroup_root()));
        status.pods = pods.collect();
    }
    match Api::<core::Event>::all(client)
        .list(&ListParams::default().fields("type=Warning"))
        .await
    {
        Ok(events) => status.warnings = warnings(&events.items),
        // A node may write events, and not read them.
        Err(error) if knode_client::status_code(&error) == Some(403) => {
            status
                .unreached
                .push("warnings: this node's identity may not read events".into());
        }
        Err(error) => return Err(error).context("list events"),
    }
    Ok(())
}

async fn of_node(client: &Client, node: &core::Node) -> Node {
    let name = node.metadata.name.clone().unwrap_or_default();
    let lease = Api::<Lease>::namespaced(client.clone(), "kube-node-lease")
        .get(&name)
        .await;
    let renewed = lease
        .ok()
        .and_then(|lease| lease.spec?.renew_time)
        .map(|time| time.0);
    let (spec, status) = (
        node.spec.clone().unwrap_or_default(),
        node.status.clone().unwrap_or_default(),
    );
    let conditions = status
        .conditions
        .unwrap_or_default()
        .into_iter()
        .map(|c| Condition {
            kind: c.type_,
            status: c.status,
            message: c.message.unwrap_or_default(),
        });
    let internal = status.addresses.unwrap_or_default();
    let internal = internal
        .into_iter()
        .filter(|address| address.type_ == "InternalIP");
    Node {
        name,
        version: status
            .node_info
            .map(|info| info.kubelet_version)
            .unwrap_or_default(),
        addresses: internal.map(|address| address.address).collect(),
        pod_cidrs: spec.pod_cidrs.unwrap_or_default(),
        unschedulable: spec.unschedulable.unwrap_or_default(),
        conditions: conditions.collect(),
        renewed,
    }
}

fn peer(node: &core::Node) -> Peer {
    let status = node.status.clone().unwrap_or_default();
    let annotated = node
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(PUBLIC_IP).cloned());
    let internal = status
        .addresses
        .iter()
        .flatten()
        .find(|address| address.type_ == "InternalIP");
    let mut conditions = status.conditions.iter().flatten();
    Peer {
        name: node.metadata.name.clone().unwrap_or_default(),
        address: annotated
            .or(internal.map(|address| address.address.clone()))
            .unwrap_or_default(),
        pod_cidrs: node
            .spec
            .as_ref()
            .and_then(|spec| spec.pod_cidrs.clone())
            .unwrap_or_default(),
        ready: conditions.any(|c| c.type_ == "Ready" && c.status == "True"),
    }
}

/// Each port of each address, asked of the rules that the kernel holds.
fn services(services: &[core::Service], inspection: &Inspection) -> Services {
    let mut counted = Services::default();
    for service in services {
        let spec = service.spec.clone().unwrap_or_default();
        let addresses: Vec<IpAddr> = spec
            .cluster_ips
            .iter()
            .flatten()
            .filter_map(|text| text.parse().ok())
            .collect();
        counted.services += usize::from(!addresses.is_empty());
        for (address, port) in addresses
            .iter()
            .flat_map(|address| spec.ports.iter().flatten().map(move |port| (*address, port)))
        {
            counted.ports += 1;
            if knows(inspection, address, port) {
                counted.programmed += 1;
            } else {
                let meta = &service.metadata;
                let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
                counted.missing.push(format!(
                    "{}/{}:{}",
                    namespace.unwrap_or_default(),
                    name.unwrap_or_default(),
                    port.port
                ));
            }
        }
    }
    counted
}

fn knows(inspection: &Inspection, address: IpAddr, port: &core::ServicePort) -> bool {
    let (Ok(number), Some(protocol)) = (
        u16::try_from(port.port),
        Protocol::from_name(port.protocol.as_deref()),
    ) else {
        return false;
    };
    let source = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let way = inspection.trace(source, SocketAddr::new(address, number), protocol);
    !matches!(way.end, End::Untouched)
}

fn of_pod(pod: &core::Pod, cgroups: Option<&Cgroups>, root: &str) -> Pod {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let groups = knode_kubelet::spec::resources::cgroup_candidates(root, uid);
    let usage = groups
        .iter()
        .flat_map(|group| crate::node::cgroup_places(group))
        .find_map(|group| cgroups?.usage(&group).ok());
    Pod {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        phase: if pod.metadata.deletion_timestamp.is_some() {
            "Terminating".to_owned()
        } else {
            status.phase.unwrap_or_default()
        },
        ready: containers.iter().filter(|container| container.ready).count(),
        containers: pod.spec.as_ref().map_or(0, |spec| spec.containers.len()),
        restarts: containers.iter().map(|container| container.restart_count).sum(),
        ip: status.pod_ip.unwrap_or_default(),
        memory: usage.map(|usage| usage.memory.working_set),
    }
}

fn warnings(events: &[core::Event]) -> Vec<Warning> {
    let mut all: Vec<Warning> = events
        .iter()
        .map(|event| {
            let object = &event.involved_object;
            let series = event.series.as_ref();
            let last = series
                .and_then(|s| s.last_observed_time.clone())
                .or(event.event_time.clone());
            Warning {
                last: event.last_timestamp.as_ref().map(|t| t.0).or(last.map(|t| t.0)),
                object: format!(
                    "{}/{}",
                    object.kind.as_deref().unwrap_or_default().to_lowercase(),
                    object.name.as_deref().unwrap_or_default()
                ),
                reason: event.reason.clone().unwrap_or_default(),
                message: event.message.clone().unwrap_or_default(),
                count: series.and_then(|s| s.count).or(event.count).unwrap_or(1),
            }
        })
        .collect();
    all.sort_by_key(|warning| std::cmp::Reverse(warning.last));
    all.truncate(WARNINGS);
    all
}
