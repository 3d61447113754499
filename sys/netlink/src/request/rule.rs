use ipnet::IpNet;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{NEW, Request};
use crate::model::Rule;

/// Adds a policy rule.
pub fn add_rule(rule: &Rule) -> Request {
    Request::new(
        "add rule",
        object(rule),
        RouteNetlinkMessage::NewRule(message(rule)),
        NEW,
    )
}

/// Deletes a policy rule.
pub fn delete_rule(rule: &Rule) -> Request {
    Request::new(
        "delete rule",
        object(rule),
        RouteNetlinkMessage::DelRule(message(rule)),
        0,
    )
}

pub(crate) fn dump_rules() -> [RouteNetlinkMessage; 2] {
    [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
        let mut message = RuleMessage::default();
        message.header.family = family;
        RouteNetlinkMessage::GetRule(message)
    })
}

fn object(rule: &Rule) -> String {
    let part = |word: &str, net: Option<IpNet>| net.map(|n| format!(" {word} {n}")).unwrap_or_default();
    let mark = rule.mark.map(|m| format!(" mark {m:#x}")).unwrap_or_default();
    let (from, to) = (part("from", rule.from), part("to", rule.to));
    format!("{}{from}{to}{mark} to table {}", rule.priority, rule.table)
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = if rule.ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    header.action = RuleAction::ToTable;
    header.src_len = rule.from.map_or(0, |n| n.prefix_len());
    header.dst_len = rule.to.map_or(0, |n| n.prefix_len());
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table));
    attributes.extend(rule.mark.map(RuleAttribute::FwMark));
    attributes.extend(rule.from.map(|n| RuleAttribute::Source(n.network())));
    attributes.extend(rule.to.map(|n| RuleAttribute::Destination(n.network())));
    message
}
