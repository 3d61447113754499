//! Reading `/sys/devices/system/{cpu,node}`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Cpu, Machine, Node};
use crate::cpuset::CpuSet;

/// The kernel does not tell what there is.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct MachineError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// Reads below `system`, on a machine `/sys/devices/system`. A kernel without NUMA has one node with `memory` bytes.
///
/// # Errors
/// [`MachineError`] if the processors are not told.
pub fn read(system: &Path, memory: u64) -> Result<Machine, MachineError> {
    let path = system.join("cpu/online");
    let online = fs::read_to_string(&path).and_then(|text| text.parse::<CpuSet>().map_err(invalid));
    let online = online.map_err(|source| MachineError { path, source })?;
    let nodes = nodes(&system.join("node"), memory);
    let numa: BTreeMap<u32, u32> = nodes
        .iter()
        .flat_map(|(id, (cpus, _))| cpus.iter().map(|cpu| (cpu, *id)))
        .collect();
    let first_node = nodes.keys().next().copied().unwrap_or(0);
    let cpu = |id| {
        cpu(
            &system.join(format!("cpu/cpu{id}")),
            id,
            numa.get(&id).copied().unwrap_or(first_node),
        )
    };
    Ok(Machine {
        cpus: online.iter().map(cpu).collect(),
        nodes: nodes.into_iter().map(|(id, (_, node))| (id, node)).collect(),
    })
}

fn invalid(error: crate::cpuset::CpuSetError) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, error)
}

fn text(path: PathBuf) -> Option<String> {
    // What this kind of machine does not tell has its default.
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn set(path: PathBuf) -> Option<CpuSet> {
    text(path)?.parse().ok().filter(|set: &CpuSet| !set.is_empty())
}

/// A core is named by its lowest thread: the kernel's own numbers repeat in each package.
fn cpu(directory: &Path, id: u32, numa: u32) -> Cpu {
    let topology = directory.join("topology");
    let lowest = |set: Option<CpuSet>| set.and_then(|set| set.iter().next());
    let threads = set(topology.join("core_cpus_list")).or_else(|| set(topology.join("thread_siblings_list")));
    let socket = text(topology.join("physical_package_id")).and_then(|text| text.parse().ok());
    let core = lowest(threads).unwrap_or(id);
    Cpu {
        id,
        core,
        socket: socket.unwrap_or(0),
        numa,
        cache: lowest(last_cache(&directory.join("cache"))).unwrap_or(core),
    }
}

/// The processors that share the cache of the highest level.
fn last_cache(directory: &Path) -> Option<CpuSet> {
    let level = |index: &u32| {
        let cache = directory.join(format!("index{index}"));
        let level: u32 = text(cache.join("level"))?.parse().ok()?;
        Some((level, set(cache.join("shared_cpu_list"))?))
    };
    (0..8)
        .filter_map(|index| level(&index))
        .max_by_key(|(level, _)| *level)
        .map(|(_, set)| set)
}

fn nodes(directory: &Path, memory: u64) -> BTreeMap<u32, (CpuSet, Node)> {
    let online = set(directory.join("online")).unwrap_or_default();
    let mut nodes: BTreeMap<u32, (CpuSet, Node)> = online
        .iter()
        .map(|id| (id, node(&directory.join(format!("node{id}")))))
        .collect();
    if nodes.is_empty() {
        let node = Node {
            memory,
            distances: vec![10],
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
        };
        nodes.insert(0, (CpuSet::EMPTY, node));
    }
    nodes
}

fn node(directory: &Path) -> (CpuSet, Node) {
    let distances = text(directory.join("distance")).unwrap_or_default();
    let node = Node {
        memory: text(directory.join("meminfo"))
            .and_then(|text| total(&text))
            .unwrap_or(0),
        huge_pages: huge_pages(&directory.join("hugepages")),
        distances: distances
            .split_whitespace()
            .filter_map(|one| one.parse().ok())
            .collect(),
    };
    (set(directory.join("cpulist")).unwrap_or_default(), node)
}

/// `Node 0 MemTotal:  1024 kB` in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.contains("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().rev().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Bytes by the size of the page, out of directories `hugepages-2048kB`.
fn huge_pages(directory: &Path) -> BTreeMap<u64, u64> {
    let page = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let size = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        let size = size.parse::<u64>().ok()? * 1024;
        let count: u64 = text(entry.path().join("nr_hugepages"))?.parse().ok()?;
        Some((size, size * count))
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(page).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn two_packages_of_two_cores_with_two_threads() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "cpu/online", "0-7\n");
        write(root, "node/online", "0-1\n");
        for cpu in 0..8u32 {
            let (socket, core) = (cpu % 4 / 2, cpu % 4);
            write(
                root,
                &format!("cpu/cpu{cpu}/topology/core_cpus_list"),
                &format!("{core},{}\n", core + 4),
            );
            write(
                root,
                &format!("cpu/cpu{cpu}/topology/physical_package_id"),
                &format!("{socket}\n"),
            );
            write(root, &format!("cpu/cpu{cpu}/cache/index0/level"), "1\n");
            write(
                root,
                &format!("cpu/cpu{cpu}/cache/index0/shared_cpu_list"),
                &format!("{cpu}\n"),
            );
            write(root, &format!("cpu/cpu{cpu}/cache/index3/level"), "3\n");
            let cache = if socket == 0 { "0-1,4-5\n" } else { "2-3,6-7\n" };
            write(root, &format!("cpu/cpu{cpu}/cache/index3/shared_cpu_list"), cache);
        }
        for (node, cpus) in [(0, "0-1,4-5\n"), (1, "2-3,6-7\n")] {
            write(root, &format!("node/node{node}/cpulist"), cpus);
            write(root, &format!("node/node{node}/distance"), "10 21\n");
            write(
                root,
                &format!("node/node{node}/meminfo"),
                &format!("Node {node} MemTotal:  1024 kB\n"),
            );
            write(
                root,
                &format!("node/node{node}/hugepages/hugepages-2048kB/nr_hugepages"),
                "3\n",
            );
        }
        let machine = read(root, 0).unwrap();
        assert_eq!(
            (machine.cpus.len(), machine.sockets(), machine.threads()),
            (8, 2, 2)
        );
        assert_eq!(
            machine.cpus[6],
            Cpu {
                id: 6,
                core: 2,
                socket: 1,
                numa: 1,
                cache: 2
            }
        );
        assert_eq!(machine.in_nodes(NumaMask::of([1])).to_string(), "2-3,6-7");
        assert_eq!(machine.nodes[&0].memory, 1 << 20);
        assert_eq!(machine.nodes[&1].huge_pages, BTreeMap::from([(2 << 20, 6 << 20)]));
        assert_eq!(machine.nodes[&1].distances, [10, 21]);
    }

    #[test]
    fn a_kernel_without_numa_has_one_node() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "cpu/online", "0-1\n");
        let machine = read(dir.path(), 77).unwrap();
        assert_eq!(
            (machine.sockets(), machine.threads(), machine.nodes[&0].memory),
            (1, 1, 77)
        );
        assert_eq!(machine.cpus[1].numa, 0);
        assert!(read(&dir.path().join("none"), 0).is_err());
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = read(Path::new("/sys/devices/system"), 1).unwrap();
        assert!(
            !machine.cpus.is_empty() && !machine.nodes.is_empty(),
            "{machine:?}"
        );
    }

    use crate::topology::NumaMask;
}
