//! Removes what the other mode, or an upstream kube-proxy of either mode, has left behind; nothing of others.

use knode_nft::iptables::{self, Programs, VARIANTS};
use knode_nft::{Batch, Error as NftError, Expr, Rule, Socket, TableRef};

use crate::iptables::{Saved, cleanup as cleanup_text, is_ours};
use crate::model::IpFamily;
use crate::table::TableConfig;

/// The tables of an upstream kube-proxy in its nftables mode.
const UPSTREAM: &str = "kube-proxy";
/// The tables in which iptables keeps its chains where it is built on nf_tables.
const IPTABLES_TABLES: [&str; 3] = ["filter", "nat", "mangle"];

/// Why something of a proxy's is left.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// nf_tables refused.
    #[error("cannot remove what a proxy has left in nftables")]
    Nftables(#[source] NftError),
    /// iptables refused.
    #[error("cannot remove what a proxy has left in iptables")]
    Iptables(#[source] iptables::Error),
}

/// Removes everything: this proxy's tables, those of upstream's, and the chains of either in iptables. What is not
/// there is fine.
pub fn cleanup(config: &TableConfig) -> Vec<CleanupError> {
    let mut errors = remove_tables(&[&config.name, UPSTREAM]);
    errors.extend(remove_chains());
    errors
}

/// Removes these tables of both families.
pub(crate) fn remove_tables(names: &[&str]) -> Vec<CleanupError> {
    let tables = IpFamily::ALL.into_iter().flat_map(|family| {
        let named = |name: &&str| TableRef::new(family.into(), (*name).to_owned());
        names.iter().map(named).collect::<Vec<_>>()
    });
    failures(tables.map(|table| delete_table(&table)))
}

/// Removes the tables of an upstream kube-proxy.
pub(crate) fn remove_upstream_tables() -> Vec<CleanupError> {
    remove_tables(&[UPSTREAM])
}

/// Removes the chains of a proxy in iptables: those in nf_tables by netlink, the rest with the programs, if they
/// are installed.
pub(crate) fn remove_chains() -> Vec<CleanupError> {
    let mut errors = Vec::new();
    for family in IpFamily::ALL {
        let tables = IPTABLES_TABLES.map(|name| TableRef::new(family.into(), name.to_owned()));
        errors.extend(failures(tables.iter().map(delete_chains)));
        for variant in VARIANTS {
            let programs = Programs::of(family, variant);
            if programs.check().is_ok() {
                errors.extend(restore(&programs).err().map(CleanupError::Iptables));
            }
        }
    }
    errors
}

fn failures(results: impl Iterator<Item = Result<(), NftError>>) -> Vec<CleanupError> {
    results
        .filter_map(Result::err)
        // Someone else was quicker.
        .filter(|error| !error.is_not_found())
        .map(CleanupError::Nftables)
        .collect()
}

fn restore(programs: &Programs) -> Result<(), iptables::Error> {
    let text = cleanup_text(&Saved::parse(&programs.save_now(None)?));
    if text.is_empty() {
        return Ok(());
    }
    programs.restore_now(&text)
}

fn delete_table(table: &TableRef) -> Result<(), NftError> {
    let mut socket = Socket::open()?;
    if !socket.has_table(table)? {
        return Ok(());
    }
    let mut batch = Batch::new(table.clone());
    batch.delete_table();
    socket.commit(&batch)
}

/// The rules that lead to a proxy's chains, then these chains.
fn delete_chains(table: &TableRef) -> Result<(), NftError> {
    let mut socket = Socket::open()?;
    if !socket.has_table(table)? {
        return Ok(());
    }
    let chains = socket.chains(table)?.into_iter();
    let names = chains.map(|listed| match listed.object {
        Ok(chain) => chain.name,
        Err(name) => name,
    });
    let ours: Vec<String> = names.filter(|name| is_ours(name)).collect();
    if ours.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new(table.clone());
    for listed in socket.rules(table)? {
        let handle = listed.handle;
        if let Ok(rule) = listed.object
            && !is_ours(&rule.chain)
            && leads_to_ours(&rule)
        {
            batch.delete_rule(&rule.chain, handle);
        }
    }
    ours.iter().for_each(|chain| batch.flush_chain(chain));
    ours.iter().for_each(|chain| batch.delete_chain(chain));
    socket.commit(&batch)
}

fn leads_to_ours(rule: &Rule) -> bool {
    let mut verdicts = rule.exprs.iter().filter_map(|expr| match expr {
        Expr::Verdict(verdict) => verdict.chain(),
        _ => None,
    });
    verdicts.any(is_ours)
}
