//! From the model to frontends and their targets; pure, and incremental.

mod assign;
mod changes;
mod frontend;
mod shape;
mod target;
mod usable;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

pub use changes::{Change, Changes, Use};
pub use frontend::{Frontend, Place};
pub use shape::{Kind, PLAIN_LIMIT, RESERVED, Shape, Sticky};
pub(crate) use target::place_in_lists;
pub use target::{Affinity, Backends, KEPT, Target, targets};
pub(crate) use usable::Usable;

use crate::model::{Endpoint, IpFamily, Model, Name};

/// What one packet destination leads to, and which Service says so.
#[derive(Debug, Clone)]
struct Slot {
    owner: Name,
    target: Target,
}

/// The orders in which endpoints stood before, to be kept where possible; the second list is of those for
/// clients outside.
pub type Orders = HashMap<Frontend, [Vec<Endpoint>; 2]>;

/// Every frontend of one family with its target. Where two Services claim the same frontend, the first by name has it.
#[derive(Debug, Default)]
pub struct Plan {
    family: IpFamily,
    slots: HashMap<Frontend, Slot>,
    claims: HashMap<Name, Box<[Frontend]>>,
    contested: BTreeMap<Frontend, BTreeSet<Name>>,
    shapes: BTreeMap<Shape, usize>,
    /// The plain shapes that have a chain, in use or not.
    kept: BTreeSet<Shape>,
    hairpins: BTreeMap<IpAddr, usize>,
    affinities: BTreeMap<Affinity, usize>,
    /// How many frontends drop everything.
    dropping: usize,
    orders: Orders,
}

impl Plan {
    /// A plan of the whole model. The endpoints of each frontend keep the order that `orders` has for them.
    pub fn build(model: &Model, family: IpFamily, orders: Orders) -> Self {
        let mut plan = Self {
            orders,
            ..Self::empty(family)
        };
        let names: BTreeSet<Name> = model.names().cloned().collect();
        plan.settle(model, names);
        plan.orders = Orders::new();
        plan
    }

    /// A plan without frontends.
    pub fn empty(family: IpFamily) -> Self {
        let reserved = |kind| (1..=RESERVED).map(move |count| Shape::plain(kind, count));
        Self {
            family,
            kept: Kind::PLAIN.into_iter().flat_map(reserved).collect(),
            ..Self::default()
        }
    }

    /// Keeps the chains of these plain shapes, which an earlier run has made.
    pub fn keep(&mut self, shapes: impl IntoIterator<Item = Shape>) {
        self.kept.extend(shapes.into_iter().filter(Shape::is_plain));
    }

    /// Of which addresses it is.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// The Service that has a frontend.
    pub fn owner(&self, frontend: &Frontend) -> Option<&Name> {
        self.slots.get(frontend).map(|slot| &slot.owner)
    }

    /// All frontends with their targets.
    pub fn targets(&self) -> impl Iterator<Item = (&Frontend, &Target)> {
        self.slots.iter().map(|(frontend, slot)| (frontend, &slot.target))
    }

    /// The target of a frontend.
    pub fn get(&self, frontend: &Frontend) -> Option<&Target> {
        self.slots.get(frontend).map(|slot| &slot.target)
    }

    /// The shapes in use.
    pub fn shapes(&self) -> impl Iterator<Item = Shape> {
        self.shapes.keys().cloned()
    }

    /// The shapes that have a chain: those in use, and plain ones that were or may be.
    pub fn chained(&self) -> impl Iterator<Item = &Shape> {
        let special = self.shapes.keys().filter(|shape| !shape.is_plain());
        self.kept.iter().chain(special)
    }

    /// The addresses of endpoints on this node, whose packets may come back to themselves.
    pub fn hairpins(&self) -> impl Iterator<Item = IpAddr> {
        self.hairpins.keys().copied()
    }

    /// The ports of Services whose clients keep their endpoints.
    pub fn affinities(&self) -> impl Iterator<Item = Affinity> {
        self.affinities.keys().copied()
    }

    /// How many frontends drop packets of clients inside, and how many those of clients outside, because the
    /// endpoints that there are lie elsewhere.
    pub fn without_local(&self) -> [usize; 2] {
        let keeps_none = |shape: &Shape| shape.kind.keeps() && shape.kept == 0;
        let outside = self.shapes.iter().filter(|(shape, _)| keeps_none(shape));
        [self.dropping, outside.map(|(_, count)| count).sum()]
    }

    /// The number of Services that have a frontend.
    pub fn services(&self) -> usize {
        self.claims.len()
    }

    /// Brings the plan up to date with the model, in which only these Services changed since the last time.
    pub fn settle(&mut self, model: &Model, dirty: impl IntoIterator<Item = Name>) -> Changes {
        let mut changes = Changes::none(self.family);
        for name in dirty {
            let wanted = targets(model, &name, self.family);
            let before = self.claims.remove(&name).unwrap_or_default();
            for frontend in before.iter().filter(|frontend| !wanted.contains_key(frontend)) {
                self.release(model, *frontend, &name, &mut changes);
            }
            if !wanted.is_empty() {
                self.claims.insert(name.clone(), wanted.keys().copied().collect());
            }
            for (frontend, target) in wanted {
                self.claim(frontend, &name, target, &mut changes);
            }
        }
        changes.compare(&self.slots);
        changes.compare_shapes(&self.shapes, &mut self.kept);
        changes.hairpins.compare(&self.hairpins);
        changes.affinities.compare(&self.affinities);
        changes
    }

    fn claim(&mut self, frontend: Frontend, name: &Name, target: Target, changes: &mut Changes) {
        match self.slots.get(&frontend).map(|slot| slot.owner.clone()) {
            Some(owner) if owner != *name => {
                let claimers = self.contested.entry(frontend).or_default();
                claimers.extend([owner.clone(), name.clone()]);
                if *name < owner {
                    self.put(frontend, name, target, changes);
                }
            }
            _ => self.put(frontend, name, target, changes),
        }
    }

    fn release(&mut self, model: &Model, frontend: Frontend, name: &Name, changes: &mut Changes) {
        let mut heirs = BTreeSet::new();
        if let Some(claimers) = self.contested.get_mut(&frontend) {
            claimers.remove(name);
            heirs.clone_from(claimers);
        }
        if heirs.len() < 2 {
            self.contested.remove(&frontend);
        }
        if self.slots.get(&frontend).is_none_or(|slot| slot.owner != *name) {
            return;
        }
        let family = self.family;
        let inherit = |heir: Name| Some((targets(model, &heir, family).remove(&frontend)?, heir));
        match heirs.into_iter().find_map(inherit) {
            Some((target, heir)) => self.put(frontend, &heir, target, changes),
            None => self.take(frontend, changes),
        }
    }

    fn put(&mut self, frontend: Frontend, owner: &Name, mut target: Target, changes: &mut Changes) {
        let old = self.slots.remove(&frontend);
        changes.touch(frontend, old.as_ref().map(|slot| &slot.target));
        match &old {
            Some(slot) => target.keep_order(slot.target.lists()),
            None => {
                let before = self.orders.remove(&frontend).unwrap_or_default();
                target.keep_order([&before[0], &before[1]]);
            }
        }
        let old = old.map(|slot| slot.target);
        self.count(&target, old.as_ref(), true, changes);
        if let Some(old) = old {
            self.count(&old, Some(&target), false, changes);
        }
        self.slots.insert(
            frontend,
            Slot {
                owner: owner.clone(),
                target,
            },
        );
    }

    fn take(&mut self, frontend: Frontend, changes: &mut Changes) {
        let Some(old) = self.slots.remove(&frontend) else {
            return;
        };
        changes.touch(frontend, Some(&old.target));
        self.count(&old.target, None, false, changes);
    }

    /// Counts what a target takes, or no longer takes; endpoints that `other` has at the same place count there.
    fn count(&mut self, target: &Target, other: Option<&Target>, more: bool, changes: &mut Changes) {
        if *target == Target::Drop {
            self.dropping = if more {
                self.dropping + 1
            } else {
                self.dropping - 1
            };
        }
        if let Some(shape) = target.shape() {
            changes.shapes.touch(shape.clone(), &self.shapes);
            adjust(&mut self.shapes, shape, more);
        }
        if let Some(affinity) = target.affinity() {
            changes.affinities.touch(affinity, &self.affinities);
            adjust(&mut self.affinities, affinity, more);
        }
        for endpoint in target.not_in(other).filter(|endpoint| endpoint.local) {
            changes.hairpins.touch(endpoint.ip, &self.hairpins);
            adjust(&mut self.hairpins, endpoint.ip, more);
        }
    }
}

fn adjust<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, more: bool) {
    match (counts.get_mut(&key), more) {
        (Some(count), true) => *count += 1,
        (None, true) => {
            counts.insert(key, 1);
        }
        (Some(count), false) if *count > 1 => *count -= 1,
        (_, false) => {
            counts.remove(&key);
        }
    }
}
