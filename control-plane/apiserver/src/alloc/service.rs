//! What a service needs.

use std::net::IpAddr;

use knode_api::field::FieldError;
use knode_kinds::ip_families::IpFamily;
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
    errors.extend(fill_addresses(pools, service, before, taken).err());
    if matches!(service_type(service), "NodePort" | "LoadBalancer") {
        errors.extend(fill_ports(pools, service, before, taken));
    }
    if needs_health_port(service) {
        errors.extend(fill_health_port(pools, service, before, taken));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// An address of each of the service's families, which are settled already.
fn fill_addresses(
    pools: &mut Pools,
    service: &mut Value,
    before: &Held,
    taken: &mut Held,
) -> Result<(), FieldError> {
    let wanted: Vec<String> = addresses(&service["spec"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    if wanted.first().is_some_and(|first| first == "None") {
        return Ok(());
    }
    let families: Vec<IpFamily> = families(&service["spec"]).collect();
    let mut all = Vec::new();
    for (index, family) in families.into_iter().enumerate() {
        let address = match wanted.get(index) {
            Some(text) => named_address(pools, text, &wanted, before)?,
            None => Some(any_address(pools, family, &wanted)?),
        };
        taken.addresses.extend(address);
        let text = wanted.get(index).cloned();
        all.extend(text.or_else(|| address.map(|address| address.to_string())));
    }
    if let Some(first) = all.first() {
        service["spec"]["clusterIP"] = first.as_str().into();
        service["spec"]["clusterIPs"] = json!(all);
    }
    Ok(())
}

fn families(spec: &Value) -> impl Iterator<Item = IpFamily> {
    let names = spec["ipFamilies"].as_array().into_iter().flatten();
    names.filter_map(|name| IpFamily::named(name.as_str()?))
}

/// Takes the address that the service asks for, unless it has it already.
fn named_address(
    pools: &mut Pools,
    text: &str,
    wanted: &[String],
    before: &Held,
) -> Result<Option<IpAddr>, FieldError> {
    let Some(address) = text.parse().ok().filter(|a| !before.addresses.contains(a)) else {
        return Ok(None);
    };
    let why = match pools.take_address(address) {
        Ok(()) => return Ok(Some(address)),
        Err(Taken::OutOfRange) => "the provided network does not match the current range",
        Err(Taken::Allocated) => "provided IP is already allocated",
        Err(Taken::Full) => "range is full",
    };
    let why = format!("failed to allocate IP {text}: {why}");
    Err(FieldError::invalid("spec.clusterIPs", wanted.to_vec(), why))
}

fn any_address(pools: &mut Pools, family: IpFamily, wanted: &[String]) -> Result<IpAddr, FieldError> {
    let full = "failed to allocate a serviceIP: range is full";
    let taken = pools.take_any_address(family);
    taken.map_err(|_| FieldError::invalid("spec.clusterIPs", wanted.to_vec(), full))
}

/// The port at which nodes tell a load balancer whether they have endpoints.
fn fill_health_port(
    pools: &mut Pools,
    service: &mut Value,
    before: &Held,
    taken: &mut Held,
) -> Option<FieldError> {
    const PATH: &str = "spec.healthCheckNodePort";
    let field = &mut service["spec"]["healthCheckNodePort"];
    let given = field.as_u64().and_then(|port| u16::try_from(port).ok());
    match given.filter(|port| *port > 0) {
        Some(port) if before.ports.contains(&port) => None,
        Some(port) => take_port(pools, port, PATH, taken),
        None => match pools.take_any_port() {
            Ok(port) => {
                taken.ports.push(port);
                *field = port.into();
                None
            }
            Err(_) => Some(FieldError::invalid(
                PATH,
                0,
                "failed to allocate a HealthCheck NodePort 0: range is full",
            )),
        },
    }
}

fn fill_ports(pools: &mut Pools, service: &mut Value, before: &Held, taken: &mut Held) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let count = ports(&service["spec"]).count();
    let none_unless_asked = service["spec"]["allocateLoadBalancerNodePorts"] == false;
    for index in 0..count {
        let path = format!("spec.ports[{index}].nodePort");
        let given = node_port(&service["spec"]["ports"][index]);
        match given {
            // Two protocols of one service may share a port.
            Some(port) if before.ports.contains(&port) || taken.ports.contains(&port) => {}
            Some(port) => errors.extend(take_port(pools, port, &path, taken)),
            None if none_unless_asked => {}
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
