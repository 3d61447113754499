//! What pods send to others than pods gets the host's address, where the overlay does not see to it: one rule of each
//! family in an nftables table of our own, a chain for each network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use knode_nft::matching::{daddr, saddr};
use knode_nft::{Batch, Chain, ChainKind, CmpOp, Expr, Family, Hook, NatFlags, Rule, Socket, TableRef};

use crate::config::Subnet;
use crate::error::{Error, Result};

/// Name of the tables, one of the family `ip` and one of `ip6`.
const TABLE: &str = "knode-podnet";
const PRIORITY_SRCNAT: i32 = 100;
const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

/// Sees to it that packets from `subnet` to outside of it and of `inside` are masqueraded. Rules that are there already
/// are left alone. `network` names the rules.
///
/// # Errors
/// Those of nftables.
pub fn ensure(network: &str, subnet: Subnet, inside: &[IpNet]) -> Result<()> {
    let failed = || Error::nft("masquerade what pods send");
    let mut socket = Socket::open().map_err(failed())?;
    for pods in subnet.networks() {
        let (table, rule) = (table(family(pods)), rule(network, pods, inside));
        if !is_there(&mut socket, &table, &rule).map_err(failed())? {
            socket.commit(&put(table, &rule)).map_err(failed())?;
        }
    }
    Ok(())
}

/// Takes the rules of a network away; none is no error.
///
/// # Errors
/// Those of nftables.
pub fn remove(network: &str) -> Result<()> {
    let failed = || Error::nft("masquerade no longer what pods send");
    let mut socket = Socket::open().map_err(failed())?;
    for family in FAMILIES {
        let table = table(family);
        if !socket.has_table(&table).map_err(failed())? {
            continue;
        }
        let chains = socket.chains(&table).map_err(failed())?;
        let names = chains.iter().map(|chain| match &chain.object {
            Ok(chain) => chain.name.as_str(),
            Err(name) => name.as_str(),
        });
        let (own, others): (Vec<_>, Vec<_>) = names.partition(|name| *name == network);
        let mut batch = Batch::new(table);
        if others.is_empty() {
            batch.delete_table();
        } else if !own.is_empty() {
            batch.flush_chain(network);
            batch.delete_chain(network);
        }
        if !batch.is_empty() {
            socket.commit(&batch).map_err(failed())?;
        }
    }
    Ok(())
}

fn table(family: Family) -> TableRef {
    TableRef::new(family, TABLE)
}

fn family(net: IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::Ip,
        IpNet::V6(_) => Family::Ip6,
    }
}

fn multicast(family: Family) -> IpNet {
    if family == Family::Ip6 {
        Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8).into()
    } else {
        Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4).into()
    }
}

/// The one rule of a network's chain.
fn rule(network: &str, pods: IpNet, inside: &[IpNet]) -> Rule {
    let to_outside = |net: &IpNet| daddr(CmpOp::Neq, net.network(), net.prefix_len());
    let from: IpAddr = pods.network();
    let mut exprs = saddr(CmpOp::Eq, from, pods.prefix_len());
    let not = [pods, multicast(family(pods))];
    let same_family = inside.iter().filter(|net| family(**net) == family(pods));
    exprs.extend(not.iter().chain(same_family).flat_map(to_outside));
    exprs.push(Expr::Masquerade(NatFlags::FULLY_RANDOM));
    Rule::new(network, exprs)
}

fn is_there(
    socket: &mut Socket,
    table: &TableRef,
    rule: &Rule,
) -> std::result::Result<bool, knode_nft::Error> {
    if !socket.has_table(table)? {
        return Ok(false);
    }
    let rules = socket.rules(table)?;
    let mut own = rules.iter().filter(|listed| match &listed.object {
        Ok(other) => other.chain == rule.chain,
        Err(_) => false,
    });
    Ok(matches!((own.next(), own.next()), (Some(one), None) if one.object.as_ref() == Ok(rule)))
}

fn put(table: TableRef, rule: &Rule) -> Batch {
    let mut batch = Batch::new(table);
    batch.add_table();
    let chain = Chain::base(&rule.chain, ChainKind::Nat, Hook::Postrouting, PRIORITY_SRCNAT);
    batch.add_chain(&chain);
    batch.flush_chain(&rule.chain);
    batch.append_rule(rule);
    batch
}
