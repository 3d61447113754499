//! Variables that name services (upstream: `pkg/kubelet/envvars`).

use std::net::IpAddr;

use super::Environment;

/// A service with a cluster address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLink {
    /// Its name.
    pub name: String,
    /// Its address.
    pub cluster_ip: String,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Name, possibly empty.
    pub name: String,
    /// Number.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// Variables for these services, later ones win.
pub fn service_variables(services: &[ServiceLink]) -> Environment {
    let mut all = Environment::default();
    for service in services {
        one(service, &mut all);
    }
    all
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

fn one(service: &ServiceLink, all: &mut Environment) {
    let Some(first) = service.ports.first() else {
        return;
    };
    let (prefix, ip) = (upper(&service.name), &service.cluster_ip);
    all.set(format!("{prefix}_SERVICE_HOST"), ip);
    all.set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
        all.set(
            format!("{prefix}_SERVICE_PORT_{}", upper(&port.name)),
            port.port.to_string(),
        );
    }
    let host = match ip.parse() {
        Ok(IpAddr::V6(_)) => format!("[{ip}]"),
        _ => ip.clone(),
    };
    for (index, port) in service.ports.iter().enumerate() {
        let (number, protocol) = (port.port, port.protocol.to_lowercase());
        let url = format!("{protocol}://{host}:{number}");
        if index == 0 {
            all.set(format!("{prefix}_PORT"), &url);
        }
        let each = format!("{prefix}_PORT_{number}_{}", port.protocol.to_uppercase());
        all.set(&each, &url);
        all.set(format!("{each}_PROTO"), &protocol);
        all.set(format!("{each}_PORT"), number.to_string());
        all.set(format!("{each}_ADDR"), ip);
    }
}
