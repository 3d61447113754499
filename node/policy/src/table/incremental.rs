use std::net::IpAddr;

use knode_nft::{Batch, Chain, Element};

use super::chains;
use super::elements::{SELF, verdict_map};
use super::layout::{Layout, member_element, self_element, table, verdict_element};
use crate::model::{Direction, IpFamily};
use crate::plan::{Changes, Member, Planner, SetKey, VerdictChange};

/// The commands for what changed in the plan, for the table of one family, which is there. What stays as it is is
/// not touched.
pub fn batch(name: &str, family: IpFamily, plan: &Planner, changes: &Changes) -> Batch {
    let mut batch = Batch::new(table(name, family));
    let layout = Layout(family);
    let verdicts: Vec<&VerdictChange> = changes
        .verdicts
        .iter()
        .filter(|change| IpFamily::of(change.ip) == family)
        .collect();
    for key in &changes.sets.new {
        batch.add_set(&layout.set(key));
        batch.add_elements(&key.name(), ours(family, key, &plan.members(key)));
    }
    for key in &changes.chains.new {
        batch.add_chain(&Chain::plain(key.name()));
    }
    for key in &changes.rewritten {
        batch.flush_chain(&key.name());
    }
    for key in changes.chains.new.iter().chain(&changes.rewritten) {
        chains::rules(plan, layout, key)
            .iter()
            .for_each(|rule| batch.append_rule(rule));
    }
    for (key, delta) in &changes.members {
        batch.delete_elements(&key.name(), ours(family, key, &delta.old));
        batch.add_elements(&key.name(), ours(family, key, &delta.new));
    }
    lead(&mut batch, &verdicts);
    // Nothing leads to them any more; the shapes were listed first.
    for key in &changes.chains.old {
        batch.delete_chain(&key.name());
    }
    for key in &changes.sets.old {
        batch.delete_set(&key.name());
    }
    batch
}

/// The members of a family.
fn ours(family: IpFamily, key: &SetKey, members: &[Member]) -> Vec<Element> {
    let ours = members.iter().filter(|member| member.family() == family);
    ours.map(|member| member_element(key, member)).collect()
}

fn lead(batch: &mut Batch, verdicts: &[&VerdictChange]) {
    for direction in Direction::ALL {
        let at = direction as usize;
        let differing = || {
            verdicts
                .iter()
                .filter(move |change| change.old[at] != change.new[at])
        };
        let old = differing().filter_map(|change| Some(verdict_element(change.ip, change.old[at].as_ref()?)));
        batch.delete_elements(verdict_map(direction), old);
        let new = differing().filter_map(|change| Some(verdict_element(change.ip, change.new[at].as_ref()?)));
        batch.add_elements(verdict_map(direction), new);
    }
    let was = |change: &VerdictChange| change.old.iter().any(Option::is_some);
    let is = |change: &VerdictChange| change.new.iter().any(Option::is_some);
    let selves = |wanted: &dyn Fn(&VerdictChange) -> bool| -> Vec<IpAddr> {
        verdicts
            .iter()
            .filter(|change| wanted(change))
            .map(|change| change.ip)
            .collect()
    };
    let gone = selves(&|change| was(change) && !is(change));
    let come = selves(&|change| is(change) && !was(change));
    batch.delete_elements(SELF, gone.into_iter().map(self_element));
    batch.add_elements(SELF, come.into_iter().map(self_element));
}
