//! Which pod has which range. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Users in a range.
pub(super) const LENGTH: u32 = 65536;
/// The last range whose users all have numbers.
const LAST: u32 = u32::MAX / LENGTH - 1;

/// The ranges that are taken, by the uid of the pod: the number of the range, from 1 on (0 are the node's own users).
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(BTreeMap<String, u32>);

impl Ranges {
    /// The first user of the pod's range, and whether it has it only now; none if all are taken.
    pub(super) fn give(&mut self, uid: &str) -> Option<(u32, bool)> {
        if let Some(number) = self.0.get(uid) {
            return Some((number * LENGTH, false));
        }
        let taken: BTreeSet<u32> = self.0.values().copied().collect();
        let free = (1..=LAST).find(|number| !taken.contains(number))?;
        self.0.insert(uid.to_owned(), free);
        Some((free * LENGTH, true))
    }

    /// A pod has the range with this first user already.
    pub(super) fn take(&mut self, uid: &str, first: u32) {
        self.0.insert(uid.to_owned(), first / LENGTH);
    }

    /// The pod is gone.
    pub(super) fn release(&mut self, uid: &str) {
        self.0.remove(uid);
    }
}
