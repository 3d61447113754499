//! Where the sets and maps lead packets to a frontend.

use knode_nft::{Data, Expr, Rule, Verdict};

use crate::plan::{Frontend, Kind};
use crate::table::{Actual, Decoder, NO_ENDPOINTS, REJECT, SERVICES, counted_sets, members};

/// Chains of chains are not longer than this.
const LONGEST: usize = 32;

/// What is done with packets to a frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leads {
    /// This chain does it.
    Chain(String),
    /// They are discarded.
    Drop,
}

/// The rules of a chain.
pub(super) fn chain<'a>(table: &'a Actual, name: &str) -> &'a [Rule] {
    table.rules.get(name).map(Vec::as_slice).unwrap_or_default()
}

/// All frontends in the table.
pub(super) fn frontends(table: &Actual) -> impl Iterator<Item = Frontend> {
    let decoder = Decoder(table.family);
    let keys = counted_sets().flat_map(|set| table.elements.get(set).into_iter().flatten());
    keys.filter_map(move |(key, _)| Some(decoder.frontend(key)?.0))
}

/// Where packets to this frontend are led; `None` if no Service has it.
pub(super) fn leads(table: &Actual, frontend: &Frontend) -> Option<Leads> {
    let key = Decoder(table.family).key(frontend);
    let element = |set: &str| table.elements.get(set).and_then(|elements| elements.get(&key));
    match element(SERVICES) {
        Some(Some(Data::Verdict(Verdict::Drop))) => return Some(Leads::Drop),
        Some(Some(Data::Verdict(verdict))) => {
            return verdict.chain().map(|name| Leads::Chain(name.to_owned()));
        }
        _ => {}
    }
    if element(NO_ENDPOINTS).is_some() {
        return Some(Leads::Chain(REJECT.to_owned()));
    }
    let kind = Kind::PLAIN
        .into_iter()
        .find(|kind| element(members(*kind)).is_some())?;
    let mut name = kind.word();
    for _ in 0..LONGEST {
        let holds = |rule: &&Rule| {
            rule.exprs.iter().all(|expr| match expr {
                Expr::Lookup { set, dreg: None, .. } => element(set).is_some(),
                _ => true,
            })
        };
        let rule = chain(table, name).iter().find(holds)?;
        match rule.exprs.last() {
            Some(Expr::Verdict(Verdict::Goto(to))) if !draws(table, name) => name = to,
            _ => break,
        }
    }
    Some(Leads::Chain(name.to_owned()))
}

fn draws(table: &Actual, name: &str) -> bool {
    let mut exprs = chain(table, name).iter().flat_map(|rule| &rule.exprs);
    exprs.any(|expr| matches!(expr, Expr::NumGen { .. }))
}
