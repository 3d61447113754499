//! Which pods stand behind a service, and as what; pure.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::is_ready;

const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";

/// A port of a service as one pod offers it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub name: String,
    pub protocol: String,
    pub port: i32,
    pub app_protocol: Option<String>,
}

/// A pod behind a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub ips: Vec<IpAddr>,
    pub ports: Vec<Port>,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub node: Option<String>,
    /// The node's zone.
    pub zone: Option<String>,
    /// Set when the pod has a host name of its own under this headless service.
    pub hostname: Option<String>,
    /// Fit to serve now.
    pub ready: bool,
    /// As `ready`, whether the pod is terminating or not.
    pub serving: bool,
    pub terminating: bool,
    /// When its readiness last changed.
    pub changed: Option<Time>,
}

impl Member {
    /// The pod's address of a family.
    pub fn address(&self, family: &str) -> Option<IpAddr> {
        let mut all = self.ips.iter();
        all.find(|ip| ip.is_ipv6() == (family == IPV6)).copied()
    }
}

/// The address families that a service speaks, the primary first.
pub(super) fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let asked = spec.and_then(|s| s.ip_families.as_deref()).unwrap_or_default();
    let known = |family: &String| if family == IPV6 { IPV6 } else { IPV4 };
    match spec.and_then(|s| s.cluster_ip.as_deref()) {
        _ if !asked.is_empty() => asked.iter().map(known).collect(),
        Some(address) if address.contains(':') => vec![IPV6],
        _ => vec![IPV4],
    }
}

/// Whether the service selects pods at all.
pub(super) fn has_selector(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let external = spec.is_some_and(|s| s.type_.as_deref() == Some("ExternalName"));
    !external
        && spec
            .and_then(|s| s.selector.as_ref())
            .is_some_and(|s| !s.is_empty())
}

/// Whether the service selects the pod.
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = service.spec.as_ref().and_then(|s| s.selector.as_ref()) else {
        return false;
    };
    let labels = pod.metadata.labels.as_ref();
    has_selector(service)
        && selector
            .iter()
            .all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
}

/// Whether two states of a pod make the same endpoint.
pub(super) fn same(a: &Pod, b: &Pod) -> bool {
    let view = |p: &Pod| {
        let (spec, status) = (p.spec.as_ref(), p.status.as_ref());
        (
            p.metadata.labels.clone(),
            p.metadata.deletion_timestamp.is_some(),
            spec.and_then(|s| s.node_name.clone()),
            status.and_then(|s| s.pod_ips.clone()),
            status
                .and_then(|s| s.phase.clone())
                .filter(|p| p == "Failed" || p == "Succeeded"),
            is_ready(p),
        )
    };
    view(a) == view(b)
}

/// The pods behind a service, in a stable order.
pub(super) fn of(service: &Service, pods: &[Arc<Pod>]) -> Vec<Member> {
    let mut members: Vec<_> = pods
        .iter()
        .filter(|p| selects(service, p))
        .filter_map(|p| member(service, p))
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

fn member(service: &Service, pod: &Pod) -> Option<Member> {
    let (service_spec, spec, status) = (service.spec.as_ref()?, pod.spec.as_ref()?, pod.status.as_ref()?);
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return None;
    }
    let ips: Vec<IpAddr> = match &status.pod_ips {
        Some(ips) => ips.iter().filter_map(|i| i.ip.parse().ok()).collect(),
        None => status.pod_ip.iter().filter_map(|i| i.parse().ok()).collect(),
    };
    if ips.is_empty() {
        return None;
    }
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let publish = service_spec.publish_not_ready_addresses == Some(true);
    let serving = publish || is_ready(pod);
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    let own_name =
        spec.subdomain.as_deref() == service.metadata.name.as_deref() && service.metadata.name.is_some();
    Some(Member {
        ips,
        ports: service_spec
            .ports
            .iter()
            .flatten()
            .filter_map(|p| port(p, pod))
            .collect(),
        namespace: pod.metadata.namespace.clone()?,
        name: pod.metadata.name.clone()?,
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        node: spec.node_name.clone(),
        zone: None,
        hostname: spec.hostname.clone().filter(|h| own_name && !h.is_empty()),
        ready: publish || (serving && !terminating),
        serving,
        terminating,
        changed: condition.and_then(|c| c.last_transition_time.clone()),
    })
}

/// The service's port as the pod offers it; none if the pod has no port of that name.
fn port(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(n)) => *n,
        Some(IntOrString::String(name)) => named(pod, name, &protocol)?,
    };
    let app_protocol = port.app_protocol.clone();
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol,
        port: number,
        app_protocol,
    })
}

fn named(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten());
    let matches = |p: &&k8s_openapi::api::core::v1::ContainerPort| {
        p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.into_iter().find(matches).map(|p| p.container_port)
}
