//! Choosing devices.

use std::collections::BTreeSet;

use knode_kubelet_resources::topology::NumaMask;

use super::{Allocation, AllocationError, Endpoint, Resource, Table};
use crate::asked::{Asked, Part};
use crate::v1beta1::ContainerAllocateResponse;

/// What a plugin may be asked before its devices are given away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The devices from which it may choose.
    pub available: BTreeSet<String>,
    /// Those that are settled.
    pub must_include: BTreeSet<String>,
    /// How many are given in all.
    pub size: usize,
}

/// What was chosen, and what the plugin may say to it.
struct Choice {
    devices: BTreeSet<String>,
    question: Option<Question>,
}

/// Who asks for how much of what.
struct Want<'a> {
    asked: &'a Asked,
    resource: &'a str,
    size: usize,
    affinity: Option<NumaMask>,
}

impl Table {
    /// Sets aside what a container asks for, near to the nodes of `affinity` if that is given. What it has is kept.
    /// Resources that no plugin offers are somebody else's.
    ///
    /// # Errors
    /// [`AllocationError`]; what was set aside before stays so until the pod is released.
    pub fn reserve(
        &mut self,
        asked: &Asked,
        part: &Part,
        affinity: Option<NumaMask>,
    ) -> Result<(), AllocationError> {
        for (resource, &size) in &part.requests {
            if !self.knows(resource) {
                continue;
            }
            let want = Want {
                asked,
                resource,
                size,
                affinity,
            };
            if self.has(part, &want)? {
                continue;
            }
            let choice = self.choose(&want, None)?;
            self.give(part, &want, choice.devices);
        }
        Ok(())
    }

    /// Whether a container has all that it asks for and plugins offer, be they there or not.
    pub fn holds(&self, asked: &Asked, part: &Part) -> bool {
        let mut offered = part.requests.iter().filter(|(name, _)| self.knows(name));
        offered.all(|(name, size)| {
            let held = self.allocation(&asked.uid, &part.name, name);
            held.is_some_and(|held| held.devices.len() == *size)
        })
    }

    /// Whether the container has what it wants already, and may keep it.
    fn has(&self, part: &Part, want: &Want<'_>) -> Result<bool, AllocationError> {
        let (uid, name) = (&want.asked.uid, want.resource.to_owned());
        let held = self.allocation(uid, &part.name, want.resource);
        if let Some(held) = held.filter(|held| held.devices.len() != want.size) {
            return Err(AllocationError::Changed {
                pod: uid.clone(),
                container: part.name.clone(),
                resource: name,
                before: held.devices.len(),
                now: want.size,
            });
        }
        let Some(resource) = self.resources.get(want.resource) else {
            return Err(AllocationError::Unregistered(name));
        };
        let healthy = resource.healthy();
        if healthy.is_empty() {
            return Err(AllocationError::Unhealthy(name));
        }
        match held {
            Some(held) if held.devices.keys().all(|id| healthy.contains(id)) => Ok(true),
            Some(_) => Err(AllocationError::NoLongerHealthy(name)),
            None => Ok(false),
        }
    }

    /// Devices of ended init containers first, then those near to the wanted nodes, then those that the plugin prefers,
    /// then any.
    fn choose(
        &self,
        want: &Want<'_>,
        preferred: Option<&BTreeSet<String>>,
    ) -> Result<Choice, AllocationError> {
        let Some(resource) = self.resources.get(want.resource) else {
            return Err(AllocationError::Unregistered(want.resource.to_owned()));
        };
        let mut chosen = BTreeSet::new();
        let reusable = self.reusable(want.asked, want.resource);
        take(&mut chosen, want.size, reusable.iter());
        let left = want.size - chosen.len();
        if left == 0 {
            return Ok(Choice {
                devices: chosen,
                question: None,
            });
        }
        let used = self.used(want.resource);
        let mut available = resource.healthy();
        available.retain(|id| !used.contains(id.as_str()));
        if available.len() < left {
            return Err(AllocationError::Unavailable {
                resource: want.resource.to_owned(),
                requested: left,
                available: available.len(),
            });
        }
        let (aligned, others) = by_affinity(resource, available, want.affinity);
        let (from, rest) = match left < aligned.len() {
            true => (aligned, Vec::new()),
            false => {
                chosen.extend(aligned);
                let all = others.iter().flatten().cloned().collect();
                (all, others)
            }
        };
        let question = (chosen.len() < want.size).then(|| Question {
            available: from.union(&chosen).cloned().collect(),
            must_include: chosen.clone(),
            size: want.size,
        });
        let liked = preferred.into_iter().flatten().filter(|id| from.contains(*id));
        take(&mut chosen, want.size, liked);
        take(&mut chosen, want.size, rest.iter().flatten());
        take(&mut chosen, want.size, from.iter());
        Ok(Choice {
            devices: chosen,
            question,
        })
    }

    fn give(&mut self, part: &Part, want: &Want<'_>, devices: BTreeSet<String>) {
        let known = self.resources.get(want.resource);
        let nodes = |id: &String| {
            known
                .and_then(|resource| resource.devices.get(id))
                .map(|device| device.nodes.clone())
        };
        let devices = devices
            .into_iter()
            .map(|id| (id.clone(), nodes(&id).unwrap_or_default()));
        let allocation = Allocation {
            devices: devices.collect(),
            response: None,
            affinity: want.affinity,
        };
        let containers = self.pods.entry(want.asked.uid.clone()).or_default();
        let resources = containers.entry(part.name.clone()).or_default();
        resources.insert(want.resource.to_owned(), allocation);
    }

    /// Resources that were set aside for a container and whose plugins have not been asked.
    pub fn pending(&self, pod: &str, container: &str) -> Vec<String> {
        let all = self.of_container(pod, container).into_iter().flatten();
        let pending = all.filter(|(_, allocation)| allocation.response.is_none());
        pending.map(|(name, _)| name.clone()).collect()
    }

    /// What the plugin wants to be asked about devices that were set aside.
    pub fn question(&self, asked: &Asked, part: &Part, resource: &str) -> Option<Question> {
        let Endpoint::Running(options) = self.resources.get(resource)?.endpoint else {
            return None;
        };
        if !options.preferred {
            return None;
        }
        let (without, want) = self.without(asked, part, resource)?;
        without.choose(&want, None).ok()?.question
    }

    /// Gives the container those of its devices that the plugin would rather give away, as far as they are free.
    pub fn prefer(&mut self, asked: &Asked, part: &Part, resource: &str, preferred: &BTreeSet<String>) {
        let Some((without, want)) = self.without(asked, part, resource) else {
            return;
        };
        // What was set aside stays where nothing better can be had.
        if let Ok(choice) = without.choose(&want, Some(preferred)) {
            self.give(part, &want, choice.devices);
        }
    }

    /// The table without what the container was set aside, and what it wanted.
    fn without<'a>(&self, asked: &'a Asked, part: &Part, resource: &'a str) -> Option<(Self, Want<'a>)> {
        let mut table = self.clone();
        let containers = table.pods.get_mut(&asked.uid)?;
        let held = containers.get_mut(&part.name)?.remove(resource)?;
        let want = Want {
            asked,
            resource,
            size: held.devices.len(),
            affinity: held.affinity,
        };
        Some((table, want))
    }

    /// The plugin's answer to what was set aside.
    pub fn answered(
        &mut self,
        pod: &str,
        container: &str,
        resource: &str,
        response: ContainerAllocateResponse,
    ) {
        let containers = self.pods.get_mut(pod);
        let resources = containers.and_then(|containers| containers.get_mut(container));
        if let Some(allocation) = resources.and_then(|resources| resources.get_mut(resource)) {
            allocation.response = Some(response);
        }
    }
}

/// Adds from `from` until there are `size`.
fn take<'a>(chosen: &mut BTreeSet<String>, size: usize, from: impl Iterator<Item = &'a String>) {
    for id in from {
        if chosen.len() == size {
            return;
        }
        chosen.insert(id.clone());
    }
}

/// Devices near to the nodes; then those near to others, and those that are near to none.
fn by_affinity(
    resource: &Resource,
    available: BTreeSet<String>,
    affinity: Option<NumaMask>,
) -> (BTreeSet<String>, Vec<BTreeSet<String>>) {
    let Some(mask) = affinity.filter(|_| resource.has_topology()) else {
        return (BTreeSet::new(), vec![available]);
    };
    let (mut aligned, mut unaligned, mut anywhere) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for id in available {
        let nodes = resource.devices.get(&id).map(|device| &device.nodes);
        match nodes.filter(|nodes| !nodes.is_empty()) {
            None => anywhere.insert(id),
            Some(nodes) if is_near(nodes, mask) => aligned.insert(id),
            Some(_) => unaligned.insert(id),
        };
    }
    (aligned, vec![unaligned, anywhere])
}

/// Whether any of the nodes is in the mask.
pub(super) fn is_near(nodes: &BTreeSet<i64>, mask: NumaMask) -> bool {
    nodes
        .iter()
        .any(|node| u32::try_from(*node).is_ok_and(|node| mask.has(node)))
}
