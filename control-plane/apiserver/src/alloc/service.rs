//! What a service needs.

use std::net::IpAddr;

use knode_api::field::FieldError;
use serde_json::{Value, json};

use super::Held;
use super::pool::{Pools, Taken};

/// What a service holds: its addresses, and the ports on nodes if it is of a kind that has them.
pub(crate) fn held(service: &Value) -> Held {
    let spec = &service["spec"];
    if service_type(service) == "ExternalName" {
        return Held::default();
    }
    let addresses = addresses(spec)
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    let mut ports: Vec<u16> = ports(spec).filter_map(node_port).collect();
    ports.extend(
        spec["healthCheckNodePort"]
            .as_u64()
            .and_then(|p| u16::try_from(p).ok())
            .filter(|p| *p > 0),
    );
    ports.sort_unstable();
    ports.dedup();
    Held { addresses, ports }
}

fn service_type(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

fn addresses(spec: &Value) -> Vec<&str> {
    let list: Vec<&str> = spec["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match spec["clusterIP"].as_str() {
        Some(single) if list.is_empty() && !single.is_empty() => vec![single],
        _ => list,
    }
}

fn ports(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["ports"].as_array().into_iter().flatten()
}

fn node_port(port: &Value) -> Option<u16> {
    port["nodePort"]
        .as_u64()
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p > 0)
}

/// What an update leaves out stays as it was, as long as the new type has it (upstream's
/// `patchAllocatedValues`).
pub(crate) fn keep_allocated(new: &mut Value, old: &Value) {
    let has_address = |service: &Value| service_type(service) != "ExternalName";
    if has_address(new) && has_address(old) && is_blank(&new["spec"]["clusterIP"]) {
        for field in ["clusterIP", "clusterIPs"] {
            if is_blank(&new["spec"][field]) && !is_blank(&old["spec"][field]) {
                new["spec"][field] = old["spec"][field].clone();
            }
        }
    }
    let has_ports = |service: &Value| matches!(service_type(service), "NodePort" | "LoadBalancer");
    if has_ports(new) && has_ports(old) {
        keep_node_ports(new, old);
    }
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty)
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let same = |a: &Value, b: &Value| {
        a["port"] == b["port"]
            && a["protocol"].as_str().unwrap_or("TCP") == b["protocol"].as_str().unwrap_or("TCP")
    };
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let before = ports(&old["spec"])
            .find(|before| same(before, port))
            .and_then(node_port);
        if let (None, Some(before)) = (node_port(port), before) {
            port["nodePort"] = before.into();
        }
    }
    let health = &old["spec"]["healthCheckNodePort"];
    if new["spec"]["healthCheckNodePort"].is_null() && !health.is_null() && needs_health_port(new) {
        new["spec"]["healthCheckNodePort"] = health.clone();
    }
}

fn needs_health_port(service: &Value) -> bool {
    service_type(service) == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local"
}

/// Takes what the service names or needs and doesn't have already, and writes it into the service.
pub(crate) fn fill(
    pools: &mut Pools,
    service: &mut Value,
    before: &Held,
    taken: &mut Held,
) -> Result<(), Vec<FieldError>> {
    if service_type(service) == "ExternalName" {
        return Ok(());
    }
    let mut errors = Vec::new();
    errors.extend(fill_address(pools, service, before, taken).err());
    if matches!(service_type(service), "NodePort" | "LoadBalancer") {
        errors.extend(fill_ports(pools, service, before, taken));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn fill_address(
    pools: &mut Pools,
    service: &mut Value,
    before: &Held,
    taken: &mut Held,
) -> Result<(), FieldError> {
    let wanted: Vec<String> = addresses(&service["spec"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    let failed = |address: &str, why: &str| {
        let text = format!("failed to allocate IP {address}: {why}");
        FieldError::invalid("spec.clusterIPs", wanted.clone(), text)
    };
    if wanted.first().is_some_and(|first| first == "None") {
        service["spec"]["clusterIP"] = "None".into();
        service["spec"]["clusterIPs"] = json!(["None"]);
        return settle_family(pools, service);
    }
    if wanted.is_empty() {
        let full = "failed to allocate a serviceIP: range is full";
        let address = pools
            .take_any_address()
            .map_err(|_| FieldError::invalid("spec.clusterIPs", wanted.clone(), full))?;
        taken.addresses.push(address);
        service["spec"]["clusterIP"] = address.to_string().into();
        service["spec"]["clusterIPs"] = json!([address.to_string()]);
    }
    for text in &wanted {
        let Ok(address) = text.parse::<IpAddr>() else {
            continue;
        };
        if before.addresses.contains(&address) {
            continue;
        }
        match pools.take_address(address) {
            Ok(()) => taken.addresses.push(address),
            Err(Taken::OutOfRange) => {
                return Err(failed(
                    text,
                    "the provided network does not match the current range",
                ));
            }
            Err(Taken::Allocated) => return Err(failed(text, "provided IP is already allocated")),
            Err(Taken::Full) => return Err(failed(text, "range is full")),
        }
    }
    if let Some(first) = wanted.first() {
        service["spec"]["clusterIP"] = first.as_str().into();
        service["spec"]["clusterIPs"] = json!(wanted);
    }
    settle_family(pools, service)
}

/// One family: that of the range.
fn settle_family(pools: &Pools, service: &mut Value) -> Result<(), FieldError> {
    let family = if pools.is_ipv6() { "IPv6" } else { "IPv4" };
    let spec = &mut service["spec"];
    let headless_without_selector = spec["clusterIP"] == "None" && is_blank(&spec["selector"]);
    if is_blank(&spec["ipFamilyPolicy"]) {
        let policy = if headless_without_selector {
            "RequireDualStack"
        } else {
            "SingleStack"
        };
        spec["ipFamilyPolicy"] = policy.into();
    }
    if is_blank(&spec["ipFamilies"]) {
        spec["ipFamilies"] = match headless_without_selector && spec["ipFamilyPolicy"] == "RequireDualStack" {
            true => json!(["IPv4", "IPv6"]),
            false => json!([family]),
        };
    }
    let other = spec["ipFamilies"][0]
        .as_str()
        .filter(|given| *given != family)
        .map(str::to_owned);
    match other {
        Some(given) if !headless_without_selector => Err(FieldError::invalid(
            "spec.ipFamilies[0]",
            given,
            "not configured on this cluster",
        )),
        _ => Ok(()),
    }
}

fn fill_ports(pools: &mut Pools, service: &mut Value, before: &Held, taken: &mut Held) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let count = ports(&service["spec"]).count();
    for index in 0..count {
        let path = format!("spec.ports[{index}].nodePort");
        let given = node_port(&service["spec"]["ports"][index]);
        match given {
            // Two protocols of one service may share a port.
            Some(port) if before.ports.contains(&port) || taken.ports.contains(&port) => {}
            Some(port) => errors.extend(take_port(pools, port, &path, taken)),
            None => match shared_port(&service["spec"], index).map_or_else(|| pools.take_any_port(), Ok) {
                Ok(port) => {
                    taken.ports.push(port);
                    service["spec"]["ports"][index]["nodePort"] = port.into();
                }
                Err(_) => errors.push(FieldError::invalid(
                    path,
                    0,
                    "failed to allocate a nodePort: range is full",
                )),
            },
        }
    }
    errors
}

fn take_port(pools: &mut Pools, port: u16, path: &str, taken: &mut Held) -> Option<FieldError> {
    match pools.take_port(port) {
        Ok(()) => {
            taken.ports.push(port);
            None
        }
        Err(Taken::OutOfRange) => {
            let (first, last) = (pools.range().start(), pools.range().end());
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            Some(FieldError::invalid(path, port, why))
        }
        Err(_) => Some(FieldError::invalid(
            path,
            port,
            "provided port is already allocated",
        )),
    }
}

/// The port on nodes of another protocol with the same port.
fn shared_port(spec: &Value, index: usize) -> Option<u16> {
    let this = &spec["ports"][index];
    ports(spec)
        .enumerate()
        .filter(|(other, port)| {
            *other != index && port["port"] == this["port"] && port["protocol"] != this["protocol"]
        })
        .find_map(|(_, port)| node_port(port))
}
