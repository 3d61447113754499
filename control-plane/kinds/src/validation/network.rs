//! EndpointSlices.
use std::collections::BTreeSet;

use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::{Errors, immutable, one_of};
use crate::value::{list, text};

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20000;
const MAX_ADDRESSES: usize = 100;

pub(crate) fn slice(slice: &Value) -> Errors {
    let mut errors = Errors::new();
    let kinds = ["FQDN", "IPv4", "IPv6"];
    let kind = text(slice, "/addressType");
    if kind.is_empty() {
        errors.push(FieldError::required("addressType", ""));
    } else if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported("addressType", kind, &kinds));
    }
    endpoints(&mut errors, slice, kind);
    ports(&mut errors, slice);
    errors
}

fn endpoints(errors: &mut Errors, slice: &Value, kind: &str) {
    let path = Path::new("endpoints");
    let all = list(slice, "/endpoints");
    if all.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(path, all.len(), MAX_ENDPOINTS));
        return;
    }
    for (i, endpoint) in all.iter().enumerate() {
        let at = path.index(i);
        let addresses_path = at.child("addresses");
        let addresses = list(endpoint, "/addresses");
        if addresses.is_empty() {
            errors.push(FieldError::required(
                addresses_path,
                "must contain at least 1 address",
            ));
        } else if addresses.len() > MAX_ADDRESSES {
            errors.push(FieldError::too_many(
                addresses_path,
                addresses.len(),
                MAX_ADDRESSES,
            ));
        }
        for (j, address) in addresses.iter().enumerate() {
            address_of(
                errors,
                address.as_str().unwrap_or_default(),
                kind,
                &addresses_path.index(j),
            );
        }
        let host = text(endpoint, "/hostname");
        if !host.is_empty() {
            super::name_rule(errors, &at.child("hostname"), host, names::dns1123_label);
        }
    }
}

fn address_of(errors: &mut Errors, address: &str, kind: &str, at: &Path<'_>) {
    let parsed = address.parse::<std::net::IpAddr>();
    let (fine, words) = match kind {
        "IPv4" => (parsed.is_ok_and(|a| a.is_ipv4()), "must be an IPv4 address"),
        "IPv6" => (parsed.is_ok_and(|a| a.is_ipv6()), "must be an IPv6 address"),
        _ => return,
    };
    if !fine {
        errors.push(FieldError::invalid(at, address, words));
    }
}

fn ports(errors: &mut Errors, slice: &Value) {
    let path = Path::new("ports");
    let all = list(slice, "/ports");
    if all.len() > MAX_PORTS {
        errors.push(FieldError::too_many(path, all.len(), MAX_PORTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, port) in all.iter().enumerate() {
        let at = path.index(i);
        let name = text(port, "/name");
        if !name.is_empty() {
            super::name_rule(errors, &at.child("name"), name, names::dns1123_label);
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(at.child("name"), name));
        }
        one_of(errors, port, &at, "protocol", &["SCTP", "TCP", "UDP"], true);
    }
}

pub(crate) fn slice_update(new: &Value, old: &Value) -> Errors {
    let mut errors = slice(new);
    immutable(
        &mut errors,
        &Path::new("addressType"),
        new.get("addressType"),
        old.get("addressType"),
    );
    errors
}
