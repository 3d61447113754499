//! Which subnets a node takes; pure (`pkg/subnet/etcd`, `tryAcquireLease` and `allocateSubnet`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::key::SubnetKey;
use crate::config::NetConf;

/// From so many free subnets one is picked at random, so that nodes that start together seldom collide.
const CANDIDATES: usize = 100;

/// What to do for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Renew the lease that the node has.
    Renew(SubnetKey),
    /// Take these free subnets.
    Take(SubnetKey),
    /// None is free.
    Exhausted(IpNet),
}

/// Chooses: the subnets that are the node's by its address, else those it had before if they are free, else some of
/// the first free ones. `random` picks among so many.
pub(super) fn choose(
    conf: &NetConf,
    mine: Option<SubnetKey>,
    before: Option<SubnetKey>,
    taken: &[SubnetKey],
    mut random: impl FnMut(usize) -> usize,
) -> Choice {
    if let Some(mine) = mine.filter(|key| fits(conf, *key)) {
        return Choice::Renew(mine);
    }
    let v4 = Pool::ipv4(conf);
    let v6 = Pool::ipv6(conf);
    let taken_v4: Vec<IpNet> = taken.iter().map(|k| k.ipv4.into()).collect();
    let taken_v6: Vec<IpNet> = taken.iter().filter_map(|k| Some(k.ipv6?.into())).collect();
    if let Some(before) = before.filter(|key| fits(conf, *key)) {
        let free = is_free(&taken_v4, before.ipv4.into());
        if free && before.ipv6.is_none_or(|net| is_free(&taken_v6, net.into())) {
            return Choice::Take(before);
        }
    }
    let Some(ipv4) = v4.pick(&taken_v4, &mut random).and_then(as_v4) else {
        return Choice::Exhausted(conf.network.into());
    };
    let ipv6 = match v6 {
        None => None,
        Some(pool) => match pool.pick(&taken_v6, &mut random).and_then(as_v6) {
            Some(net) => Some(net),
            None => return Choice::Exhausted(pool.network),
        },
    };
    Choice::Take(SubnetKey { ipv4, ipv6 })
}

/// Whether subnets are such as the configuration lets a node have.
pub(super) fn fits(conf: &NetConf, key: SubnetKey) -> bool {
    let v6 = match (Pool::ipv6(conf), key.ipv6) {
        (None, None) => true,
        (Some(pool), Some(net)) => pool.fits(net.into()),
        _ => false,
    };
    v6 && Pool::ipv4(conf).fits(key.ipv4.into())
}

fn is_free(taken: &[IpNet], net: IpNet) -> bool {
    !taken.iter().any(|t| t.contains(&net) || net.contains(t))
}

/// The subnets of one family that may be leased.
struct Pool {
    network: IpNet,
    length: u8,
    /// First and last subnet. The first of the network is skipped unless asked for.
    min: u128,
    max: u128,
}

impl Pool {
    fn ipv4(conf: &NetConf) -> Self {
        let bounds = (conf.subnet_min.map(IpAddr::V4), conf.subnet_max.map(IpAddr::V4));
        Self::new(conf.network.into(), conf.subnet_len, bounds)
    }

    fn ipv6(conf: &NetConf) -> Option<Self> {
        let ipv6 = conf.ipv6?;
        let bounds = (ipv6.subnet_min.map(IpAddr::V6), ipv6.subnet_max.map(IpAddr::V6));
        Some(Self::new(ipv6.network.into(), ipv6.subnet_len, bounds))
    }

    fn new(network: IpNet, length: u8, (min, max): (Option<IpAddr>, Option<IpAddr>)) -> Self {
        let size = size(network, length);
        Self {
            network,
            length,
            min: min.map_or_else(|| number(network.network()).saturating_add(size), number),
            max: max.map_or_else(|| number(network.broadcast()) - (size - 1), number),
        }
    }

    fn fits(&self, net: IpNet) -> bool {
        net.prefix_len() == self.length
            && net.addr() == net.network()
            && (self.min..=self.max).contains(&number(net.addr()))
    }

    /// All of them, in order.
    fn subnets(&self) -> impl Iterator<Item = IpNet> + use<> {
        let (network, length, max) = (self.network, self.length, self.max);
        let step = size(network, length);
        let next = move |at: &u128| at.checked_add(step).filter(|at| *at <= max);
        let first = Some(self.min).filter(|at| *at <= max);
        std::iter::successors(first, next).filter_map(move |at| IpNet::new(address(network, at), length).ok())
    }

    fn pick(&self, taken: &[IpNet], random: &mut impl FnMut(usize) -> usize) -> Option<IpNet> {
        let free = self.subnets().filter(|net| is_free(taken, *net));
        let candidates: Vec<_> = free.take(CANDIDATES).collect();
        let chosen = random(candidates.len().max(1));
        candidates.get(chosen % candidates.len().max(1)).copied()
    }
}

/// Addresses in a subnet of that length.
fn size(network: IpNet, length: u8) -> u128 {
    1 << (network.max_prefix_len() - length)
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn address(network: IpNet, number: u128) -> IpAddr {
    match network {
        // Bounded by the network's last address.
        IpNet::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from(number).into(),
    }
}

fn as_v4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

fn as_v6(net: IpNet) -> Option<Ipv6Net> {
    match net {
        IpNet::V6(net) => Some(net),
        IpNet::V4(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> NetConf {
        NetConf::parse(text).unwrap()
    }

    /// `10.0.1.0/24` or `10.0.1.0/24&fd00:1::/64`.
    fn net(text: &str) -> SubnetKey {
        SubnetKey::parse(&text.replace('/', "-")).unwrap()
    }

    fn subnets(conf: &NetConf) -> impl Iterator<Item = IpNet> + use<> {
        Pool::ipv4(conf).subnets()
    }

    fn pick(conf: &NetConf, mine: Option<&str>, before: Option<&str>, taken: &[&str]) -> Choice {
        let taken: Vec<_> = taken.iter().map(|t| net(t)).collect();
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
            Choice::Exhausted("10.0.0.0/22".parse().unwrap())
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
        let choice = choose(&conf, None, None, &[], |n| {
            seen = n;
            n - 1
        });
        assert_eq!((seen, choice), (100, Choice::Take(net("10.0.100.0/24"))));
    }

    const DUAL: &str = r#"{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48"}"#;

    #[test]
    fn both_families_are_chosen_together() {
        let conf = conf(DUAL);
        let first = "10.0.1.0/24&fd00:0:0:1::/64";
        assert_eq!(pick(&conf, None, None, &[]), Choice::Take(net(first)));
        let taken = [first, "10.0.2.0/24", "10.0.9.0/24&fd00:0:0:2::/64"];
        let next = net("10.0.3.0/24&fd00:0:0:3::/64");
        assert_eq!(pick(&conf, None, None, &taken), Choice::Take(next));
        assert_eq!(pick(&conf, Some(first), None, &taken), Choice::Renew(net(first)));
        let half = pick(&conf, None, Some("10.0.8.0/24&fd00:0:0:2::/64"), &taken);
        assert_eq!(half, Choice::Take(next), "one of the two is somebody else's");
    }

    #[test]
    fn a_lease_of_the_other_stack_does_not_fit() {
        let (dual, single) = (conf(DUAL), conf(r#"{"Network":"10.0.0.0/16"}"#));
        assert!(!fits(&dual, net("10.0.1.0/24")));
        assert!(!fits(&single, net("10.0.1.0/24&fd00:0:0:1::/64")));
        assert!(!fits(&dual, net("10.0.1.0/24&fd00::/64")), "the first is skipped");
    }

    #[test]
    fn ipv6_can_be_exhausted_alone() {
        let conf = conf(
            r#"{"Network":"10.0.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/62","IPv6SubnetLen":64,"IPv6SubnetMin":"fd00:0:0:3::"}"#,
        );
        let taken = ["10.0.1.0/24&fd00:0:0:3::/64"];
        let network = "fd00::/62".parse().unwrap();
        assert_eq!(pick(&conf, None, None, &taken), Choice::Exhausted(network));
        let last = Pool::ipv6(&conf).unwrap().subnets().last().unwrap();
        assert_eq!(last.to_string(), "fd00:0:0:3::/64");
        let end = super::Pool::new("ffff::/16".parse().unwrap(), 18, (None, None));
        assert_eq!(end.subnets().count(), 3);
    }
}
