use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use knode_nft::{Data, Element};

use super::layout::{member_element, self_element, verdict_element};
use crate::model::{Direction, IpFamily};
use crate::plan::Planner;

/// Set: addresses of isolated pods, twice. No policy keeps a pod from itself.
pub const SELF: &str = "self";

/// What an element has beside its key: the last key of a range, and data.
pub type Found = (Option<Vec<u8>>, Option<Data>);

/// The map of a direction: address of an isolated pod → the chain of its shape.
pub fn verdict_map(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "to-pod",
        Direction::Egress => "from-pod",
    }
}

/// The isolated addresses of a family.
fn isolated(plan: &Planner, family: IpFamily) -> BTreeSet<IpAddr> {
    Direction::ALL
        .into_iter()
        .flat_map(|direction| plan.verdicts(direction).keys().copied())
        .filter(|ip| IpFamily::of(*ip) == family)
        .collect()
}

/// All elements that the plan asks for, by set; a set without any has an empty list.
pub fn elements(plan: &Planner, family: IpFamily) -> HashMap<String, Vec<Element>> {
    let mut all = HashMap::new();
    for key in plan.sets() {
        let members = plan.members(&key);
        let ours = members.iter().filter(|member| member.family() == family);
        let list = ours.map(|member| member_element(&key, member)).collect();
        all.insert(key.name(), list);
    }
    for direction in Direction::ALL {
        let verdicts = plan.verdicts(direction).iter();
        let ours = verdicts.filter(|(ip, _)| IpFamily::of(**ip) == family);
        let list = ours.map(|(ip, shape)| verdict_element(*ip, shape)).collect();
        all.insert(verdict_map(direction).to_owned(), list);
    }
    let selves = isolated(plan, family).into_iter().map(self_element).collect();
    all.insert(SELF.to_owned(), selves);
    all
}
