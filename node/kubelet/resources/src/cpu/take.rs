//! Which processors of those that are free (upstream: `cpu_assignment.go`): as few packages, nodes, caches and cores as
//! can be, and of those the ones that are already broken up.

use super::CpuOptions;
use crate::cpuset::CpuSet;
use crate::machine::{Cpu, Machine};
use crate::topology::NumaMask;

/// `count` of the `free` ones; none if there are not so many.
pub(super) fn take(machine: &Machine, options: CpuOptions, free: &CpuSet, count: usize) -> Option<CpuSet> {
    if free.len() < count {
        return None;
    }
    let picker = Picker { machine, options };
    if options.distribute
        && let Some(spread) = picker.spread(free, count)
    {
        return Some(spread);
    }
    Some(picker.packed(free, count))
}

type Key = fn(&Cpu) -> u32;

/// How packages and nodes contain one another: the outer first.
fn levels(machine: &Machine) -> [Key; 2] {
    match machine.sockets() >= machine.nodes.len() {
        true => [|cpu| cpu.numa, |cpu| cpu.socket],
        false => [|cpu| cpu.socket, |cpu| cpu.numa],
    }
}

struct Picker<'a> {
    machine: &'a Machine,
    options: CpuOptions,
}

/// What has been picked, and what can still be.
struct Picked {
    free: CpuSet,
    taken: CpuSet,
    needed: usize,
}

impl Picked {
    fn take(&mut self, set: &CpuSet) {
        self.free = self.free.without(set);
        self.taken = self.taken.union(set);
        self.needed -= set.len();
    }
}

impl Picker<'_> {
    /// The groups of some kind with free processors: those in the group that are free, and how many it has. Those with
    /// the fewest free ones come first.
    fn groups(&self, free: &CpuSet, key: Key) -> Vec<(CpuSet, usize)> {
        let mut ids: Vec<u32> = self.machine.cpus.iter().map(key).collect();
        ids.sort_unstable();
        ids.dedup();
        let of = |id: &u32| {
            let all = self.machine.select(|cpu| key(cpu) == *id);
            (all.intersection(free), all.len())
        };
        let mut groups: Vec<(CpuSet, usize)> =
            ids.iter().map(of).filter(|(own, _)| !own.is_empty()).collect();
        groups.sort_by_key(|(own, _)| own.len());
        groups
    }

    /// Whole groups that are free and not too large.
    fn whole(&self, picked: &mut Picked, key: Key) {
        for (own, size) in self.groups(&picked.free, key) {
            if own.len() == size && size <= picked.needed {
                picked.take(&own);
            }
        }
    }

    fn packed(&self, free: &CpuSet, count: usize) -> CpuSet {
        let mut picked = Picked {
            free: free.clone(),
            taken: CpuSet::EMPTY,
            needed: count,
        };
        let [outer, inner] = levels(self.machine);
        self.whole(&mut picked, outer);
        self.whole(&mut picked, inner);
        if self.options.prefer_cache {
            self.whole(&mut picked, |cpu| cpu.cache);
            self.within_a_cache(&mut picked);
        }
        self.cores(&mut picked, outer, inner);
        self.threads(&mut picked, outer, inner);
        picked.taken
    }

    /// All that is still needed out of the one cache that is used most and has enough.
    fn within_a_cache(&self, picked: &mut Picked) {
        let enough = |(own, _): &(CpuSet, usize)| own.len() >= picked.needed;
        let caches = self.groups(&picked.free, |cpu| cpu.cache);
        if picked.needed > 0
            && let Some((own, _)) = caches.into_iter().find(enough)
        {
            let mut rest = Picked {
                free: own,
                taken: CpuSet::EMPTY,
                needed: picked.needed,
            };
            let [outer, inner] = levels(self.machine);
            self.cores(&mut rest, outer, inner);
            self.threads(&mut rest, outer, inner);
            picked.take(&rest.taken);
        }
    }

    /// Whole cores, out of the packages and nodes with the fewest free processors.
    fn cores(&self, picked: &mut Picked, outer: Key, inner: Key) {
        for (own, _) in self.groups(&picked.free.clone(), outer) {
            for (own, _) in self.groups(&own, inner) {
                for (core, size) in self.groups(&own, |cpu| cpu.core) {
                    if core.len() == size && size <= picked.needed {
                        picked.take(&core);
                    }
                }
            }
        }
    }

    /// Single threads, those of broken cores first.
    fn threads(&self, picked: &mut Picked, outer: Key, inner: Key) {
        for (own, _) in self.groups(&picked.free.clone(), outer) {
            for (own, _) in self.groups(&own, inner) {
                for (core, _) in self.groups(&own, |cpu| cpu.core) {
                    let some: CpuSet = core.iter().take(picked.needed).collect();
                    picked.take(&some);
                }
            }
        }
    }

    /// As many of each of the fewest nodes that have enough, where that leaves the nodes most evenly used; none if one
    /// node is enough or it does not work out.
    fn spread(&self, free: &CpuSet, count: usize) -> Option<CpuSet> {
        let group = if self.options.full_cores {
            self.machine.threads()
        } else {
            1
        };
        let of = |node: u32| self.machine.in_nodes(NumaMask::of([node])).intersection(free);
        let masks = NumaMask::subsets(&self.machine.node_ids());
        let share = |mask: &NumaMask| count / (mask.count() as usize) / group * group;
        let fits = |mask: &&NumaMask| {
            let sets: Vec<usize> = mask.nodes().map(|node| of(node).len()).collect();
            sets.iter().sum::<usize>() >= count && sets.iter().all(|have| *have >= share(mask))
        };
        let width = masks.iter().find(fits)?.count();
        if width == 1 {
            return None;
        }
        // The spread of what is left, as the sum of squares.
        let unevenness = |mask: &&NumaMask| -> usize {
            mask.nodes()
                .map(|node| (of(node).len() - share(mask)).pow(2))
                .sum()
        };
        let best = masks
            .iter()
            .filter(|mask| mask.count() == width)
            .filter(fits)
            .min_by_key(unevenness)?;
        let mut taken = CpuSet::EMPTY;
        for node in best.nodes() {
            taken = taken.union(&self.packed(&of(node), share(best)));
        }
        while taken.len() < count {
            let left = |node: &u32| of(*node).without(&taken);
            let fullest = best
                .nodes()
                .max_by_key(|node| (left(node).len(), std::cmp::Reverse(*node)))?;
            let some = left(&fullest);
            let more = group.min(count - taken.len()).min(some.len());
            if more == 0 {
                return None;
            }
            taken = taken.union(&self.packed(&some, more));
        }
        Some(taken)
    }
}
