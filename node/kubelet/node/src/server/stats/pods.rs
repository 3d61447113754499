//! What pods use as a whole, beside their containers: network, processes, volumes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use knode_cri::{NetworkInterfaceUsage, PodSandboxStats, UInt64Value};

use super::collect::Amount;
use super::pressure::Pressures;
use super::volumes::Volume;

/// One pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::server) struct Pod {
    pub(in crate::server) id: String,
    pub(in crate::server) name: String,
    pub(in crate::server) namespace: String,
    /// When the node took it.
    pub(in crate::server) started: Option<Timestamp>,
    pub(in crate::server) amount: Amount,
    pub(in crate::server) pressures: Pressures,
    pub(in crate::server) processes: Option<u64>,
    /// The pod's own interface first.
    pub(in crate::server) interfaces: Vec<Interface>,
    pub(in crate::server) volumes: Vec<Volume>,
}

/// What went over an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Interface {
    pub(in crate::server) name: String,
    pub(in crate::server) rx_bytes: u64,
    pub(in crate::server) rx_errors: u64,
    pub(in crate::server) tx_bytes: u64,
    pub(in crate::server) tx_errors: u64,
}

/// Pods by uid, as the runtime tells of them.
pub(super) fn of_runtime(stats: Vec<PodSandboxStats>) -> BTreeMap<String, Pod> {
    let mut all = BTreeMap::new();
    for one in stats {
        let attributes = one.attributes.unwrap_or_default();
        let metadata = attributes.metadata.unwrap_or_default();
        let linux = one.linux.unwrap_or_default();
        let (cpu, memory) = (linux.cpu.unwrap_or_default(), linux.memory.unwrap_or_default());
        let number = |value: Option<UInt64Value>| value.map(|value| value.value);
        let network = linux.network.unwrap_or_default();
        let default = network.default_interface.into_iter().map(interface);
        let pod = Pod {
            id: attributes.id,
            name: metadata.name,
            namespace: metadata.namespace,
            started: None,
            amount: Amount {
                cpu_nanoseconds: number(cpu.usage_core_nano_seconds),
                cpu_nanocores: number(cpu.usage_nano_cores),
                working_set: number(memory.working_set_bytes),
                usage: number(memory.usage_bytes),
                rss: number(memory.rss_bytes),
                page_faults: number(memory.page_faults),
                major_page_faults: number(memory.major_page_faults),
            },
            pressures: Pressures::new(cpu.psi, memory.psi, linux.io),
            processes: linux.process.and_then(|process| number(process.process_count)),
            interfaces: default
                .chain(network.interfaces.into_iter().map(interface))
                .collect(),
            volumes: Vec::new(),
        };
        all.insert(metadata.uid, pod);
    }
    all
}

fn interface(usage: NetworkInterfaceUsage) -> Interface {
    let number = |value: Option<UInt64Value>| value.map_or(0, |value| value.value);
    Interface {
        name: usage.name,
        rx_bytes: number(usage.rx_bytes),
        rx_errors: number(usage.rx_errors),
        tx_bytes: number(usage.tx_bytes),
        tx_errors: number(usage.tx_errors),
    }
}

/// The machine's interfaces but the loopback, the busiest first.
pub(super) fn of_machine() -> Vec<Interface> {
    let Ok(devices) = procfs::net::dev_status() else {
        return Vec::new();
    };
    let mut all: Vec<Interface> = devices
        .into_values()
        .filter(|device| device.name != "lo" && !device.name.starts_with("veth"))
        .map(|device| Interface {
            name: device.name,
            rx_bytes: device.recv_bytes,
            rx_errors: device.recv_errs,
            tx_bytes: device.sent_bytes,
            tx_errors: device.sent_errs,
        })
        .collect();
    all.sort_by(|one, other| {
        other
            .rx_bytes
            .cmp(&one.rx_bytes)
            .then_with(|| one.name.cmp(&other.name))
    });
    all
}
