//! Services. Addresses and node ports are allocated elsewhere; this keeps what was allocated.
mod addresses;
mod allocated;

use knode_api::field::FieldError;
use knode_api::names;
use serde_json::{Value, json};

use crate::rows::meta::stem;
use crate::strategy::Strategy;
use crate::validation;
use crate::value::{child, elements, keep, list, number, set_default, text};

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
        addresses::one_and_all(child(service, "spec"), &Value::Null);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        let (spec, old) = (child(new, "spec"), &old["spec"]);
        allocated::keep(spec, old);
        addresses::one_and_all(spec, old);
        drop_type_dependent(spec, old);
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

/// What a change of type makes meaningless goes, if the update left it as it was.
fn drop_type_dependent(new: &mut Value, old: &Value) {
    let (kind, before) = (text(new, "/type").to_string(), text(old, "/type").to_string());
    let remove = |spec: &mut Value, field: &str| {
        if spec.get(field) == old.get(field)
            && let Some(map) = spec.as_object_mut()
        {
            map.remove(field);
        }
    };
    if allocated::has_health_port(old) && !allocated::has_health_port(new) {
        remove(new, "healthCheckNodePort");
    }
    if kind == before {
        return;
    }
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
