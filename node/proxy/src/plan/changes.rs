use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::{Affinity, Frontend, Shape, Slot, Target};
use crate::model::IpFamily;

/// A frontend before and after; `None` where it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which one.
    pub frontend: Frontend,
    /// Its target before.
    pub old: Option<Target>,
    /// Its target now.
    pub new: Option<Target>,
}

/// Which of some shared things came into use and which went out of it.
#[derive(Debug)]
pub struct Use<K> {
    touched: BTreeMap<K, bool>,
    /// Now in use, and not before.
    pub new: Vec<K>,
    /// No longer in use.
    pub old: Vec<K>,
}

impl<K> Default for Use<K> {
    fn default() -> Self {
        Self {
            touched: BTreeMap::new(),
            new: Vec::new(),
            old: Vec::new(),
        }
    }
}

impl<K: Ord + Clone> Use<K> {
    /// Remembers whether it was in use before the step.
    pub(super) fn touch(&mut self, key: K, counts: &BTreeMap<K, usize>) {
        let was = counts.contains_key(&key);
        self.touched.entry(key).or_insert(was);
    }

    pub(super) fn compare(&mut self, counts: &BTreeMap<K, usize>) {
        for (key, was) in std::mem::take(&mut self.touched) {
            match (was, counts.contains_key(&key)) {
                (false, true) => self.new.push(key),
                (true, false) => self.old.push(key),
                _ => {}
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.old.is_empty()
    }
}

/// What one step of a plan changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Of which family's plan.
    pub family: IpFamily,
    touched: BTreeMap<Frontend, Option<Target>>,
    /// Frontends that are new, gone or lead elsewhere.
    pub frontends: Vec<Change>,
    /// Shapes whose chain is to be made, or is no longer needed.
    pub shapes: Use<Shape>,
    /// The plain shapes in use before and now; `None` if they are the same.
    pub plain: Option<[BTreeSet<Shape>; 2]>,
    /// Addresses of endpoints on this node.
    pub hairpins: Use<IpAddr>,
    /// Ports of Services whose clients keep their endpoints.
    pub affinities: Use<Affinity>,
}

impl Changes {
    /// Of this family, with nothing changed so far.
    pub(super) fn none(family: IpFamily) -> Self {
        Self {
            family,
            ..Self::default()
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty() && self.hairpins.is_empty()
    }

    /// Remembers what a frontend was before the step.
    pub(super) fn touch(&mut self, frontend: Frontend, old: Option<&Target>) {
        self.touched.entry(frontend).or_insert_with(|| old.cloned());
    }

    /// Compares the shapes that were touched with those that are now. Chains of plain shapes are not given up: the
    /// next Service may need them, and they have cost something; those that are there are in `kept`.
    pub(super) fn compare_shapes(&mut self, counts: &BTreeMap<Shape, usize>, kept: &mut BTreeSet<Shape>) {
        self.shapes.compare(counts);
        let mut touched = self.shapes.new.iter().chain(&self.shapes.old);
        if !touched.any(Shape::is_plain) {
            return;
        }
        let after: BTreeSet<Shape> = counts.keys().filter(|shape| shape.is_plain()).cloned().collect();
        let came = |shape: &&Shape| !self.shapes.new.contains(shape);
        let gone = self.shapes.old.iter().filter(|shape| shape.is_plain());
        let before = after.iter().filter(came).chain(gone).cloned().collect();
        self.plain = Some([before, after]);
        self.shapes
            .new
            .retain(|shape| !shape.is_plain() || kept.insert(shape.clone()));
        self.shapes.old.retain(|shape| !shape.is_plain());
    }

    /// Compares what was touched with what is now.
    pub(super) fn compare(&mut self, slots: &HashMap<Frontend, Slot>) {
        for (frontend, old) in std::mem::take(&mut self.touched) {
            let new = slots.get(&frontend).map(|slot| &slot.target);
            if old.as_ref() != new {
                self.frontends.push(Change {
                    frontend,
                    old,
                    new: new.cloned(),
                });
            }
        }
    }
}
