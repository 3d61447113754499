//! Services, their endpoints and network policies.
use jiff::Timestamp;
use knode_api::selector::LabelSelector;
use serde_json::Value;

use super::{NONE, labels, or_none, shortened};
use crate::value::{list, map, number, text};

pub(crate) fn service_type(service: &Value, _now: Timestamp) -> Value {
    text(service, "/spec/type").into()
}

pub(crate) fn cluster_ip(service: &Value, _now: Timestamp) -> Value {
    or_none(text(service, "/spec/clusterIPs/0")).into()
}

fn texts<'a>(object: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(object, pointer).iter().filter_map(Value::as_str).collect()
}

pub(crate) fn external_ip(service: &Value, _now: Timestamp) -> Value {
    let mut addresses = texts(service, "/spec/externalIPs");
    match text(service, "/spec/type") {
        "ExternalName" => return text(service, "/spec/externalName").into(),
        "LoadBalancer" => {
            let ingress = list(service, "/status/loadBalancer/ingress").iter();
            let balancers = ingress.map(|i| {
                if text(i, "/ip").is_empty() {
                    text(i, "/hostname")
                } else {
                    text(i, "/ip")
                }
            });
            let mut all: Vec<&str> = balancers.filter(|a| !a.is_empty()).collect();
            all.append(&mut addresses);
            let all = all.join(",");
            return if all.is_empty() {
                "<pending>".into()
            } else {
                all.into()
            };
        }
        _ => {}
    }
    or_none(&addresses.join(",")).into()
}

pub(crate) fn ports(service: &Value, _now: Timestamp) -> Value {
    let ports: Vec<String> = list(service, "/spec/ports")
        .iter()
        .map(|p| match number(p, "/nodePort") {
            0 => format!("{}/{}", number(p, "/port"), text(p, "/protocol")),
            node => format!("{}:{node}/{}", number(p, "/port"), text(p, "/protocol")),
        })
        .collect();
    or_none(&ports.join(",")).into()
}

pub(crate) fn selector(service: &Value, _now: Timestamp) -> Value {
    labels(map(service, "/spec/selector")).into()
}

pub(crate) fn address_type(slice: &Value, _now: Timestamp) -> Value {
    text(slice, "/addressType").into()
}

pub(crate) fn slice_ports(slice: &Value, _now: Timestamp) -> Value {
    let ports: Vec<String> = list(slice, "/ports")
        .iter()
        .map(|p| {
            p.get("port")
                .and_then(Value::as_i64)
                .map_or("*".into(), |n| n.to_string())
        })
        .collect();
    shortened(&ports, "<unset>").into()
}

pub(crate) fn slice_endpoints(slice: &Value, _now: Timestamp) -> Value {
    let addresses: Vec<String> = list(slice, "/endpoints")
        .iter()
        .flat_map(|e| texts(e, "/addresses"))
        .map(String::from)
        .collect();
    shortened(&addresses, "<unset>").into()
}

pub(crate) fn endpoints(endpoints: &Value, _now: Timestamp) -> Value {
    let mut out = Vec::new();
    for subset in list(endpoints, "/subsets") {
        let ports = list(subset, "/ports");
        for address in list(subset, "/addresses").iter().map(|a| text(a, "/ip")) {
            if ports.is_empty() {
                out.push(address.to_string());
            }
            out.extend(ports.iter().map(|p| format!("{address}:{}", number(p, "/port"))));
        }
    }
    shortened(&out, NONE).into()
}

pub(crate) fn pod_selector(policy: &Value, _now: Timestamp) -> Value {
    match LabelSelector::from_object(policy.pointer("/spec/podSelector")) {
        Ok(selector) => or_none(&selector.to_string()).into(),
        Err(_) => "<error>".into(),
    }
}
