//! What containers and sandboxes use.

use std::fs;
use std::path::Path;

use knode_cri::{
    ContainerAttributes, ContainerState, ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage,
    LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes,
    PodSandboxStats, ProcessUsage, SwapUsage, UInt64Value,
};
use knode_linux::cgroup::Usage;

use super::Container;
use super::rate::Rate;
use crate::engine::{Core, now_nanos};
use crate::sandbox::{Sandbox, net_request};

impl Core {
    /// What a container uses. Walks its writable layer. One that does not run uses disk alone.
    pub(crate) fn container_stats(&self, container: &Container) -> ContainerStats {
        let record = container.record();
        let timestamp = now_nanos();
        let usage = match container.state() {
            ContainerState::ContainerRunning => self.cgroups.usage(&record.cgroup).ok(),
            _ => None,
        };
        ContainerStats {
            attributes: Some(ContainerAttributes {
                id: record.id.clone(),
                metadata: record.config.metadata.clone(),
                labels: record.config.labels.clone(),
                annotations: record.config.annotations.clone(),
            }),
            cpu: usage.map(|usage| self.cpu(&usage, &container.rate, &record.cgroup, timestamp)),
            memory: usage.map(|usage| self.memory(&usage, &record.cgroup, timestamp)),
            writable_layer: self.writable_layer(&record.id, timestamp),
            swap: usage.map(|usage| SwapUsage {
                timestamp,
                swap_available_bytes: None,
                swap_usage_bytes: value(usage.memory.swap),
            }),
            io: usage.and_then(|_| self.io_usage(&record.cgroup, timestamp)),
        }
    }

    fn writable_layer(&self, id: &str, timestamp: i64) -> Option<FilesystemUsage> {
        let usage = self.config.images.snapshots().usage(id).ok()?;
        let mountpoint = self.config.images.root().display().to_string();
        Some(FilesystemUsage {
            timestamp,
            fs_id: Some(FilesystemIdentifier { mountpoint }),
            used_bytes: value(usage.bytes),
            inodes_used: value(usage.inodes),
        })
    }

    /// What a sandbox uses, with its running containers.
    pub(crate) fn sandbox_stats(&self, sandbox: &Sandbox) -> PodSandboxStats {
        let record = sandbox.record();
        let timestamp = now_nanos();
        let group = record.cgroup_parent();
        let usage = self.cgroups.usage(&group).ok().filter(|_| record.ready);
        let running =
            |container: &&std::sync::Arc<Container>| container.state() == ContainerState::ContainerRunning;
        let containers = self.containers_of(&record.id);
        let containers = containers
            .iter()
            .filter(running)
            .map(|container| self.container_stats(container));
        let linux = LinuxPodSandboxStats {
            cpu: usage.map(|usage| self.cpu(&usage, &sandbox.rate, &group, timestamp)),
            memory: usage.map(|usage| self.memory(&usage, &group, timestamp)),
            network: record
                .ready
                .then(|| network(&net_request(&self.layout, &record).netns, timestamp))
                .flatten(),
            process: usage.map(|usage| ProcessUsage {
                timestamp,
                process_count: value(usage.tasks),
            }),
            containers: containers.collect(),
            io: usage.and_then(|_| self.io_usage(&group, timestamp)),
        };
        PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: record.id.clone(),
                metadata: record.config.metadata.clone(),
                labels: record.config.labels.clone(),
                annotations: record.config.annotations.clone(),
            }),
            linux: Some(linux),
        }
    }

    fn cpu(&self, usage: &Usage, rate: &Rate, group: &Path, timestamp: i64) -> CpuUsage {
        let total = usage.cpu.nanoseconds;
        CpuUsage {
            timestamp,
            usage_core_nano_seconds: value(total),
            usage_nano_cores: rate.read(timestamp, total).and_then(value),
            psi: self.pressure(group, "cpu"),
        }
    }

    fn memory(&self, usage: &Usage, group: &Path, timestamp: i64) -> MemoryUsage {
        let memory = &usage.memory;
        MemoryUsage {
            timestamp,
            working_set_bytes: value(memory.working_set),
            available_bytes: memory
                .limit
                .and_then(|limit| value(limit.saturating_sub(memory.working_set))),
            usage_bytes: value(memory.usage),
            rss_bytes: value(memory.rss),
            page_faults: value(memory.page_faults),
            major_page_faults: value(memory.major_page_faults),
            psi: self.pressure(group, "memory"),
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the messages have optional numbers")]
fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

/// Reads the interfaces of a network namespace.
fn network(namespace: &Path, timestamp: i64) -> Option<NetworkUsage> {
    let read = || fs::read_to_string("/proc/thread-self/net/dev");
    let text = knode_linux::namespace::in_network(namespace, read).ok()?;
    let mut interfaces: Vec<NetworkInterfaceUsage> = text.lines().filter_map(interface).collect();
    let default = interfaces.iter().position(|interface| interface.name == "eth0");
    let default_interface = default.map(|index| interfaces.remove(index));
    Some(NetworkUsage {
        timestamp,
        default_interface,
        interfaces,
    })
}

/// A line of `/proc/net/dev`: received bytes, packets, errors, … and from the ninth the same as sent.
fn interface(line: &str) -> Option<NetworkInterfaceUsage> {
    let (name, numbers) = line.split_once(':')?;
    let name = name.trim().to_string();
    let numbers: Vec<u64> = numbers
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    (name != "lo" && numbers.len() >= 16).then(|| NetworkInterfaceUsage {
        name,
        rx_bytes: value(numbers[0]),
        rx_errors: value(numbers[2]),
        tx_bytes: value(numbers[8]),
        tx_errors: value(numbers[10]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_as_the_kernel_writes_them() {
        let line = "  eth0: 1000 10 1 0 0 0 0 0 2000 20 2 0 0 0 0 0";
        let found = interface(line).unwrap();
        assert_eq!(found.name, "eth0");
        let values = [found.rx_bytes, found.rx_errors, found.tx_bytes, found.tx_errors];
        assert_eq!(values.map(|value| value.unwrap().value), [1000, 1, 2000, 2]);
        assert!(interface("    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0").is_none());
        assert!(interface(" face |bytes packets").is_none());
    }
}
