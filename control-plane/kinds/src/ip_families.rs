//! Which address families a service speaks, from what it asks for and what the cluster has. Pure.
//! (`pkg/registry/core/service/storage/alloc.go`, `initIPFamilyFields`.)

use std::net::IpAddr;

use knode_api::field::FieldError;
use serde_json::{Value, json};

use crate::validation::services::cluster_ips;
use crate::value::{list, map, set_default, text};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";
const POLICY: &str = "spec.ipFamilyPolicy";

/// An address family, as `spec.ipFamilies` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpFamily {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

impl IpFamily {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family with this name in the API.
    pub fn named(name: &str) -> Option<Self> {
        [Self::V4, Self::V6]
            .into_iter()
            .find(|family| family.name() == name)
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// Fills in `ipFamilyPolicy` and `ipFamilies` and, on the way from two stacks to one, drops the second address and
/// family. `configured` are the families of the cluster's service ranges, the default one first; `old` is null for
/// a new service.
///
/// # Errors
/// What contradicts itself, the change, or the cluster; in upstream's words.
pub fn settle(service: &mut Value, old: &Value, configured: &[IpFamily]) -> Result<(), Vec<FieldError>> {
    if text(service, "/spec/type") == "ExternalName" || is_settled_preference(service, old) {
        return Ok(());
    }
    let spec = &mut service["spec"];
    let old = &old["spec"];
    settle_policy(spec, old);
    failed(cluster_ips(spec))?;
    let mut errors = match old {
        Value::Null => Vec::new(),
        old => release(spec, old),
    };
    errors.extend(single_stack_of_two(spec));
    errors.extend(infer(spec, configured));
    failed(errors)?;
    if text(spec, "/clusterIP") == "None" && !selects(spec) {
        let both = [IpFamily::V4, IpFamily::V6];
        complete(spec, configured, &both);
        return Ok(());
    }
    failed(not_configured(spec, configured))?;
    complete(spec, configured, configured);
    Ok(())
}

fn failed(errors: Vec<FieldError>) -> Result<(), Vec<FieldError>> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn selects(spec: &Value) -> bool {
    map(spec, "/selector").is_some_and(|selector| !selector.is_empty())
}

fn same(a: &Value, b: &Value, field: &str) -> bool {
    list(a, field) == list(b, field)
}

/// A service that prefers two stacks and isn't changed in this respect keeps what it has, whatever the cluster has
/// become meanwhile.
fn is_settled_preference(new: &Value, old: &Value) -> bool {
    let has_addresses = ["ClusterIP", "NodePort", "LoadBalancer"].contains(&text(new, "/spec/type"));
    let policy = |service| text(service, "/spec/ipFamilyPolicy");
    !old.is_null()
        && has_addresses
        && text(new, "/spec/type") == text(old, "/spec/type")
        && policy(new) == PREFER
        && matches!(policy(old), "" | PREFER)
        && same(new, old, "/spec/clusterIPs")
        && same(new, old, "/spec/ipFamilies")
}

/// A policy that isn't given: the one from before, two stacks for what has neither addresses nor a selector, else one.
fn settle_policy(spec: &mut Value, old: &Value) {
    let policy = match text(old, "/ipFamilyPolicy") {
        "" if text(spec, "/clusterIP") == "None" && !selects(spec) => REQUIRE,
        "" => SINGLE,
        before => before,
    };
    set_default(spec, "ipFamilyPolicy", policy);
}

fn policy_error(spec: &Value, detail: &str) -> FieldError {
    FieldError::invalid(POLICY, text(spec, "/ipFamilyPolicy"), detail)
}

/// The second address and family go if the policy says so, and only then.
fn release(spec: &mut Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let single = text(spec, "/ipFamilyPolicy") == SINGLE;
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let pointer = format!("/{field}");
        let (now, before) = (list(spec, &pointer).len(), list(old, &pointer).len());
        if single && now > 1 && same(spec, old, &pointer) {
            spec[field] = json!([list(spec, &pointer)[0]]);
        } else if !single && now > 0 && now < before {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(policy_error(spec, &why));
        }
    }
    errors
}

fn single_stack_of_two(spec: &Value) -> Vec<FieldError> {
    if text(spec, "/ipFamilyPolicy") != SINGLE {
        return Vec::new();
    }
    [("/clusterIPs", "cluster IPs"), ("/ipFamilies", "IP families")]
        .into_iter()
        .filter(|(field, _)| list(spec, field).len() == 2)
        .map(|(_, what)| {
            let why =
                format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            policy_error(spec, &why)
        })
        .collect()
}

/// Families that aren't given follow from the addresses that are.
fn infer(spec: &mut Value, configured: &[IpFamily]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let addresses = list(spec, "/clusterIPs").to_vec();
    let given = list(spec, "/ipFamilies").len();
    for (index, address) in addresses.iter().enumerate().skip(given) {
        let Some(address) = address.as_str().and_then(|text| text.parse().ok()) else {
            // `None`: what is no address has been refused before.
            break;
        };
        let family = IpFamily::of(address);
        if configured.contains(&family) {
            push_family(spec, family);
        } else {
            let why = format!("{} is not configured on this cluster", family.name());
            let path = format!("spec.clusterIPs[{index}]");
            errors.push(FieldError::invalid(path, addresses.clone(), why));
        }
    }
    errors
}

fn push_family(spec: &mut Value, family: IpFamily) {
    match spec.get_mut("ipFamilies").and_then(Value::as_array_mut) {
        Some(families) => families.push(family.name().into()),
        None => spec["ipFamilies"] = json!([family.name()]),
    }
}

fn not_configured(spec: &Value, configured: &[IpFamily]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text(spec, "/ipFamilyPolicy") == REQUIRE && configured.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(policy_error(spec, why));
    }
    let families = list(spec, "/ipFamilies").iter().filter_map(Value::as_str);
    for (index, family) in families.enumerate() {
        if !configured.iter().any(|there| there.name() == family) {
            let path = format!("spec.ipFamilies[{index}]");
            errors.push(FieldError::invalid(
                path,
                family,
                "not configured on this cluster",
            ));
        }
    }
    errors
}

/// No family becomes the cluster's default one, and one becomes both where the policy asks for that and `possible`
/// has the other.
fn complete(spec: &mut Value, configured: &[IpFamily], possible: &[IpFamily]) {
    if list(spec, "/ipFamilies").is_empty() {
        let default = configured.first().copied().unwrap_or(IpFamily::V4);
        spec["ipFamilies"] = json!([default.name()]);
    }
    let [only] = list(spec, "/ipFamilies") else { return };
    let other = only.as_str().and_then(IpFamily::named).map(IpFamily::other);
    if let Some(other) = other.filter(|other| possible.contains(other))
        && text(spec, "/ipFamilyPolicy") != SINGLE
    {
        push_family(spec, other);
    }
}

#[cfg(test)]
mod tests;
