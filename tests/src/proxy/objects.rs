//! Services and slices in a few words.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::{HTTP_PORT, Pod, UDP_PORT};

/// A Service without a selector, so that its slices are the test's.
pub fn service(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec["ports"].is_null() && spec["type"] != "ExternalName" {
        spec["ports"] = json!([
            {"name": "http", "port": 80, "targetPort": HTTP_PORT},
            {"name": "dns", "port": 53, "targetPort": UDP_PORT, "protocol": "UDP"}
        ]);
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// A slice of a Service with these pods, of which the first is on the node.
pub fn slice(owner: &str, pods: &[&Pod], six: bool) -> Value {
    let endpoint = |(index, pod): (usize, &&Pod)| {
        let address: IpAddr = if six { pod.six.into() } else { pod.ip.into() };
        json!({"addresses": [address], "nodeName": if index == 0 { "node1" } else { "node2" }})
    };
    let listed: Vec<Value> = pods.iter().enumerate().map(endpoint).collect();
    let family = if six { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": format!("{owner}-{}", family.to_lowercase()), "labels": {"kubernetes.io/service-name": owner}},
        "endpoints": listed,
        "ports": [{"name": "http", "port": HTTP_PORT}, {"name": "dns", "port": UDP_PORT, "protocol": "UDP"}]
    })
}

/// An address with a port.
///
/// # Panics
/// When it is none.
#[track_caller]
pub fn at(ip: impl ToString, port: u16) -> SocketAddr {
    SocketAddr::new(address(ip), port)
}

/// An address.
///
/// # Panics
/// When it is none.
#[track_caller]
pub fn address(ip: impl ToString) -> IpAddr {
    let text = ip.to_string();
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}
