//! Which services a pod's environment names. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

use crate::env::{ServiceLink, ServicePort};

/// Links for `own` (the services of the pod's namespace) and the API server's, if none of the same name is
/// among them.
pub(super) fn links(own: &[Arc<Service>], master: Option<&Service>) -> Vec<ServiceLink> {
    let mut all: Vec<ServiceLink> = own.iter().filter_map(|service| link(service)).collect();
    if let Some(master) = master.and_then(link)
        && !all.iter().any(|link| link.name == master.name)
    {
        all.push(master);
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

fn link(service: &Service) -> Option<ServiceLink> {
    let spec = service.spec.as_ref()?;
    let cluster_ip = spec
        .cluster_ip
        .clone()
        .filter(|ip| !ip.is_empty() && ip != "None")?;
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| ServicePort {
        name: port.name.clone().unwrap_or_default(),
        port: port.port,
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
    };
    Some(ServiceLink {
        name: service.metadata.name.clone()?,
        cluster_ip,
        ports: spec.ports.iter().flatten().map(port).collect(),
    })
}
