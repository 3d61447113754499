//! Which subnet a node takes; pure (`pkg/subnet/etcd`, `tryAcquireLease` and `allocateSubnet`).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::config::NetConf;

/// From so many free subnets one is picked at random, so that nodes that start together seldom collide.
const CANDIDATES: usize = 100;

/// What to do for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Renew the lease that the node has.
    Renew(Ipv4Net),
    /// Take this free subnet.
    Take(Ipv4Net),
    /// None is free.
    Exhausted,
}

/// Chooses: the subnet that is the node's by its address, else the one it had before if that is free, else one of the
/// first free ones. `random` picks among so many.
pub(super) fn choose(
    conf: &NetConf,
    mine: Option<Ipv4Net>,
    before: Option<Ipv4Net>,
    taken: &BTreeSet<Ipv4Net>,
    random: impl FnOnce(usize) -> usize,
) -> Choice {
    if let Some(mine) = mine.filter(|net| fits(conf, *net)) {
        return Choice::Renew(mine);
    }
    let free = |net: &Ipv4Net| !taken.iter().any(|t| t.contains(net) || net.contains(t));
    if let Some(before) = before.filter(|net| fits(conf, *net) && free(net)) {
        return Choice::Take(before);
    }
    let candidates: Vec<_> = subnets(conf).filter(free).take(CANDIDATES).collect();
    if candidates.is_empty() {
        return Choice::Exhausted;
    }
    Choice::Take(candidates[random(candidates.len()) % candidates.len()])
}

/// Whether a subnet is one that the configuration lets a node have.
pub(super) fn fits(conf: &NetConf, net: Ipv4Net) -> bool {
    let (min, max) = bounds(conf);
    let ip = u64::from(u32::from(net.network()));
    net.prefix_len() == conf.subnet_len && net.addr() == net.network() && (min..=max).contains(&ip)
}

/// All subnets that may be leased, in order.
fn subnets(conf: &NetConf) -> impl Iterator<Item = Ipv4Net> + use<> {
    let (min, max) = bounds(conf);
    let (size, length) = (size(conf), conf.subnet_len);
    (0..)
        .map(move |n: u64| min + n * size)
        .take_while(move |ip| *ip <= max)
        .filter_map(move |ip| {
            let ip = Ipv4Addr::from(u32::try_from(ip).ok()?);
            Ipv4Net::new(ip, length).ok()
        })
}

/// First and last subnet. The first of the network is skipped unless asked for.
fn bounds(conf: &NetConf) -> (u64, u64) {
    let value = |ip: Ipv4Addr| u64::from(u32::from(ip));
    let (first, size) = (value(conf.network.network()), size(conf));
    let end = value(conf.network.broadcast()) + 1;
    (
        conf.subnet_min.map_or(first + size, value),
        conf.subnet_max.map_or(end - size, value),
    )
}

fn size(conf: &NetConf) -> u64 {
    1 << (32 - u32::from(conf.subnet_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> NetConf {
        NetConf::parse(text).unwrap()
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn pick(conf: &NetConf, mine: Option<&str>, before: Option<&str>, taken: &[&str]) -> Choice {
        let taken = taken.iter().map(|t| net(t)).collect();
        choose(conf, mine.map(net), before.map(net), &taken, |_| 0)
    }

    #[test]
    fn own_then_earlier_then_first_free() {
        let conf = conf(r#"{"Network":"172.30.0.0/16"}"#);
        let taken = ["172.30.1.0/24", "172.30.7.0/24"];
        assert_eq!(
            pick(&conf, Some("172.30.7.0/24"), Some("172.30.9.0/24"), &taken),
            Choice::Renew(net("172.30.7.0/24"))
        );
        assert_eq!(
            pick(&conf, None, Some("172.30.9.0/24"), &taken),
            Choice::Take(net("172.30.9.0/24"))
        );
        assert_eq!(
            pick(&conf, None, Some("172.30.7.0/24"), &taken),
            Choice::Take(net("172.30.2.0/24")),
            "somebody else's"
        );
        assert_eq!(
            pick(&conf, None, Some("10.0.9.0/24"), &taken),
            Choice::Take(net("172.30.2.0/24")),
            "of another network"
        );
        assert_eq!(
            pick(&conf, Some("172.30.8.0/25"), None, &taken),
            Choice::Take(net("172.30.2.0/24")),
            "of another length"
        );
    }

    #[test]
    fn the_first_subnet_is_skipped_and_the_last_is_not() {
        let conf = conf(r#"{"Network":"10.0.0.0/22"}"#);
        let all: Vec<_> = subnets(&conf).map(|n| n.to_string()).collect();
        assert_eq!(all, ["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"]);
        assert_eq!(
            pick(&conf, None, None, &["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"]),
            Choice::Exhausted
        );
    }

    #[test]
    fn bounds_are_kept_even_at_the_end_of_the_addresses() {
        let narrow = conf(r#"{"Network":"10.0.0.0/16","SubnetMin":"10.0.8.0","SubnetMax":"10.0.9.0"}"#);
        let all: Vec<_> = subnets(&narrow).map(|n| n.to_string()).collect();
        assert_eq!(all, ["10.0.8.0/24", "10.0.9.0/24"]);
        assert!(!fits(&narrow, net("10.0.10.0/24")));
        let last = conf(r#"{"Network":"255.255.252.0/22"}"#);
        assert_eq!(subnets(&last).count(), 3);
    }

    #[test]
    fn one_of_the_first_hundred_is_taken() {
        let conf = conf(r#"{"Network":"10.0.0.0/8"}"#);
        let mut seen = 0;
        let choice = choose(&conf, None, None, &BTreeSet::new(), |n| {
            seen = n;
            n - 1
        });
        assert_eq!((seen, choice), (100, Choice::Take(net("10.0.100.0/24"))));
    }
}
