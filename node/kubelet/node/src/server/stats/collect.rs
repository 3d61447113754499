//! Gathering: the runtime for containers, the kernel for the node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use knode_cri::{
    ContainerStats, CriResult, ListContainerStatsRequest, ListPodSandboxStatsRequest, UInt64Value,
};
use knode_linux::cgroup::{self, Cgroups};
use knode_linux::filewatch::{self, FileSystemUsage};

use super::super::Kubelet;
use super::pods::{self, Interface, Pod};
use super::pressure::Pressures;
use super::storage::{self, Held};
use crate::machine;

/// What is in use now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Usage {
    pub(super) node_name: String,
    pub(super) started: Timestamp,
    pub(super) now: Timestamp,
    pub(super) node: Amount,
    pub(super) memory_available: u64,
    /// The machine's.
    pub(super) swap: Swap,
    pub(super) fs: Option<FileSystemUsage>,
    /// What all pods together use.
    pub(super) whole: Option<Whole>,
    /// Of images, and of containers' layers.
    pub(super) runtime_fs: (Option<Held>, Option<Held>),
    pub(super) containers: Vec<Container>,
    /// By uid.
    pub(super) pods: BTreeMap<String, Pod>,
    /// The machine's, the busiest first.
    pub(super) interfaces: Vec<Interface>,
    /// Tasks there are and there may be.
    pub(super) tasks: Option<(u64, u64)>,
}

/// Processor time and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Amount {
    pub(in crate::server) cpu_nanoseconds: Option<u64>,
    pub(in crate::server) cpu_nanocores: Option<u64>,
    pub(in crate::server) working_set: Option<u64>,
    pub(in crate::server) usage: Option<u64>,
    pub(in crate::server) rss: Option<u64>,
    pub(in crate::server) page_faults: Option<u64>,
    pub(in crate::server) major_page_faults: Option<u64>,
}

/// A control group as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) amount: Amount,
    /// Bytes below its limit, where there is one.
    pub(super) memory_available: Option<u64>,
    pub(super) swapped: u64,
}

/// Bytes of swap that may still be used, and that are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swap {
    pub(super) available: Option<u64>,
    pub(super) used: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) image: String,
    pub(super) pod: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) amount: Amount,
    pub(super) pressures: Pressures,
    /// Bytes below the container's limit, where there is one.
    pub(super) memory_available: Option<u64>,
    pub(super) swap: Swap,
    pub(super) layer_bytes: Option<u64>,
    pub(super) layer_inodes: Option<u64>,
    pub(super) logs: Option<Held>,
    /// When it began to run.
    pub(super) started: Option<Timestamp>,
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
        swap: machine_swap(),
        fs: filewatch::file_system_usage(&kubelet.root_dir).ok(),
        whole: kubelet.pods_cgroup.as_deref().and_then(whole),
        runtime_fs: (None, None),
        containers,
        pods: pods(kubelet).await,
        interfaces: pods::of_machine(),
        tasks: machine::processes().ok(),
    })
}

/// The same with what volumes, layers and logs hold, which takes longer.
pub(super) async fn with_storage(kubelet: &Kubelet) -> CriResult<Usage> {
    let mut usage = usage(kubelet).await?;
    begin(&mut usage, &kubelet.pods.pods());
    usage.runtime_fs = storage::of_runtime(kubelet.images.as_ref()).await;
    let logs = |one: &Container| {
        let pod = format!("{}_{}_{}", one.namespace, one.pod, one.uid);
        (pod, one.name.clone())
    };
    let wanted = usage.containers.iter().map(logs).collect();
    let found = storage::of_logs(&kubelet.pod_logs_dir, wanted).await;
    for one in &mut usage.containers {
        one.logs = found.get(&logs(one)).copied();
    }
    let claimed = kubelet
        .claims
        .of(kubelet.pods.as_ref(), kubelet.clock.monotonic());
    let claimed = claimed.await;
    let uids = usage.containers.iter().map(|one| one.uid.clone());
    let uids: BTreeSet<String> = uids.chain(usage.pods.keys().cloned()).collect();
    let (at, now) = (usage.now, kubelet.clock.monotonic());
    let found = kubelet
        .volumes
        .of(&kubelet.root_dir, uids.into_iter().collect(), claimed, at, now);
    for (uid, volumes) in found.await {
        usage.pods.entry(uid).or_default().volumes = volumes;
    }
    Ok(usage)
}

/// When pods and their containers began, by their statuses.
fn begin(usage: &mut Usage, pods: &[Arc<ApiPod>]) {
    let uid_of = |pod: &ApiPod| pod.metadata.uid.clone().unwrap_or_default();
    for pod in pods {
        let (uid, Some(status)) = (uid_of(pod), &pod.status) else {
            continue;
        };
        if !usage.containers.iter().any(|container| container.uid == uid) {
            continue;
        }
        if let Some(time) = &status.start_time {
            usage.pods.entry(uid.clone()).or_default().started = Some(time.0);
        }
        let all = [
            &status.container_statuses,
            &status.init_container_statuses,
            &status.ephemeral_container_statuses,
        ];
        for one in all.into_iter().flatten().flatten() {
            let running = one.state.as_ref().and_then(|state| state.running.as_ref());
            let started = running.and_then(|running| running.started_at.as_ref());
            let mut own = usage.containers.iter_mut();
            let own = own.find(|container| container.uid == uid && container.name == one.name);
            if let (Some(container), Some(time)) = (own, started) {
                container.started = Some(time.0);
            }
        }
    }
}

/// What the runtime tells of pods; older ones do not, and nothing is said of it then.
async fn pods(kubelet: &Kubelet) -> BTreeMap<String, Pod> {
    let request = ListPodSandboxStatsRequest::default();
    match kubelet.runtime.list_pod_sandbox_stats(request).await {
        Ok(answer) => pods::of_runtime(answer.stats),
        Err(error) => {
            tracing::debug!(%error, "the runtime tells nothing of pods as a whole");
            BTreeMap::new()
        }
    }
}

fn container(stats: ContainerStats, now: Timestamp) -> Container {
    let attributes = stats.attributes.unwrap_or_default();
    let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
    let value = |value: Option<UInt64Value>| value.map(|value| value.value);
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    let swap = stats.swap.unwrap_or_default();
    let layer = stats.writable_layer.unwrap_or_default();
    let at = Timestamp::from_nanosecond(i128::from(cpu.timestamp)).ok();
    Container {
        name: label("io.kubernetes.container.name"),
        image: attributes
            .annotations
            .get("io.kubernetes.container.image")
            .cloned()
            .unwrap_or_default(),
        pod: label("io.kubernetes.pod.name"),
        namespace: label("io.kubernetes.pod.namespace"),
        uid: label("io.kubernetes.pod.uid"),
        amount: Amount {
            cpu_nanoseconds: value(cpu.usage_core_nano_seconds),
            cpu_nanocores: value(cpu.usage_nano_cores),
            working_set: value(memory.working_set_bytes),
            usage: value(memory.usage_bytes),
            rss: value(memory.rss_bytes),
            page_faults: value(memory.page_faults),
            major_page_faults: value(memory.major_page_faults),
        },
        pressures: Pressures::new(cpu.psi, memory.psi, stats.io),
        memory_available: value(memory.available_bytes),
        swap: Swap {
            available: value(swap.swap_available_bytes),
            used: value(swap.swap_usage_bytes),
        },
        id: attributes.id.clone(),
        layer_bytes: layer.used_bytes.map(|bytes| bytes.value),
        layer_inodes: layer.inodes_used.map(|inodes| inodes.value),
        logs: None,
        started: None,
        at: at.filter(|at| at.as_second() > 0).unwrap_or(now),
    }
}

/// A group, once it is there.
fn whole(group: &Path) -> Option<Whole> {
    let cgroups = Cgroups::detect(Path::new(cgroup::DEFAULT_ROOT)).ok()?;
    let found = cgroups.usage(group).ok()?;
    let (cpu, memory) = (found.cpu, found.memory);
    Some(Whole {
        amount: Amount {
            cpu_nanoseconds: Some(cpu.nanoseconds),
            cpu_nanocores: None,
            working_set: Some(memory.working_set),
            usage: Some(memory.usage),
            rss: Some(memory.rss),
            page_faults: Some(memory.page_faults),
            major_page_faults: Some(memory.major_page_faults),
        },
        memory_available: memory.limit.map(|limit| limit.saturating_sub(memory.working_set)),
        swapped: memory.swap,
    })
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

fn machine_swap() -> Swap {
    let Ok(memory) = <procfs::Meminfo as procfs::Current>::current() else {
        return Swap::default();
    };
    Swap {
        available: Some(memory.swap_free),
        used: Some(memory.swap_total.saturating_sub(memory.swap_free)),
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
