//! Services and slices in a few words.

use knode_proxy::model::{Model, Protocol, Service, ServicePort, Slice, SliceEndpoint, SlicePort, State};
use knode_proxy::table::{Locality, TableConfig};

/// A network.
pub fn cidr(text: &str) -> ipnet::IpNet {
    text.parse().expect("cidr")
}

/// A service network and a pod network of each family.
pub fn config() -> TableConfig {
    TableConfig {
        locality: Locality::Cidrs(["10.244.0.0/16", "fd10:244::/32"].map(cidr).into()),
        service_cidrs: ["10.96.0.0/16", "fd10:96::/112"].map(cidr).into(),
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

/// An endpoint that is ready; one whose address begins with 10.244.0. or fd10:244:: is on this node.
pub fn ready(ip: &str) -> SliceEndpoint {
    let local = ip.starts_with("10.244.0.") || ip.starts_with("fd10:244::");
    SliceEndpoint::new(ip.parse().expect("address"), State::Ready, local)
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
