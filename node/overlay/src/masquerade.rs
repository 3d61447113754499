//! The overlay's nftables rules: a table of our own, put in place whole, the host's rules untouched.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use knode_nft::matching::{ipv4_daddr, ipv4_saddr};
use knode_nft::{
    Batch, Chain, ChainKind, CmpOp, Expr, Family, Hook, NatFlags, Rule, Socket, TableRef, Verdict,
};

use crate::error::{Error, Result};

/// Name of the table, family `ip`.
pub const TABLE: &str = "knode-overlay";

const POSTROUTING: &str = "postrouting";
const FORWARD: &str = "forward";
/// `srcnat`.
const PRIORITY_SRCNAT: i32 = 100;
/// `filter`.
const PRIORITY_FILTER: i32 = 0;
const MULTICAST: (Ipv4Addr, u8) = (Ipv4Addr::new(224, 0, 0, 0), 4);

/// What the rules are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masquerade {
    /// The pod network.
    pub network: Ipv4Net,
    /// The node's part of it.
    pub subnet: Ipv4Net,
    /// Masquerade what leaves the pod network; otherwise only let it pass.
    pub enabled: bool,
}

/// The table.
pub(crate) fn table() -> TableRef {
    TableRef::new(Family::Ip, TABLE)
}

impl Masquerade {
    /// The transaction that puts the table in place of an older one.
    pub fn ruleset(&self) -> Batch {
        let mut batch = Batch::new(table());
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        batch.add_chain(&Chain::base(
            FORWARD,
            ChainKind::Filter,
            Hook::Forward,
            PRIORITY_FILTER,
        ));
        for rule in self.forward() {
            batch.append_rule(&rule);
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
        let masquerade = || vec![Expr::Masquerade(NatFlags::FULLY_RANDOM)];
        let (any, not) = (CmpOp::Eq, CmpOp::Neq);
        let unicast = ipv4_daddr(not, MULTICAST.0, MULTICAST.1);
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

/// Removes the table; none is no error.
pub(crate) fn remove(socket: &mut Socket) -> Result<()> {
    let mut batch = Batch::new(table());
    batch.add_table();
    batch.delete_table();
    socket.commit(&batch).map_err(Error::nft("remove masquerading"))
}

fn rule(chain: &str, parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
    Rule::new(chain, parts.into_iter().flatten().collect::<Vec<_>>())
}

fn from(op: CmpOp, net: Ipv4Net) -> Vec<Expr> {
    ipv4_saddr(op, net.network(), net.prefix_len())
}

fn to(op: CmpOp, net: Ipv4Net) -> Vec<Expr> {
    ipv4_daddr(op, net.network(), net.prefix_len())
}
