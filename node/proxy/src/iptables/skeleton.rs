//! The chains that are always there, and the jumps that lead to them.

use std::net::{IpAddr, Ipv6Addr};

use super::rules::{comment, mark};
use super::{Chains, Rules, Table};
use crate::model::IpFamily;
use crate::table::{TableConfig, of_family};

/// A chain without use, made to see whether others have flushed the tables.
pub const CANARY: &str = "KUBE-PROXY-CANARY";
/// The tables that have it.
pub const CANARY_TABLES: [Table; 3] = [Table::Mangle, Table::Nat, Table::Filter];

/// The shared chains of `filter` that Services write to.
pub(super) const FILTER_LISTS: [&str; 4] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL",
];
/// The shared chains of `nat` that Services write to.
pub(super) const NAT_LISTS: [&str; 2] = ["KUBE-SERVICES", "KUBE-NODEPORTS"];

/// The rules of the kernel's own chains that lead to ours, with their table and chain.
pub fn jumps() -> Vec<(Table, &'static str, String)> {
    let new = " -m conntrack --ctstate NEW";
    let jump = |table, chain, state: &str, text: &str, to: &str| {
        // `iptables-save` prints the matches in the order in which they were given.
        let matches = match state {
            "" => comment(text),
            state => format!("{} {}", state.trim(), comment(text)),
        };
        (table, chain, format!("{matches} -j {to}"))
    };
    let portals = "kubernetes service portals";
    let visible = "kubernetes externally-visible service portals";
    let firewall = "kubernetes load balancer firewall";
    let filter = |chain, state: &str, text: &str, to: &str| jump(Table::Filter, chain, state, text, to);
    vec![
        filter("INPUT", new, visible, "KUBE-EXTERNAL-SERVICES"),
        filter("FORWARD", new, visible, "KUBE-EXTERNAL-SERVICES"),
        filter(
            "INPUT",
            "",
            "kubernetes health check service ports",
            "KUBE-NODEPORTS",
        ),
        filter("FORWARD", new, portals, "KUBE-SERVICES"),
        filter("OUTPUT", new, portals, "KUBE-SERVICES"),
        filter("FORWARD", "", "kubernetes forwarding rules", "KUBE-FORWARD"),
        filter("INPUT", new, firewall, "KUBE-PROXY-FIREWALL"),
        filter("OUTPUT", new, firewall, "KUBE-PROXY-FIREWALL"),
        filter("FORWARD", new, firewall, "KUBE-PROXY-FIREWALL"),
        jump(Table::Nat, "OUTPUT", "", portals, "KUBE-SERVICES"),
        jump(Table::Nat, "PREROUTING", "", portals, "KUBE-SERVICES"),
        jump(
            Table::Nat,
            "POSTROUTING",
            "",
            "kubernetes postrouting rules",
            "KUBE-POSTROUTING",
        ),
    ]
}

/// The chains of `filter` that no Service writes to; `drop_invalid` is upstream's guard against packets that
/// connection tracking cannot place.
pub(super) fn filter(config: &TableConfig, drop_invalid: bool) -> Chains {
    let mark = mark(config.masquerade_bit);
    let mut rules = Rules::new();
    if drop_invalid {
        rules.push("-m conntrack --ctstate INVALID -j DROP".to_owned());
    }
    let marked = comment("kubernetes forwarding rules");
    rules.push(format!("{marked} -m mark --mark {mark}/{mark} -j ACCEPT"));
    let known = comment("kubernetes forwarding conntrack rule");
    rules.push(format!(
        "{known} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    ));
    Chains::from([
        ("KUBE-FORWARD".to_owned(), rules),
        (CANARY.to_owned(), Rules::new()),
    ])
}

/// The chains of `nat` that no Service writes to.
pub(super) fn nat(config: &TableConfig) -> Chains {
    let mark = mark(config.masquerade_bit);
    let snat = comment("kubernetes service traffic requiring SNAT");
    let postrouting = vec![
        format!("-m mark ! --mark {mark}/{mark} -j RETURN"),
        format!("-j MARK --set-xmark {mark}/0x0"),
        format!("{snat} -j MASQUERADE --random-fully"),
    ];
    Chains::from([
        ("KUBE-POSTROUTING".to_owned(), postrouting),
        (
            "KUBE-MARK-MASQ".to_owned(),
            vec![format!("-j MARK --set-xmark {mark}/{mark}")],
        ),
        (CANARY.to_owned(), Rules::new()),
    ])
}

/// The rules at the end of `KUBE-SERVICES` that lead to the node ports.
pub(super) fn node_ports(config: &TableConfig, family: IpFamily) -> Rules {
    let text = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain");
    let rule = |to: &str| format!("{to} {text} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS");
    let loopback: IpAddr = match family {
        IpFamily::V4 => [127, 0, 0, 1].into(),
        IpFamily::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let served: Vec<_> = of_family(&config.node_port_addresses, family).collect();
    if served.is_empty() {
        let net = match family {
            IpFamily::V4 => "! -d 127.0.0.0/8",
            IpFamily::V6 => "! -d ::1/128",
        };
        return vec![rule(net)];
    }
    let outward = served
        .into_iter()
        .filter(|net| !net.contains(&loopback) || net.prefix_len() < 8);
    outward.map(|net| rule(&format!("-d {}", net.trunc()))).collect()
}
