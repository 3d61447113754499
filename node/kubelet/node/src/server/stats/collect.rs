//! Gathering: the runtime for containers, the kernel for the node.

use jiff::Timestamp;
use knode_cri::{ContainerStats, CriResult, ListContainerStatsRequest, UInt64Value};
use knode_linux::filewatch::{self, FileSystemUsage};

use super::super::Kubelet;
use crate::machine;

/// What is in use now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Usage {
    pub(super) node_name: String,
    pub(super) started: Timestamp,
    pub(super) now: Timestamp,
    pub(super) node: Amount,
    pub(super) memory_available: u64,
    pub(super) fs: Option<FileSystemUsage>,
    pub(super) containers: Vec<Container>,
}

/// Processor time and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) cpu_nanoseconds: Option<u64>,
    pub(super) cpu_nanocores: Option<u64>,
    pub(super) working_set: Option<u64>,
    pub(super) usage: Option<u64>,
    pub(super) rss: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) pod: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) amount: Amount,
    pub(super) layer_bytes: Option<u64>,
    pub(super) at: Timestamp,
}

pub(super) async fn usage(kubelet: &Kubelet) -> CriResult<Usage> {
    let now = kubelet.clock.now();
    let answer = kubelet
        .runtime
        .list_container_stats(ListContainerStatsRequest::default())
        .await?;
    let mut containers: Vec<Container> = answer
        .stats
        .into_iter()
        .map(|stats| container(stats, now))
        .collect();
    containers.sort_by(|one, other| {
        (&one.namespace, &one.pod, &one.name).cmp(&(&other.namespace, &other.pod, &other.name))
    });
    let available = machine::available_memory().unwrap_or_default();
    Ok(Usage {
        node_name: kubelet.node_name.clone(),
        started: kubelet.started,
        now,
        node: node(available),
        memory_available: available,
        fs: filewatch::file_system_usage(&kubelet.root_dir).ok(),
        containers,
    })
}

fn container(stats: ContainerStats, now: Timestamp) -> Container {
    let attributes = stats.attributes.unwrap_or_default();
    let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
    let value = |value: Option<UInt64Value>| value.map(|value| value.value);
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    let at = Timestamp::from_nanosecond(i128::from(cpu.timestamp)).ok();
    Container {
        name: label("io.kubernetes.container.name"),
        pod: label("io.kubernetes.pod.name"),
        namespace: label("io.kubernetes.pod.namespace"),
        uid: label("io.kubernetes.pod.uid"),
        amount: Amount {
            cpu_nanoseconds: value(cpu.usage_core_nano_seconds),
            cpu_nanocores: value(cpu.usage_nano_cores),
            working_set: value(memory.working_set_bytes),
            usage: value(memory.usage_bytes),
            rss: value(memory.rss_bytes),
        },
        layer_bytes: stats.writable_layer.and_then(|layer| value(layer.used_bytes)),
        at: at.filter(|at| at.as_second() > 0).unwrap_or(now),
    }
}

/// The whole machine, out of /proc.
fn node(available: u64) -> Amount {
    let total = procfs::Current::current()
        .ok()
        .map(|memory: procfs::Meminfo| memory.mem_total);
    let used = total.map(|total| total.saturating_sub(available));
    Amount {
        cpu_nanoseconds: busy_nanoseconds(),
        working_set: used,
        usage: used,
        ..Amount::default()
    }
}

fn busy_nanoseconds() -> Option<u64> {
    let stat = <procfs::KernelStats as procfs::CurrentSI>::current().ok()?;
    let total = stat.total;
    let ticks = total.user
        + total.nice
        + total.system
        + total.irq.unwrap_or_default()
        + total.softirq.unwrap_or_default()
        + total.steal.unwrap_or_default();
    Some(ticks.saturating_mul(1_000_000_000 / procfs::ticks_per_second().max(1)))
}
