use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};

/// A policy rule: which table is asked for which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Order; the smallest is asked first.
    pub priority: u32,
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// Only packets from there.
    pub from: Option<IpNet>,
    /// Only packets to there.
    pub to: Option<IpNet>,
    /// Only packets with this mark.
    pub mark: Option<u32>,
    /// The table to ask.
    pub table: u32,
}

impl Rule {
    pub(crate) fn from_message(message: &RuleMessage) -> Self {
        let header = &message.header;
        let ipv6 = header.family == AddressFamily::Inet6;
        let any = if ipv6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let prefix = |length: u8| (length > 0).then(|| IpNet::new(any, length).ok()).flatten();
        let mut rule = Self {
            priority: 0,
            ipv6,
            from: prefix(header.src_len),
            to: prefix(header.dst_len),
            mark: None,
            table: u32::from(header.table),
        };
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Table(table) => rule.table = *table,
                RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
                RuleAttribute::Source(ip) => rule.from = IpNet::new(*ip, header.src_len).ok(),
                RuleAttribute::Destination(ip) => rule.to = IpNet::new(*ip, header.dst_len).ok(),
                _ => {}
            }
        }
        rule
    }
}
