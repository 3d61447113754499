use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use super::changes::VerdictChange;
use super::keys::Shape;
use super::rules::RuleBook;
use crate::model::{Direction, IpFamily, Key, Model, Name, Policy};

/// The younger pod has an address that two name.
type Rank = (i64, Key);

/// A pod of this node.
#[derive(Debug, Default)]
struct Target {
    /// The policies that select it, by name in order; of its namespace.
    policies: Vec<Name>,
    ips: Box<[IpAddr]>,
    created: i64,
    /// By direction; `None` where it is not isolated.
    shapes: [Option<Shape>; 2],
}

/// This node's pods, and where their packets are led.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pods: HashMap<Name, HashMap<Name, Target>>,
    claims: HashMap<IpAddr, Vec<Rank>>,
    verdicts: [BTreeMap<IpAddr, Shape>; 2],
    /// Pods to be looked at again.
    dirty: HashSet<Key>,
    /// Of what changed since the last time, what it was then.
    before: HashMap<IpAddr, [Option<Shape>; 2]>,
}

impl Targets {
    /// A pod came, changed or went; it is looked at when the plan is settled.
    pub fn pod_changed(&mut self, model: &Model, key: &Key) {
        let policies = match (
            model.pod(key).filter(|pod| pod.local),
            model.space(&key.namespace),
        ) {
            (Some(pod), Some(space)) => {
                let selecting = space
                    .policies
                    .iter()
                    .filter(|(_, policy)| policy.selects(&pod.labels));
                selecting.map(|(name, _)| name.clone()).collect()
            }
            _ => Vec::new(),
        };
        let is_local = model.pod(key).is_some_and(|pod| pod.local);
        let known = self.pods.entry(key.namespace.clone()).or_default();
        if is_local {
            known.entry(key.name.clone()).or_default().policies = policies;
        }
        if is_local || known.contains_key(&key.name) {
            self.dirty.insert(key.clone());
        }
        self.forget_empty(&key.namespace);
    }

    /// A policy came, changed or went: its namespace's pods of this node are asked.
    pub fn policy_changed(&mut self, model: &Model, key: &Key, policy: Option<&Policy>) {
        let Some(space) = model.space(&key.namespace) else {
            return;
        };
        for (name, target) in self.pods.get_mut(&key.namespace).into_iter().flatten() {
            let labels = space.pods.get(name).map(|pod| &pod.labels);
            let selects = policy
                .zip(labels)
                .is_some_and(|(policy, labels)| policy.selects(labels));
            match (target.policies.binary_search(&key.name), selects) {
                (Err(at), true) => target.policies.insert(at, key.name.clone()),
                (Ok(at), false) => {
                    target.policies.remove(at);
                }
                // It may be about other directions now.
                (Ok(_), true) => {}
                (Err(_), false) => continue,
            }
            self.dirty.insert(Key {
                namespace: key.namespace.clone(),
                name: name.clone(),
            });
        }
    }

    /// Looks at the pods that something happened to.
    pub fn settle(&mut self, model: &Model, book: &mut RuleBook) {
        for key in std::mem::take(&mut self.dirty) {
            self.settle_one(model, book, &key);
        }
    }

    fn settle_one(&mut self, model: &Model, book: &mut RuleBook, key: &Key) {
        let space = self.pods.entry(key.namespace.clone()).or_default();
        let Some(target) = space.get_mut(&key.name) else {
            return;
        };
        let pod = model.pod(key).filter(|pod| pod.local);
        let shapes = match pod {
            Some(_) => Direction::ALL.map(|direction| shape(model, key, &target.policies, direction)),
            None => [None, None],
        };
        for shape in shapes.iter().flatten() {
            book.acquire_shape(model, shape);
        }
        let old_shapes = std::mem::replace(&mut target.shapes, shapes);
        let ips = pod.map(|pod| pod.ips.clone()).unwrap_or_default();
        let created = pod.map(|pod| pod.created).unwrap_or_default();
        let old_rank = (std::mem::replace(&mut target.created, created), key.clone());
        let old_ips = std::mem::replace(&mut target.ips, ips.clone());
        if pod.is_none() {
            space.remove(&key.name);
        }
        self.claim(&old_rank, &old_ips, &(created, key.clone()), &ips);
        for shape in old_shapes.iter().flatten() {
            book.release_shape(shape);
        }
        self.forget_empty(&key.namespace);
    }

    fn forget_empty(&mut self, namespace: &str) {
        if self.pods.get(namespace).is_some_and(HashMap::is_empty) {
            self.pods.remove(namespace);
        }
    }

    fn claim(&mut self, old_rank: &Rank, old: &[IpAddr], rank: &Rank, new: &[IpAddr]) {
        for ip in old {
            if let Some(claims) = self.claims.get_mut(ip) {
                claims.retain(|other| other != old_rank);
                if claims.is_empty() {
                    self.claims.remove(ip);
                }
            }
        }
        for ip in new {
            self.claims.entry(*ip).or_default().push(rank.clone());
        }
        for ip in old.iter().chain(new) {
            self.decide(*ip);
        }
    }

    /// Where packets of an address are led, by the youngest pod that names it.
    fn decide(&mut self, ip: IpAddr) {
        let owner = self.claims.get(&ip).and_then(|claims| claims.iter().max());
        let target = owner.and_then(|(_, key)| self.pods.get(&key.namespace)?.get(&key.name));
        let shapes = target.map(|target| target.shapes.clone()).unwrap_or_default();
        let current = |verdicts: &[BTreeMap<IpAddr, Shape>; 2]| {
            Direction::ALL.map(|direction| verdicts[direction as usize].get(&ip).cloned())
        };
        let now = current(&self.verdicts);
        if now == shapes {
            return;
        }
        self.before.entry(ip).or_insert(now);
        for (verdicts, shape) in self.verdicts.iter_mut().zip(shapes) {
            match shape {
                Some(shape) => verdicts.insert(ip, shape),
                None => verdicts.remove(&ip),
            };
        }
    }

    /// What changed since the last time.
    pub fn take(&mut self) -> Vec<VerdictChange> {
        let mut changes = Vec::new();
        for (ip, old) in std::mem::take(&mut self.before) {
            let new = Direction::ALL.map(|direction| self.verdicts[direction as usize].get(&ip).cloned());
            if old != new {
                changes.push(VerdictChange { ip, old, new });
            }
        }
        changes
    }

    /// The addresses that are isolated in a direction, and where they lead.
    pub fn verdicts(&self, direction: Direction) -> &BTreeMap<IpAddr, Shape> {
        &self.verdicts[direction as usize]
    }

    /// Whether any address of a family is isolated.
    pub fn is_isolated(&self, family: IpFamily) -> bool {
        let end = |verdicts: &BTreeMap<IpAddr, Shape>| match family {
            // IPv4 sorts before IPv6.
            IpFamily::V4 => verdicts.keys().next().copied(),
            IpFamily::V6 => verdicts.keys().next_back().copied(),
        };
        self.verdicts
            .iter()
            .filter_map(end)
            .any(|ip| IpFamily::of(ip) == family)
    }
}

/// The shape of the policies of these names that are about a direction; `None` if none is.
fn shape(model: &Model, pod: &Key, policies: &[Name], direction: Direction) -> Option<Shape> {
    let key = |name: &Name| Key {
        namespace: pod.namespace.clone(),
        name: name.clone(),
    };
    let about: Vec<Key> = policies
        .iter()
        .map(key)
        .filter(|key| {
            let policy = model.policy(key);
            policy.is_some_and(|policy| policy.rules(direction).is_some())
        })
        .collect();
    (!about.is_empty()).then(|| Shape::new(direction, about))
}
