//! Services.
use std::collections::BTreeSet;

use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::{Errors, one_of, pods, probes};
use crate::value::{list, map, number, text};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(crate) fn create(service: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let headless = text(spec, "/clusterIP") == "None";
    if list(spec, "/ports").is_empty() && !headless && text(spec, "/type") != "ExternalName" {
        errors.push(FieldError::required(path.child("ports"), ""));
    }
    by_type(&mut errors, spec, &path, headless);
    ports(&mut errors, spec, &path);
    crate::rows::meta::labels(&mut errors, map(spec, "/selector"), &path.child("selector"));
    one_of(
        &mut errors,
        spec,
        &path,
        "sessionAffinity",
        &["ClientIP", "None"],
        true,
    );
    affinity(&mut errors, spec, &path);
    addresses(&mut errors, spec, &path);
    one_of(&mut errors, spec, &path, "type", &TYPES, true);
    one_of(
        &mut errors,
        spec,
        &path,
        "externalTrafficPolicy",
        &["Cluster", "Local"],
        false,
    );
    one_of(
        &mut errors,
        spec,
        &path,
        "internalTrafficPolicy",
        &["Cluster", "Local"],
        false,
    );
    external_ips(&mut errors, spec, &path);
    errors
}

fn by_type(errors: &mut Errors, spec: &Value, path: &Path<'_>, headless: bool) {
    match text(spec, "/type") {
        "ExternalName" => {
            let name = text(spec, "/externalName").trim_end_matches('.');
            if name.is_empty() {
                errors.push(FieldError::required(path.child("externalName"), ""));
            } else {
                let messages = names::dns1123_subdomain(name);
                let at = path.child("externalName");
                errors.extend(messages.into_iter().map(|m| FieldError::invalid(at, name, m)));
            }
            if !list(spec, "/clusterIPs").is_empty() {
                let words = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden(path.child("clusterIPs"), words));
            }
        }
        "NodePort" | "LoadBalancer" if headless => {
            let kind = text(spec, "/type");
            let words = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(
                path.child("clusterIPs").index(0),
                "None",
                words,
            ));
        }
        _ => {}
    }
}

fn ports(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let at = path.child("ports");
    let all = list(spec, "/ports");
    let mut seen = BTreeSet::new();
    for (i, port) in all.iter().enumerate() {
        let at = at.index(i);
        let name = text(port, "/name");
        if name.is_empty() && all.len() > 1 {
            errors.push(FieldError::required(at.child("name"), ""));
        } else if !name.is_empty() {
            let messages = names::dns1123_label(name);
            errors.extend(
                messages
                    .into_iter()
                    .map(|m| FieldError::invalid(at.child("name"), name, m)),
            );
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(at.child("name"), name));
            }
        }
        let n = number(port, "/port");
        errors.extend(
            names::port_number(n)
                .into_iter()
                .map(|m| FieldError::invalid(at.child("port"), n, m)),
        );
        one_of(errors, port, &at, "protocol", &["SCTP", "TCP", "UDP"], true);
        let target = port.get("targetPort").unwrap_or(&Value::Null);
        if text(spec, "/type") != "ExternalName" {
            probes::port_number_or_name(errors, target, &at.child("targetPort"));
        }
        if number(port, "/nodePort") != 0 && !matches!(text(spec, "/type"), "NodePort" | "LoadBalancer") {
            let words = format!("may not be used when `type` is '{}'", text(spec, "/type"));
            errors.push(FieldError::forbidden(at.child("nodePort"), words));
        }
    }
    same_port_twice(errors, all, &at);
}

fn same_port_twice(errors: &mut Errors, all: &[Value], at: &Path<'_>) {
    let (mut seen, mut nodes) = (BTreeSet::new(), BTreeSet::new());
    for (i, port) in all.iter().enumerate() {
        let protocol = text(port, "/protocol");
        let n = number(port, "/port");
        if !seen.insert((protocol, n)) {
            let value = serde_json::json!({"port": n, "protocol": protocol, "targetPort": 0});
            errors.push(FieldError::duplicate(at.index(i), value));
        }
        let node = number(port, "/nodePort");
        if node != 0 && !nodes.insert((protocol, node)) {
            errors.push(FieldError::duplicate(at.index(i).child("nodePort"), node));
        }
    }
}

fn affinity(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let seconds = spec
        .pointer("/sessionAffinityConfig/clientIP/timeoutSeconds")
        .and_then(Value::as_i64);
    if let Some(n) = seconds.filter(|n| !(1..=86400).contains(n)) {
        let config = path.child("sessionAffinityConfig");
        let client = config.child("clientIP");
        let words = "must be greater than 0 and less than 86400";
        errors.push(FieldError::invalid(client.child("timeoutSeconds"), n, words));
    }
}

fn addresses(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let at = path.child("clusterIPs");
    let all = list(spec, "/clusterIPs");
    for (i, address) in all.iter().map(|a| a.as_str().unwrap_or_default()).enumerate() {
        if address == "None" && i == 0 {
            if all.len() > 1 {
                let words = "'None' must be the first and only value";
                errors.push(FieldError::invalid(at, Value::Array(all.to_vec()), words));
            }
            continue;
        }
        pods::ip(errors, address, &at.index(i));
    }
    let first = all.first().and_then(Value::as_str).unwrap_or_default();
    if text(spec, "/clusterIP") != first {
        let words = "first value must match `clusterIP`";
        errors.push(FieldError::invalid(at, Value::Array(all.to_vec()), words));
    }
}

fn external_ips(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let at = path.child("externalIPs");
    for (i, address) in list(spec, "/externalIPs").iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        pods::ip(errors, address, &at.index(i));
        let special = address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|a| a.is_loopback() || a.is_unspecified());
        if special {
            errors.push(FieldError::invalid(
                at.index(i),
                address,
                "may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ));
        }
    }
}

/// An address once given stays, unless the type becomes or was `ExternalName`.
pub(crate) fn update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let at = path.child("clusterIPs");
    let external = |s: &Value| text(s, "/spec/type") == "ExternalName";
    if !external(new) && !external(old) {
        let (now, before) = (list(new, "/spec/clusterIPs"), list(old, "/spec/clusterIPs"));
        if !before.is_empty() && now.first() != before.first() {
            let words = "may not change once set";
            errors.push(FieldError::invalid(
                at.index(0),
                Value::Array(now.to_vec()),
                words,
            ));
        }
    }
    errors.extend(create(new));
    errors
}
