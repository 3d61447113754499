//! Services.
use std::collections::BTreeSet;

use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::{Value, json};

use super::{Errors, one_of, pods, probes};
use crate::ip_families::IpFamily;
use crate::value::{list, map, number, text};

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const FAMILY_POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
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
    errors.extend(cluster_ips(spec));
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
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let given = spec.get(field).is_some_and(|v| !v.is_null() && v != &json!([]));
                if given {
                    let words = "may not be set for ExternalName services";
                    errors.push(FieldError::forbidden(path.child(field), words));
                }
            }
            let name = text(spec, "/externalName").trim_end_matches('.');
            if name.is_empty() {
                errors.push(FieldError::required(path.child("externalName"), ""));
            } else {
                let messages = names::dns1123_subdomain(name);
                let at = path.child("externalName");
                errors.extend(messages.into_iter().map(|m| FieldError::invalid(at, name, m)));
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
            let value = json!({"port": n, "protocol": protocol, "targetPort": 0});
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

/// The addresses and families of a service in themselves (upstream: `ValidateServiceClusterIPsRelatedFields`). That
/// the address and the list agree is the first of it.
pub(crate) fn cluster_ips(spec: &Value) -> Errors {
    let mut errors = Errors::new();
    if text(spec, "/type") == "ExternalName" {
        return errors;
    }
    let path = Path::new("spec");
    let at = path.child("clusterIPs");
    let all = list(spec, "/clusterIPs");
    let whole = || Value::Array(all.to_vec());
    match (text(spec, "/clusterIP"), all.first().and_then(Value::as_str)) {
        ("", None) => {}
        ("", Some(_)) => {
            let words = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(at, whole(), words));
        }
        (_, None) => errors.push(FieldError::required(at, "")),
        (one, Some(first)) if one != first => {
            errors.push(FieldError::invalid(
                at,
                whole(),
                "first value must match `clusterIP`",
            ));
        }
        _ => {}
    }
    families(&mut errors, spec, &path);
    let before = errors.len();
    each_address(&mut errors, all, &at);
    let wrong = errors.len() > before;
    if all.len() > 2 {
        errors.push(FieldError::invalid(at, whole(), "may only hold up to 2 values"));
    }
    if !wrong {
        address_families(&mut errors, spec, all, &at);
    }
    errors
}

fn families(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let at = path.child("ipFamilies");
    let mut seen = BTreeSet::new();
    for (i, family) in list(spec, "/ipFamilies").iter().enumerate() {
        let family = family.as_str().unwrap_or_default();
        if !FAMILIES.contains(&family) {
            errors.push(FieldError::not_supported(at.index(i), family, &FAMILIES));
        }
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(at.index(i), family));
        }
    }
    one_of(errors, spec, path, "ipFamilyPolicy", &FAMILY_POLICIES, false);
}

fn each_address(errors: &mut Errors, all: &[Value], at: &Path<'_>) {
    for (i, address) in all.iter().map(|a| a.as_str().unwrap_or_default()).enumerate() {
        if i == 0 && address == "None" {
            if all.len() > 1 {
                let words = "'None' must be the first and only value";
                errors.push(FieldError::invalid(at, Value::Array(all.to_vec()), words));
            }
            continue;
        }
        pods::ip(errors, address, &at.index(i));
    }
}

/// One address of each family, in the families' order.
fn address_families(errors: &mut Errors, spec: &Value, all: &[Value], at: &Path<'_>) {
    let texts: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
    let of = |text: &str| text.parse().ok().map(IpFamily::of);
    let families: BTreeSet<_> = texts.iter().filter_map(|text| of(text)).collect();
    if texts.len() > 1 && families.len() < 2 {
        let words = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(at, Value::Array(all.to_vec()), words));
    }
    if texts == ["None"] {
        return;
    }
    for (i, (address, family)) in texts.iter().zip(list(spec, "/ipFamilies")).enumerate() {
        let wanted = family.as_str().and_then(IpFamily::named);
        if let (Some(wanted), Some(is)) = (wanted, of(address))
            && wanted != is
        {
            let name = wanted.name();
            let words = format!("expected an {name} value as indicated by `ipFamilies[{i}]`");
            errors.push(FieldError::invalid(at.index(i), *address, words));
        }
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

/// The first address and family stay once given, the second ones may come and go, unless the type is or was
/// `ExternalName`.
pub(crate) fn update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let external = |s: &Value| text(s, "/spec/type") == "ExternalName";
    let headless = |s: &Value| list(s, "/spec/clusterIPs").first().is_some_and(|a| a == "None");
    if !external(new) && !external(old) {
        if !(headless(new) && headless(old)) {
            changed_list(&mut errors, new, old, "clusterIPs", "clusterIP");
        }
        if !headless(new) && !headless(old) {
            changed_list(&mut errors, new, old, "ipFamilies", "ipFamily");
        }
    }
    errors.extend(create(new));
    errors
}

fn changed_list(errors: &mut Errors, new: &Value, old: &Value, field: &str, one: &str) {
    let spec = Path::new("spec");
    let at = spec.child(field);
    let pointer = format!("/spec/{field}");
    let (now, before) = (list(new, &pointer), list(old, &pointer));
    let whole = || Value::Array(now.to_vec());
    if now.is_empty() && !before.is_empty() {
        let words = format!("primary {one} can not be unset");
        errors.push(FieldError::invalid(at.index(0), whole(), words));
        return;
    }
    for (i, (now, before)) in now.iter().zip(before).enumerate() {
        if now != before {
            errors.push(FieldError::invalid(
                at.index(i),
                whole(),
                "may not change once set",
            ));
        }
    }
    if now.len() < before.len() && text(new, "/spec/ipFamilyPolicy") != "SingleStack" {
        let words = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        let policy = new.pointer("/spec/ipFamilyPolicy").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(spec.child("ipFamilyPolicy"), policy, words));
    }
}
