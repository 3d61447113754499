//! Nodes.
use std::collections::BTreeSet;

use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::tolerations::EFFECTS;
use super::{Errors, name_rule};
use crate::value::{list, text};

pub(crate) fn create(node: &Value) -> Errors {
    let mut errors = Errors::new();
    taints(&mut errors, node);
    pod_ranges(&mut errors, node);
    errors
}

pub(crate) fn update(new: &Value, old: &Value) -> Errors {
    let mut errors = create(new);
    let path = Path::new("spec");
    let before = list(old, "/spec/podCIDRs");
    let now = list(new, "/spec/podCIDRs");
    if !before.is_empty() && before != now {
        let words = "node updates may not change podCIDR except from \"\" to valid";
        let differing = before.iter().zip(now).filter(|(a, b)| a != b).count();
        let count = if before.len() == now.len() { differing } else { 1 };
        let error = FieldError::forbidden(path.child("podCIDRs"), words);
        errors.extend(std::iter::repeat_n(error, count));
    }
    let provider = text(old, "/spec/providerID");
    if !provider.is_empty() && provider != text(new, "/spec/providerID") {
        let words = "node updates may not change providerID except from \"\" to valid";
        errors.push(FieldError::forbidden(path.child("providerID"), words));
    }
    errors
}

fn taints(errors: &mut Errors, node: &Value) {
    let spec = Path::new("spec");
    let path = spec.child("taints");
    let mut seen = BTreeSet::new();
    for (i, taint) in list(node, "/spec/taints").iter().enumerate() {
        let at = path.index(i);
        let (key, effect) = (text(taint, "/key"), text(taint, "/effect"));
        name_rule(errors, &at.child("key"), key, names::qualified_name);
        let messages = names::label_value(text(taint, "/value"));
        if !messages.is_empty() {
            errors.push(FieldError::invalid(
                at.child("value"),
                text(taint, "/value"),
                messages.join(";"),
            ));
        }
        if effect.is_empty() {
            errors.push(FieldError::required(at.child("effect"), ""));
        } else if !EFFECTS.contains(&effect) {
            errors.push(FieldError::not_supported(at.child("effect"), effect, &EFFECTS));
        }
        if !seen.insert((key, effect)) {
            let mut error = FieldError::duplicate(at, taint.clone());
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
    }
}

fn pod_ranges(errors: &mut Errors, node: &Value) {
    let spec = Path::new("spec");
    let path = spec.child("podCIDRs");
    for (i, range) in list(node, "/spec/podCIDRs").iter().enumerate() {
        let range = range.as_str().unwrap_or_default();
        if !is_range(range) {
            let words = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(path.index(i), range, words));
        }
    }
    let all = list(node, "/spec/podCIDRs");
    let families: BTreeSet<_> = all
        .iter()
        .filter_map(|range| Some(range.as_str()?.contains(':')))
        .collect();
    if all.len() > 1 && families.len() != all.len() {
        let words = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(path, Value::Array(all.to_vec()), words));
    }
}

fn is_range(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    match (address.parse::<std::net::IpAddr>(), length.parse::<u8>()) {
        (Ok(address), Ok(length)) => length <= if address.is_ipv4() { 32 } else { 128 },
        _ => false,
    }
}
