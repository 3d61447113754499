//! The overlay's nftables rules: a table of our own, put in place whole, the host's rules untouched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use knode_nft::matching::{daddr, saddr};
use knode_nft::{
    Batch, Chain, ChainKind, CmpOp, Expr, Family, Hook, NatFlags, Rule, Socket, TableRef, Verdict,
};

use crate::error::{Error, Result};

/// Name of the tables, one in the family `ip` and one in `ip6`.
pub const TABLE: &str = "knode-overlay";

const POSTROUTING: &str = "postrouting";
const FORWARD: &str = "forward";
/// `srcnat`.
const PRIORITY_SRCNAT: i32 = 100;
/// `filter`.
const PRIORITY_FILTER: i32 = 0;
const MULTICAST: (Ipv4Addr, u8) = (Ipv4Addr::new(224, 0, 0, 0), 4);
const MULTICAST_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);

/// What the rules of one family are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masquerade {
    /// The pod network.
    pub network: IpNet,
    /// The node's part of it.
    pub subnet: IpNet,
    /// Masquerade what leaves the pod network; otherwise only let it pass.
    pub enabled: bool,
    /// How.
    pub rules: Rules,
}

/// What an administrator can have otherwise with the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Let the pod network's packets pass (`--iptables-forward-rules`).
    pub forward: bool,
    /// Choose ports of masqueraded connections at random, without looking at the old ones; otherwise the old one is
    /// kept where it is free (`--ip-masq-fully-random-disable`).
    pub random_ports: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            forward: true,
            random_ports: true,
        }
    }
}

/// The table of a family.
pub(crate) fn table(family: Family) -> TableRef {
    TableRef::new(family, TABLE)
}

/// Whether a table is one of ours.
pub(crate) fn is_ours(other: &TableRef) -> bool {
    [Family::Ip, Family::Ip6].iter().any(|f| *other == table(*f))
}

impl Masquerade {
    /// The transaction that puts the table in place of an older one.
    pub fn ruleset(&self) -> Batch {
        let mut batch = Batch::new(table(self.family()));
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        if self.rules.forward {
            batch.add_chain(&Chain::base(
                FORWARD,
                ChainKind::Filter,
                Hook::Forward,
                PRIORITY_FILTER,
            ));
            for rule in self.forward() {
                batch.append_rule(&rule);
            }
        }
        if self.enabled {
            batch.add_chain(&Chain::base(
                POSTROUTING,
                ChainKind::Nat,
                Hook::Postrouting,
                PRIORITY_SRCNAT,
            ));
            for rule in self.postrouting() {
                batch.append_rule(&rule);
            }
        }
        batch
    }

    /// Puts the rules in place.
    ///
    /// # Errors
    /// [`Error::Nft`].
    pub(crate) fn apply(&self, socket: &mut Socket) -> Result<()> {
        socket
            .commit(&self.ruleset())
            .map_err(Error::nft("set up masquerading"))
    }

    /// The family that they are for.
    pub(crate) fn family(&self) -> Family {
        if self.network.addr().is_ipv4() {
            Family::Ip
        } else {
            Family::Ip6
        }
    }

    fn forward(&self) -> [Rule; 2] {
        let accept = || Expr::Verdict(Verdict::Accept);
        [
            rule(FORWARD, [from(CmpOp::Eq, self.network), vec![accept()]]),
            rule(FORWARD, [to(CmpOp::Eq, self.network), vec![accept()]]),
        ]
    }

    /// Upstream's rules (`pkg/trafficmngr`): inside the pod network nothing is changed; what leaves it has the node's
    /// address; strangers keep theirs towards this node's pods and get the node's towards other nodes' pods, so
    /// that the answer comes back this way.
    fn postrouting(&self) -> [Rule; 4] {
        let stay = || vec![Expr::Verdict(Verdict::Return)];
        let ports = if self.rules.random_ports {
            NatFlags::FULLY_RANDOM
        } else {
            NatFlags::NONE
        };
        let masquerade = || vec![Expr::Masquerade(ports)];
        let (any, not) = (CmpOp::Eq, CmpOp::Neq);
        let (multicast, bits): (IpAddr, u8) = match self.network {
            IpNet::V4(_) => (MULTICAST.0.into(), MULTICAST.1),
            IpNet::V6(_) => (MULTICAST_V6.0.into(), MULTICAST_V6.1),
        };
        let unicast = daddr(not, multicast, bits);
        [
            rule(
                POSTROUTING,
                [from(any, self.network), to(any, self.network), stay()],
            )
            .comment("pod to pod"),
            rule(POSTROUTING, [from(any, self.network), unicast, masquerade()]).comment("pod to outside"),
            rule(POSTROUTING, [to(any, self.subnet), stay()]).comment("outside to a pod here"),
            rule(
                POSTROUTING,
                [from(not, self.network), to(any, self.network), masquerade()],
            )
            .comment("outside to a pod elsewhere"),
        ]
    }
}

/// Removes a family's table; none is no error.
pub(crate) fn remove(socket: &mut Socket, family: Family) -> Result<()> {
    let mut batch = Batch::new(table(family));
    batch.add_table();
    batch.delete_table();
    socket.commit(&batch).map_err(Error::nft("remove masquerading"))
}

/// Removes a family's table where there is one.
pub(crate) fn remove_if_present(socket: &mut Socket, family: Family) -> Result<()> {
    let there = socket
        .has_table(&table(family))
        .map_err(Error::nft("look for masquerading"))?;
    if there { remove(socket, family) } else { Ok(()) }
}

fn rule(chain: &str, parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
    Rule::new(chain, parts.into_iter().flatten().collect::<Vec<_>>())
}

fn from(op: CmpOp, net: IpNet) -> Vec<Expr> {
    saddr(op, net.network(), net.prefix_len())
}

fn to(op: CmpOp, net: IpNet) -> Vec<Expr> {
    daddr(op, net.network(), net.prefix_len())
}
