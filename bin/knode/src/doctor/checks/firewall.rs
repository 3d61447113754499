//! Whether others' packet filters let a node's packets pass, and what to open if not.

use knode_nft::Hook;

use super::filter::{Fate, Packet, follow};
use crate::doctor::facts::{Facts, Firewall, Table, Wanted};
use crate::doctor::finding::Finding;

/// Link of the pods' own packets.
const BRIDGE: &str = "cni0";
/// Any port: what pods connect to is not known.
const ANY: u16 = 443;

/// Who keeps the rules, and so has to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Firewalld,
    Ufw,
    Nobody,
}

pub fn check(facts: &Facts) -> Vec<Finding> {
    let firewall = &facts.firewall;
    let tables = match &firewall.tables {
        Ok(tables) => tables,
        Err(error) => {
            let mend = "run doctor as root, with nf_tables in the kernel";
            return vec![Finding::warn(
                "firewall",
                format!("the rules can't be read: {error}"),
                mend,
            )];
        }
    };
    let keeper = keeper(tables);
    let ports = firewall
        .wanted
        .iter()
        .filter_map(|wanted| port(firewall, tables, wanted, keeper));
    let mut all: Vec<Finding> = ports.chain(forwarded(facts, tables, keeper)).collect();
    if all.is_empty() {
        all.push(Finding::ok("firewall", "nothing that a node needs is blocked"));
    }
    if firewall.legacy {
        all.push(Finding::warn(
            "firewall (old iptables)",
            "rules of iptables-legacy are loaded, which can't be judged here",
            "look at them with iptables-legacy-save; move to iptables-nft",
        ));
    }
    all
}

fn keeper(tables: &[Table]) -> Keeper {
    if tables.iter().any(|table| table.name.ends_with(" firewalld")) {
        return Keeper::Firewalld;
    }
    let mut chains = tables.iter().flat_map(|table| &table.chains);
    if chains.any(|chain| chain.name.starts_with("ufw-")) {
        return Keeper::Ufw;
    }
    Keeper::Nobody
}

fn port(firewall: &Firewall, tables: &[Table], wanted: &Wanted, keeper: Keeper) -> Option<Finding> {
    let (first, last) = (wanted.first, wanted.last);
    // Rules over part of a range are found at its ends and in its middle.
    let mut tried = [first, first + (last - first) / 2, last].into_iter();
    let worst = tried.find_map(|port| {
        let packet = Packet {
            protocol: wanted.protocol,
            port,
            arrival: firewall.arrival.clone().map(|(name, index)| (name, Some(index))),
        };
        match follow(tables, Hook::Input, &packet) {
            Fate::Passes => None,
            fate => Some(fate),
        }
    })?;
    let ports = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    let check = format!("firewall {ports}/{} ({})", wanted.protocol.name(), wanted.what);
    let mend = opening(keeper, wanted, &worst);
    Some(match worst {
        Fate::Blocked(by) => Finding::fail(check, format!("blocked by {by}"), mend),
        Fate::Perhaps(by) => Finding::warn(check, format!("open to some only, else blocked by {by}"), mend),
        Fate::Passes => Finding::ok(check, "open"),
    })
}

fn opening(keeper: Keeper, wanted: &Wanted, fate: &Fate) -> String {
    let (first, last, protocol) = (wanted.first, wanted.last, wanted.protocol.name());
    let range = |between: &str| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}{between}{last}")
        }
    };
    match keeper {
        Keeper::Firewalld => format!(
            "firewall-cmd --permanent --add-port={}/{protocol} && firewall-cmd --reload",
            range("-")
        ),
        Keeper::Ufw => format!("ufw allow {}/{protocol}", range(":")),
        Keeper::Nobody => format!(
            "nft insert rule {} {protocol} dport {} accept",
            place(fate),
            range("-")
        ),
    }
}

/// `FAMILY TABLE CHAIN` of where the packet ends.
fn place(fate: &Fate) -> String {
    let (Fate::Blocked(by) | Fate::Perhaps(by)) = fate else {
        return String::new();
    };
    let words = by.split_once(':').map_or(by.as_str(), |(head, _)| head);
    words.replace("table ", "").replace(", chain", "")
}

/// What pods send to others.
fn forwarded(facts: &Facts, tables: &[Table], keeper: Keeper) -> Option<Finding> {
    let packet = Packet {
        protocol: crate::doctor::facts::Protocol::Tcp,
        port: ANY,
        arrival: Some((BRIDGE.to_owned(), None)),
    };
    let fate = follow(tables, Hook::Forward, &packet);
    let pods: Vec<String> = facts.networks.pods.iter().map(ToString::to_string).collect();
    let mend = match keeper {
        Keeper::Firewalld => pods
            .iter()
            .map(|net| {
                format!("firewall-cmd --permanent --zone=trusted --add-source={net} && firewall-cmd --reload")
            })
            .collect::<Vec<_>>()
            .join("\n"),
        Keeper::Ufw => pods
            .iter()
            .map(|net| format!("ufw route allow from {net} && ufw route allow to {net}"))
            .collect::<Vec<_>>()
            .join("\n"),
        Keeper::Nobody => format!(
            "nft insert rule {0} iifname {BRIDGE} accept && nft insert rule {0} oifname {BRIDGE} accept",
            place(&fate)
        ),
    };
    match fate {
        Fate::Passes => None,
        Fate::Blocked(by) => Some(Finding::fail(
            "firewall, forwarding",
            format!("pods' packets are blocked by {by}"),
            mend,
        )),
        Fate::Perhaps(by) => {
            let found = format!("some of pods' packets pass, others are blocked by {by}");
            Some(Finding::warn("firewall, forwarding", found, mend))
        }
    }
}
