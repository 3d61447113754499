//! What an update leaves out stays as it was allocated (upstream: `patchAllocatedValues`).
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::value::{self, elements, list, number, text};

/// Keeps addresses, node ports and the health check's port that `spec` doesn't name, as long as its type has them.
pub(super) fn keep(spec: &mut Value, old: &Value) {
    if both(spec, old, has_address) {
        keep_addresses(spec, old);
    }
    if both(spec, old, has_node_ports) {
        keep_node_ports(spec, old);
    }
    if both(spec, old, has_health_port) && number(spec, "/healthCheckNodePort") == 0 {
        value::keep(spec, old, "healthCheckNodePort");
    }
}

fn both(spec: &Value, old: &Value, has: fn(&Value) -> bool) -> bool {
    has(spec) && has(old)
}

fn has_address(spec: &Value) -> bool {
    matches!(text(spec, "/type"), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn has_node_ports(spec: &Value) -> bool {
    matches!(text(spec, "/type"), "NodePort" | "LoadBalancer")
}

/// Whether nodes tell a load balancer if they have endpoints of the service.
pub(super) fn has_health_port(spec: &Value) -> bool {
    text(spec, "/type") == "LoadBalancer" && text(spec, "/externalTrafficPolicy") == "Local"
}

fn keep_addresses(spec: &mut Value, old: &Value) {
    if text(spec, "/clusterIP").is_empty() {
        value::keep(spec, old, "clusterIP");
    }
    let given = !list(spec, "/clusterIPs").is_empty();
    if !given && text(spec, "/clusterIP") == text(old, "/clusterIP") {
        value::keep(spec, old, "clusterIPs");
    }
}

/// A port of the same name keeps its node port, unless another port has taken that.
fn keep_node_ports(spec: &mut Value, old: &Value) {
    let ports = |spec: &Value| -> BTreeSet<i64> {
        let ports = list(spec, "/ports").iter();
        ports
            .map(|port| number(port, "/nodePort"))
            .filter(|n| *n != 0)
            .collect()
    };
    let mut used: BTreeSet<i64> = ports(old).intersection(&ports(spec)).copied().collect();
    let named: BTreeMap<&str, i64> = list(old, "/ports")
        .iter()
        .map(|port| (text(port, "/name"), number(port, "/nodePort")))
        .collect();
    for port in elements(spec, "ports").filter(|port| number(port, "/nodePort") == 0) {
        let before = named.get(text(port, "/name")).copied().unwrap_or_default();
        if before != 0 && used.insert(before) {
            port["nodePort"] = before.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(mut new: Value, old: &Value) -> Value {
        keep(&mut new, old);
        new
    }

    #[test]
    fn what_is_left_out_stays() {
        let old = json!({"type": "NodePort", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"],
            "ports": [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]});
        let new =
            json!({"type": "NodePort", "ports": [{"name": "a", "port": 8080}, {"name": "b", "port": 81}]});
        let new = after(new, &old);
        assert_eq!(new["clusterIPs"], old["clusterIPs"]);
        assert_eq!(
            (&new["ports"][0]["nodePort"], &new["ports"][1]["nodePort"]),
            (&json!(30001), &json!(30002))
        );
    }

    #[test]
    fn a_node_port_that_moved_is_not_given_twice() {
        let old = json!({"type": "NodePort", "ports": [{"name": "a", "nodePort": 30001}]});
        let new = json!({"type": "NodePort", "ports": [{"name": "a"}, {"name": "b", "nodePort": 30001}]});
        assert_eq!(after(new.clone(), &old), new);
    }

    #[test]
    fn a_type_without_them_keeps_none() {
        let old =
            json!({"type": "NodePort", "clusterIP": "10.0.0.9", "ports": [{"name": "a", "nodePort": 30001}]});
        let new = json!({"type": "ExternalName", "ports": [{"name": "a"}]});
        assert_eq!(after(new.clone(), &old), new);
    }
}
