//! What devices propose for the decision on NUMA nodes (upstream: `devicemanager/topology_hints.go`).

use std::collections::BTreeSet;

use knode_kubelet_resources::topology::{Hints, NumaMask, TopologyHint};

use super::allocate::is_near;
use super::{Resource, Table};
use crate::asked::{Asked, Part, Requests};

impl Table {
    /// What one container could be given; `numa` are the machine's nodes.
    pub fn container_hints(&self, asked: &Asked, part: &Part, numa: &[u32]) -> Hints {
        self.hints(asked, &part.requests, numa, |resource| {
            let held = self.allocation(&asked.uid, &part.name, resource);
            let held = held.into_iter().flat_map(|held| held.devices.keys().cloned());
            (held.collect(), self.reusable(asked, resource))
        })
    }

    /// What the pod as a whole could be given.
    pub fn pod_hints(&self, asked: &Asked, numa: &[u32]) -> Hints {
        self.hints(asked, &asked.together(), numa, |resource| {
            let held = |name: &String| self.allocation(&asked.uid, name, resource);
            let held = asked.parts.iter().filter_map(|part| held(&part.name));
            let held = held.flat_map(|held| held.devices.keys().cloned());
            (held.collect(), BTreeSet::new())
        })
    }

    /// `known` gives what is held and what can be reused of a resource.
    fn hints(
        &self,
        asked: &Asked,
        requests: &Requests,
        numa: &[u32],
        known: impl Fn(&str) -> (BTreeSet<String>, BTreeSet<String>),
    ) -> Hints {
        let of = |name: &String, size: usize| {
            let resource = self.resources.get(name).filter(|one| one.has_topology())?;
            let (held, reusable) = known(name);
            if !held.is_empty() {
                return Some(match held.len() == size {
                    true => propose(resource, &held, &BTreeSet::new(), size, numa),
                    false => Vec::new(),
                });
            }
            let used = self.used(name);
            let mut available = resource.healthy();
            available.retain(|id| !used.contains(id.as_str()));
            Some(match available.union(&reusable).count() < size {
                true => Vec::new(),
                false => propose(resource, &available, &reusable, size, numa),
            })
        };
        let requests = requests.iter().filter(|(name, _)| self.knows(name));
        tracing::trace!(pod = asked.uid, "proposing NUMA nodes for devices");
        requests
            .map(|(name, size)| (name.clone(), of(name, *size)))
            .collect()
    }
}

/// Every set of nodes from which `size` devices can be had; the smallest that could ever do are preferred.
fn propose(
    resource: &Resource,
    available: &BTreeSet<String>,
    reusable: &BTreeSet<String>,
    size: usize,
    numa: &[u32],
) -> Vec<TopologyHint> {
    let nodes = |id: &String| resource.devices.get(id).map(|device| &device.nodes);
    let near = |id: &String, mask| nodes(id).is_some_and(|nodes| is_near(nodes, mask));
    let mut fewest = u32::try_from(numa.len()).unwrap_or(u32::MAX);
    let mut hints = Vec::new();
    for mask in NumaMask::subsets(numa) {
        let all = resource.devices.values();
        if all.filter(|device| is_near(&device.nodes, mask)).count() >= size {
            fewest = fewest.min(mask.count());
        }
        let placed: Vec<&String> = reusable
            .iter()
            .filter(|id| nodes(id).is_some_and(|nodes| !nodes.is_empty()))
            .collect();
        if placed.iter().any(|id| !near(id, mask)) {
            continue;
        }
        let matching = placed.len() + available.iter().filter(|id| near(id, mask)).count();
        if matching >= size {
            hints.push(TopologyHint::new(mask, false));
        }
    }
    for hint in &mut hints {
        hint.preferred = hint.affinity.is_some_and(|mask| mask.count() == fewest);
    }
    hints
}
