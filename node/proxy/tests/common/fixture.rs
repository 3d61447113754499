//! Services and slices in a few words.

use knode_proxy::model::{Model, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort, State};
use knode_proxy::table::TableConfig;

/// A service network and a pod network.
pub fn config() -> TableConfig {
    TableConfig {
        cluster_cidr: Some("10.244.0.0/16".parse().expect("cidr")),
        service_cidr: Some("10.96.0.0/16".parse().expect("cidr")),
        ..TableConfig::default()
    }
}

/// A Service with one cluster address and one port.
pub fn service(ip: &str, protocol: Protocol, port: u16, node_port: u16) -> Service {
    Service {
        cluster_ips: [ip.parse().expect("address")].into(),
        ports: [ServicePort {
            name: "p".into(),
            protocol,
            port,
            node_port,
        }]
        .into(),
        ..Service::default()
    }
}

/// An endpoint that is ready; one whose address begins with 10.244.0. is on this node.
pub fn ready(ip: &str) -> SliceEndpoint {
    SliceEndpoint {
        ip: ip.parse().expect("address"),
        state: State::Ready,
        local: ip.starts_with("10.244.0."),
    }
}

/// A slice of ready endpoints.
pub fn slice(protocol: Protocol, port: u16, endpoints: &[&str]) -> Slice {
    Slice {
        ports: [SlicePort {
            name: "p".into(),
            protocol,
            port,
        }]
        .into(),
        endpoints: endpoints.iter().map(|ip| ready(ip)).collect(),
    }
}

/// Adds a Service with one slice.
pub fn add(model: &mut Model, name: &str, service: Service, slice: Slice) {
    model.set_service(name, Some(service));
    model.set_slice(&format!("{name}-1"), Some((name, slice)));
}
