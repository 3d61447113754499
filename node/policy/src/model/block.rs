use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{IpFamily, identity};

/// Addresses of one family from the first to the last, both inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IpRange {
    /// The first address.
    pub first: IpAddr,
    /// The last address.
    pub last: IpAddr,
}

/// The addresses of a rule's `ipBlock`s, those excepted left out.
#[derive(Debug)]
pub struct Blocks {
    ranges: Box<[IpRange]>,
    name: Box<str>,
}

impl Blocks {
    /// The union of the blocks, each without its exceptions.
    pub fn new(blocks: &[(IpNet, Vec<IpNet>)]) -> Self {
        let mut ranges = Vec::new();
        for family in IpFamily::ALL {
            let of_family = blocks
                .iter()
                .filter(|(net, _)| IpFamily::of(net.addr()) == family);
            let parts = of_family.flat_map(|(net, except)| without(net, except)).collect();
            ranges.extend(joined(parts).into_iter().map(|span| span.range(family)));
        }
        let parts = ranges
            .iter()
            .map(|range| format!("{}-{}", range.first, range.last));
        let name = identity("blocks", parts);
        Self {
            ranges: ranges.into(),
            name,
        }
    }

    /// The ranges, in order; none touches another.
    pub fn ranges(&self) -> &[IpRange] {
        &self.ranges
    }

    /// What the set is called in the kernel.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl PartialEq for Blocks {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Blocks {}

impl Hash for Blocks {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// Addresses as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    first: u128,
    last: u128,
}

impl Span {
    fn of(net: &IpNet) -> Self {
        Self {
            first: number(net.network()),
            last: number(net.broadcast()),
        }
    }

    fn range(self, family: IpFamily) -> IpRange {
        let address = |number: u128| match family {
            IpFamily::V4 => IpAddr::V4(Ipv4Addr::from(number as u32)),
            IpFamily::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        };
        IpRange {
            first: address(self.first),
            last: address(self.last),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The parts of a block between its exceptions.
fn without(net: &IpNet, except: &[IpNet]) -> Vec<Span> {
    let whole = Span::of(net);
    let same = except
        .iter()
        .filter(|other| other.addr().is_ipv4() == net.addr().is_ipv4());
    let mut parts = Vec::new();
    let mut next = Some(whole.first);
    for hole in joined(same.map(Span::of).collect()) {
        let Some(first) = next.filter(|first| *first <= whole.last) else {
            break;
        };
        if hole.last < first {
            continue;
        }
        if hole.first > first {
            let last = (hole.first - 1).min(whole.last);
            parts.push(Span { first, last });
        }
        next = hole.last.checked_add(1);
    }
    if let Some(first) = next.filter(|first| *first <= whole.last) {
        parts.push(Span {
            first,
            last: whole.last,
        });
    }
    parts
}

/// The same addresses in order; spans that overlap or touch become one.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut all: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match all.last_mut() {
            Some(open) if span.first <= open.last.saturating_add(1) => open.last = open.last.max(span.last),
            _ => all.push(span),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(blocks: &[(&str, &[&str])]) -> String {
        let net = |text: &&str| text.parse::<IpNet>().expect("net");
        let blocks: Vec<_> = blocks
            .iter()
            .map(|(block, except)| (net(block), except.iter().map(net).collect()))
            .collect();
        let ranges = Blocks::new(&blocks);
        let ranges = ranges
            .ranges()
            .iter()
            .map(|range| format!("{}-{}", range.first, range.last));
        ranges.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn exceptions_are_left_out_of_their_own_block_only() {
        assert_eq!(text(&[("10.0.0.0/24", &[])]), "10.0.0.0-10.0.0.255");
        let holes: &[&str] = &["10.0.0.64/26", "10.0.0.0/28", "10.0.0.255/32"];
        assert_eq!(
            text(&[("10.0.0.0/24", holes)]),
            "10.0.0.16-10.0.0.63 10.0.0.128-10.0.0.254"
        );
        let two: &[(&str, &[&str])] = &[("10.0.0.0/24", &["10.0.0.64/26"]), ("10.0.0.64/27", &[])];
        assert_eq!(text(two), "10.0.0.0-10.0.0.95 10.0.0.128-10.0.0.255");
        assert_eq!(text(&[("10.0.0.0/24", &["10.0.0.0/8"])]), "");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn the_ends_of_the_address_space_are_no_trouble() {
        assert_eq!(text(&[("0.0.0.0/0", &[])]), "0.0.0.0-255.255.255.255");
        let top: &[&str] = &["128.0.0.0/1"];
        assert_eq!(text(&[("0.0.0.0/0", top)]), "0.0.0.0-127.255.255.255");
        let all = "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(text(&[("::/0", &[]), ("::1/128", &[])]), all);
        let both: &[(&str, &[&str])] = &[("2001:db8::/64", &["2001:db8::/65"]), ("192.0.2.0/31", &[])];
        assert_eq!(
            text(both),
            "192.0.2.0-192.0.2.1 2001:db8:0:0:8000::-2001:db8::ffff:ffff:ffff:ffff"
        );
    }

    #[test]
    fn blocks_that_touch_become_one() {
        assert_eq!(
            text(&[("10.0.1.0/24", &[]), ("10.0.0.0/24", &[])]),
            "10.0.0.0-10.0.1.255"
        );
    }
}
