//! Services. Addresses and node ports are allocated elsewhere; this keeps what was allocated.
use knode_api::field::FieldError;
use knode_api::names;
use serde_json::{Value, json};

use crate::rows::meta::stem;
use crate::strategy::Strategy;
use crate::validation;
use crate::value::{child, elements, keep, list, map, number, set_default, text};

pub(crate) struct Services;

impl Strategy for Services {
    fn default(&self, service: &mut Value) {
        let spec = child(service, "spec");
        set_default(spec, "sessionAffinity", "None");
        set_default(spec, "type", "ClusterIP");
        affinity(spec);
        for port in elements(spec, "ports") {
            set_default(port, "protocol", "TCP");
            let unset = matches!(port.get("targetPort"), None | Some(Value::Null))
                || port["targetPort"] == 0
                || port["targetPort"] == "";
            if unset {
                port["targetPort"] = number(port, "/port").into();
            }
        }
        let kind = text(spec, "/type").to_string();
        let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
            || (kind == "ClusterIP" && !list(spec, "/externalIPs").is_empty());
        if external {
            set_default(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
            set_default(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            set_default(spec, "allocateLoadBalancerNodePorts", true);
        }
        child(child(service, "status"), "loadBalancer");
    }

    fn prepare_for_create(&self, service: &mut Value) {
        service["status"] = json!({"loadBalancer": {}});
        sync_addresses(child(service, "spec"), None);
        families(child(service, "spec"));
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        let spec = child(new, "spec");
        drop_type_dependent(spec, &old["spec"]);
        sync_addresses(spec, Some(&old["spec"]));
        keep_node_ports(spec, &old["spec"]);
        if text(spec, "/type") != "ExternalName" && text(&old["spec"], "/type") != "ExternalName" {
            for field in ["ipFamilies", "ipFamilyPolicy"] {
                if spec.get(field).is_none() {
                    keep(spec, &old["spec"], field);
                }
            }
        }
        families(spec);
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns1035_label(stem(name, prefix))
    }

    fn validate(&self, service: &Value) -> Vec<FieldError> {
        validation::services::create(service)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::services::update(new, old)
    }

    fn delete_returns_object(&self) -> bool {
        true
    }
}

fn affinity(spec: &mut Value) {
    match text(spec, "/sessionAffinity") {
        "ClientIP" => {
            let client = child(child(spec, "sessionAffinityConfig"), "clientIP");
            set_default(client, "timeoutSeconds", 10800);
        }
        "None" => {
            if let Some(spec) = spec.as_object_mut() {
                spec.remove("sessionAffinityConfig");
            }
        }
        _ => {}
    }
}

/// `clusterIP` and the first of `clusterIPs` are one; an update that names none keeps the old ones.
fn sync_addresses(spec: &mut Value, old: Option<&Value>) {
    if text(spec, "/type") == "ExternalName" {
        return;
    }
    if let Some(old) = old.filter(|o| text(o, "/type") != "ExternalName") {
        let same = |field: &str| spec.get(field) == old.get(field);
        let (ip_changed, ips_changed) = (!same("clusterIP"), !same("clusterIPs"));
        if text(spec, "/clusterIP").is_empty() && list(spec, "/clusterIPs").is_empty() {
            keep(spec, old, "clusterIP");
            keep(spec, old, "clusterIPs");
        } else if text(spec, "/clusterIP").is_empty() && !ips_changed {
            keep(spec, old, "clusterIP");
        } else if ip_changed && !ips_changed {
            let address = text(spec, "/clusterIP").to_string();
            spec["clusterIPs"] = json!([address]);
        }
    }
    let (first, all) = (text(spec, "/clusterIP").to_string(), list(spec, "/clusterIPs"));
    if first.is_empty() && !all.is_empty() {
        spec["clusterIP"] = all[0].clone();
    } else if !first.is_empty() && all.is_empty() {
        spec["clusterIPs"] = json!([first]);
    }
}

/// One IPv4 family; a headless service without selector speaks both.
fn families(spec: &mut Value) {
    if text(spec, "/type") == "ExternalName" {
        return;
    }
    let headless = text(spec, "/clusterIP") == "None";
    let selects = map(spec, "/selector").is_some_and(|s| !s.is_empty());
    if headless && !selects {
        set_default(spec, "ipFamilyPolicy", "RequireDualStack");
        set_default(spec, "ipFamilies", json!(["IPv4", "IPv6"]));
    } else {
        set_default(spec, "ipFamilyPolicy", "SingleStack");
        set_default(spec, "ipFamilies", json!(["IPv4"]));
    }
}

/// A port that names no node port keeps the one it had.
fn keep_node_ports(spec: &mut Value, old: &Value) {
    if !matches!(text(spec, "/type"), "NodePort" | "LoadBalancer") {
        return;
    }
    let old_ports = list(old, "/ports").to_vec();
    let key = |p: &Value| (text(p, "/protocol").to_string(), number(p, "/port"));
    for port in elements(spec, "ports").filter(|p| number(p, "/nodePort") == 0) {
        let before = old_ports
            .iter()
            .find(|o| key(o) == key(port))
            .map_or(0, |o| number(o, "/nodePort"));
        if before != 0 {
            port["nodePort"] = before.into();
        }
    }
}

/// What a change of type makes meaningless goes, if the update left it as it was.
fn drop_type_dependent(new: &mut Value, old: &Value) {
    let (kind, before) = (text(new, "/type").to_string(), text(old, "/type").to_string());
    if kind == before {
        return;
    }
    let remove = |spec: &mut Value, field: &str| {
        if spec.get(field) == old.get(field)
            && let Some(map) = spec.as_object_mut()
        {
            map.remove(field);
        }
    };
    if kind == "ExternalName" {
        for field in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            remove(new, field);
        }
    }
    if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        if list(new, "/externalIPs").is_empty() {
            remove(new, "externalTrafficPolicy");
        }
        let old_ports = list(old, "/ports").to_vec();
        for port in elements(new, "ports") {
            let unchanged = old_ports
                .iter()
                .any(|o| o.get("nodePort") == port.get("nodePort"));
            if let Some(port) = port.as_object_mut().filter(|_| unchanged) {
                port.remove("nodePort");
            }
        }
    }
    if kind != "LoadBalancer" {
        remove(new, "allocateLoadBalancerNodePorts");
        remove(new, "loadBalancerClass");
    }
}
