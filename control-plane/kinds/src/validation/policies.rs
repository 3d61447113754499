//! NetworkPolicies (`pkg/apis/networking/validation`).
use std::net::IpAddr;

use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::{Errors, label_selector};
use crate::value::{list, text};

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const TYPES: [&str; 2] = ["Ingress", "Egress"];

pub(crate) fn policy(policy: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    if let Some(selector) = present(policy, "/spec/podSelector") {
        label_selector(&mut errors, selector, &path.child("podSelector"));
    }
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        let at = path.child(rules);
        for (i, one) in list(policy, &format!("/spec/{rules}")).iter().enumerate() {
            rule(&mut errors, one, peers, &at.index(i));
        }
    }
    types(&mut errors, policy, &path.child("policyTypes"));
    errors
}

fn present<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

fn rule(errors: &mut Errors, rule: &Value, peers: &str, path: &Path<'_>) {
    let at = path.child("ports");
    for (i, one) in list(rule, "/ports").iter().enumerate() {
        port(errors, one, &at.index(i));
    }
    let at = path.child(peers);
    for (i, one) in list(rule, &format!("/{peers}")).iter().enumerate() {
        peer(errors, one, &at.index(i));
    }
}

fn port(errors: &mut Errors, port: &Value, path: &Path<'_>) {
    let protocol = text(port, "/protocol");
    if !protocol.is_empty() && !PROTOCOLS.contains(&protocol) {
        errors.push(FieldError::not_supported(
            path.child("protocol"),
            protocol,
            &["SCTP", "TCP", "UDP"],
        ));
    }
    let (at, end_at) = (path.child("port"), path.child("endPort"));
    let end = present(port, "/endPort").and_then(Value::as_i64);
    let refuse_end = |errors: &mut Errors, words: &str| {
        errors.extend(end.map(|end| FieldError::invalid(end_at, end, words)));
    };
    match present(port, "/port") {
        None => refuse_end(errors, "may not be specified when `port` is not specified"),
        Some(Value::String(name)) => {
            refuse_end(errors, "may not be specified when `port` is non-numeric");
            super::name_rule(errors, &at, name, names::port_name);
        }
        Some(number) => {
            let first = number.as_i64().unwrap_or_default();
            numbered(errors, first, &at);
            let Some(end) = end else { return };
            if end < first {
                let words = "must be greater than or equal to `port`";
                errors.push(FieldError::invalid(end_at, first, words));
            }
            numbered(errors, end, &end_at);
        }
    }
}

fn numbered(errors: &mut Errors, port: i64, path: &Path<'_>) {
    let messages = names::port_number(port).into_iter();
    errors.extend(messages.map(|words| FieldError::invalid(path, port, words)));
}

fn peer(errors: &mut Errors, peer: &Value, path: &Path<'_>) {
    let mut count = 0;
    for name in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = present(peer, &format!("/{name}")) {
            count += 1;
            label_selector(errors, selector, &path.child(name));
        }
    }
    let block = present(peer, "/ipBlock");
    if let Some(found) = block {
        count += 1;
        ip_block(errors, found, &path.child("ipBlock"));
    }
    if count == 0 {
        errors.push(FieldError::required(path, "must specify a peer"));
    } else if count > 1 && block.is_some() {
        let words = "may not specify both ipBlock and another peer";
        errors.push(FieldError::forbidden(path, words));
    }
}

fn ip_block(errors: &mut Errors, block: &Value, path: &Path<'_>) {
    let (at, cidr) = (path.child("cidr"), text(block, "/cidr"));
    if cidr.is_empty() {
        errors.push(FieldError::required(at, ""));
        return;
    }
    let Some(whole) = range(errors, cidr, &at) else {
        return;
    };
    let at = path.child("except");
    for (i, except) in list(block, "/except").iter().enumerate() {
        let (at, except) = (at.index(i), except.as_str().unwrap_or_default());
        let Some(part) = range(errors, except, &at) else {
            continue;
        };
        if !whole.contains(&part) {
            errors.push(FieldError::invalid(
                at,
                except,
                "must be a strict subset of `cidr`",
            ));
        }
    }
}

fn types(errors: &mut Errors, policy: &Value, path: &Path<'_>) {
    let types = list(policy, "/spec/policyTypes");
    if types.len() > TYPES.len() {
        let words = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(path, types.to_vec(), words));
        return;
    }
    for (i, one) in types.iter().enumerate() {
        let name = one.as_str().unwrap_or_default();
        if !TYPES.contains(&name) {
            errors.push(FieldError::not_supported(
                path.index(i),
                name,
                &["Egress", "Ingress"],
            ));
        }
    }
}

/// The addresses of a range, as numbers of their family.
struct Range {
    is_v4: bool,
    first: u128,
    bits: u32,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let bits = bits.parse::<u32>().ok()?;
        let (is_v4, number, width) = match address.parse().ok()? {
            IpAddr::V4(address) => (true, u128::from(u32::from(address)), u32::BITS),
            IpAddr::V6(address) => (false, u128::from(address), u128::BITS),
        };
        let host = width.checked_sub(bits)?;
        let first = number
            .checked_shr(host)
            .unwrap_or(0)
            .checked_shl(host)
            .unwrap_or(0);
        Some(Self { is_v4, first, bits })
    }

    /// Whether the other one is a part of this one, and not all of it.
    fn contains(&self, other: &Self) -> bool {
        let width = if self.is_v4 { u32::BITS } else { u128::BITS };
        let host = width - self.bits;
        let start = |number: u128| number.checked_shr(host).unwrap_or(0);
        self.is_v4 == other.is_v4 && self.bits < other.bits && start(self.first) == start(other.first)
    }
}

fn range(errors: &mut Errors, text: &str, path: &Path<'_>) -> Option<Range> {
    let range = Range::parse(text);
    if range.is_none() {
        let words = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        errors.push(FieldError::invalid(path, text, words));
    }
    range
}
