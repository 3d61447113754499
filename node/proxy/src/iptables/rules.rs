//! Parts of rules, in the words and the order of `iptables-save`.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{IpFamily, Protocol};
use crate::table::{Locality, of_family};

/// What an address is written as.
pub(super) fn host(address: IpAddr) -> String {
    IpNet::from(address).to_string()
}

/// `-m comment`.
pub(super) fn comment(text: &str) -> String {
    format!("-m comment --comment \"{text}\"")
}

/// Packets to a port of one address, or of any; `text` is the comment.
pub(super) fn to_port(to: Option<IpAddr>, protocol: Protocol, port: u16, text: &str) -> String {
    to_port_from(&From::default(), to, protocol, port, text)
}

/// The same for those that come from somewhere.
pub(super) fn to_port_from(
    From { source, interface }: &From,
    to: Option<IpAddr>,
    protocol: Protocol,
    port: u16,
    text: &str,
) -> String {
    let to = to.map(|ip| format!("-d {} ", host(ip))).unwrap_or_default();
    format!(
        "{source}{to}{interface}-p {protocol} {} -m {protocol} --dport {port}",
        comment(text)
    )
}

/// Where packets come from: words for the source and for the interface, each empty or with a space behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct From {
    pub source: String,
    pub interface: String,
}

impl From {
    fn source(net: &IpNet) -> Self {
        Self {
            source: format!("-s {net} "),
            ..Self::default()
        }
    }

    fn interface(name: &str) -> Self {
        Self {
            interface: format!("-i {name} "),
            ..Self::default()
        }
    }

    fn negated(self) -> Self {
        let not = |part: String| {
            if part.is_empty() {
                part
            } else {
                format!("! {part}")
            }
        };
        Self {
            source: not(self.source),
            interface: not(self.interface),
        }
    }
}

/// The mark that asks for masquerading.
pub(super) fn mark(bit: u8) -> String {
    format!("{:#x}", 1_u32.checked_shl(u32::from(bit)).unwrap_or(0))
}

/// What `REJECT` answers.
pub(super) fn reject(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "REJECT --reject-with icmp-port-unreachable",
        IpFamily::V6 => "REJECT --reject-with icmp6-port-unreachable",
    }
}

/// One chance in so many, as the kernel rounds it.
pub(super) fn chance(of: usize) -> String {
    let whole = f64::from(1_u32 << 31);
    let rounded = (whole / of as f64).round() / whole;
    format!("-m statistic --mode random --probability {rounded:.11}")
}

/// `-m recent` on a list of this name; `test` is what is asked or done.
pub(super) fn recent(family: IpFamily, test: &str, name: &str) -> String {
    let mask = match family {
        IpFamily::V4 => "255.255.255.255",
        IpFamily::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    };
    format!("-m recent {test} --name {name} --mask {mask} --rsource")
}

/// A packet comes from a pod, one way of it an element; none where that cannot be told.
pub(super) fn from_pods(locality: &Locality, family: IpFamily) -> Vec<From> {
    match locality {
        Locality::Unknown => Vec::new(),
        Locality::Cidrs(cidrs) => of_family(cidrs, family).map(From::source).collect(),
        Locality::Bridge(name) => vec![From::interface(name)],
        Locality::InterfacePrefix(prefix) => vec![From::interface(&format!("{prefix}+"))],
    }
}

/// A packet does not come from a pod; `None` where that cannot be told in one rule.
pub(super) fn from_elsewhere(locality: &Locality, family: IpFamily) -> Option<From> {
    let mut from = from_pods(locality, family);
    let one = from.pop()?;
    from.is_empty().then(|| one.negated())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_those_that_the_kernel_prints() {
        let of = |number| chance(number).rsplit(' ').next().map(str::to_owned);
        assert_eq!(of(2).as_deref(), Some("0.50000000000"));
        assert_eq!(of(3).as_deref(), Some("0.33333333349"));
        assert_eq!(of(7).as_deref(), Some("0.14285714272"));
    }
}
