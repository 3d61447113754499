//! What the kubelet's configuration says about the machine's resources: who has what, and the control groups that hold
//! everybody to it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::ObjectReference;
use knode_api::quantity::Quantity;
use knode_client::{Clock, EventRecorder};
use knode_cri::{HugepageLimit, LinuxContainerResources};
use knode_kubelet::{PodCgroups, ResourceRules, Swap};
use knode_kubelet_config::{ResourceSettings, Settings};
use knode_kubelet_node::{EvictionConfig, MachineInfo, Reserved, Signal};
use knode_kubelet_resources::allocatable::{Amounts, Enforcement, Group, groups};
use knode_kubelet_resources::cpu::{CpuOptions, CpuPolicy};
use knode_kubelet_resources::machine;
use knode_kubelet_resources::memory::{MemoryPolicy, Reservation};
use knode_kubelet_resources::topology::{Policy, Scope, TopologyOptions};
use knode_kubelet_resources::{CpuSet, ManagerSettings, Managers};
use knode_linux::cgroup::Version;
use tokio::task::JoinSet;

use super::cgroups::Groups;

/// How long until a control group that could not be limited is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// What is set aside, of a configuration that has been read.
#[derive(Clone, Debug, Default)]
pub struct Reservations {
    system: Amounts,
    kube: Amounts,
    cpus: CpuSet,
    enforce: Enforcement,
}

impl Reservations {
    /// Reads them.
    pub fn read(all: &ResourceSettings) -> anyhow::Result<Self> {
        let mut system = Amounts::parse("systemReserved", &all.system_reserved)?;
        let mut kube = Amounts::parse("kubeReserved", &all.kube_reserved)?;
        let cpus: CpuSet = all.reserved_system_cpus.parse().context("reservedSystemCPUs")?;
        if !cpus.is_empty() {
            // As upstream: named processors go before numbers.
            (system.milli_cpu, kube.milli_cpu) = (cpus.len() as u64 * 1000, 0);
        }
        let (own, kubes) = (&all.system_reserved_cgroup, &all.kube_reserved_cgroup);
        let enforce = Enforcement::parse(&all.enforce_node_allocatable, own, kubes)?;
        ensure!(
            cpus.is_empty() || (enforce.system.is_none() && enforce.kube.is_none()),
            "can't use reservedSystemCPUs with systemReservedCgroup or kubeReservedCgroup"
        );
        Ok(Self {
            system,
            kube,
            cpus,
            enforce,
        })
    }

    /// The group of all pods, as the kubelet names it, where what is set aside is kept from them.
    pub fn pods_cgroup(&self, cgroup_root: &str) -> Option<String> {
        self.enforce.pods.then(|| pods_cgroup(cgroup_root))
    }

    /// Both together, as the node's status counts them.
    pub fn sum(&self) -> Reserved {
        let both = self.system.plus(&self.kube);
        Reserved {
            milli_cpu: both.milli_cpu,
            memory: both.memory,
            storage: both.storage,
        }
    }
}

/// The group of all pods, as the kubelet names it.
pub fn pods_cgroup(cgroup_root: &str) -> String {
    format!("{}/kubepods", cgroup_root.trim_end_matches('/'))
}

/// The machine's resources under one kubelet.
pub struct Resources {
    pub managers: Arc<Managers>,
    pub rules: ResourceRules,
    groups: Vec<Group>,
}

impl Resources {
    /// Takes up what pods were given before.
    pub fn open(
        all: &Settings,
        eviction: &EvictionConfig,
        directory: &Path,
        cgroup_root: &str,
        version: Version,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let held = Reservations::read(&all.resources)?;
        let info = MachineInfo::read(directory).context("look at the machine")?;
        let machine = machine::read(Path::new("/sys/devices/system"), info.memory)?;
        let capacity = capacity(&info);
        let both = held.system.plus(&held.kube);
        capacity.holds(&both)?;
        let mut settings = manager_settings(&all.resources, &held)?;
        settings.directory = directory.to_owned();
        if settings.memory == MemoryPolicy::Static {
            let evicted = eviction.held(Signal::MemoryAvailable, info.memory);
            check_memory(&settings.reserved_memory, both.memory + evicted)?;
        }
        let managers = Arc::new(Managers::open(settings, &machine)?);
        let rules = ResourceRules {
            managers: Some(managers.clone()),
            huge_pages: info.huge_pages.keys().copied().collect(),
            ..rules(&all.resources, version, info.memory)?
        };
        let groups = groups(cgroup_root, &capacity, (&held.system, &held.kube), &held.enforce);
        Ok(Self {
            managers,
            rules,
            groups,
        })
    }

    /// Limits the control groups, and says so in Events of the node.
    pub fn enforce(
        &self,
        cgroups: Groups,
        node: &str,
        recorder: EventRecorder,
        clock: Arc<dyn Clock>,
        tasks: &mut JoinSet<String>,
    ) {
        let node = ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.to_owned()),
            api_version: Some("v1".into()),
            ..ObjectReference::default()
        };
        let groups = self.groups.clone();
        tasks.spawn(async move {
            for group in &groups {
                while let Err(error) = limit(&cgroups, group) {
                    let text = format!("{}: {error}", group.failed);
                    tracing::warn!("{text}");
                    recorder.warning(node.clone(), "FailedNodeAllocatableEnforcement", text);
                    // Pods that use more are ended one by one; then it can be done.
                    clock.sleep(RETRY).await;
                }
                recorder.normal(node.clone(), "NodeAllocatableEnforced", group.done.clone());
            }
            std::future::pending().await
        });
    }
}

fn limit(cgroups: &Groups, group: &Group) -> io::Result<()> {
    let number = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    let page = |(size, bytes): (&u64, &u64)| HugepageLimit {
        page_size: knode_kubelet::page_size(*size),
        limit: *bytes,
    };
    let mut limits = LinuxContainerResources {
        cpu_shares: number(group.shares),
        memory_limit_in_bytes: group.memory.map_or(0, number),
        hugepage_limits: group.huge_pages.iter().map(page).collect(),
        ..LinuxContainerResources::default()
    };
    if let Some(pids) = group.pids {
        limits.unified.insert("pids.max".to_owned(), pids.to_string());
    }
    match group.existing {
        true => cgroups.limit_existing(&group.name, &limits),
        false => cgroups.apply(&group.name, &limits),
    }
}

fn capacity(info: &MachineInfo) -> Amounts {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let most = [
        number("/proc/sys/kernel/pid_max"),
        number("/proc/sys/kernel/threads-max"),
    ];
    Amounts {
        milli_cpu: u64::from(info.cpus) * 1000,
        memory: info.memory,
        storage: info.ephemeral_storage,
        pids: most.into_iter().flatten().min().unwrap_or(0),
        huge_pages: info.huge_pages.clone(),
    }
}

fn manager_settings(all: &ResourceSettings, held: &Reservations) -> anyhow::Result<ManagerSettings> {
    let options = CpuOptions::parse(&all.cpu_manager_policy_options).context("cpuManagerPolicyOptions")?;
    let cpu = match all.cpu_manager_policy.as_str() {
        "static" => CpuPolicy::Static(options),
        _ if !all.cpu_manager_policy_options.is_empty() => {
            bail!("cpuManagerPolicyOptions: the policy \"none\" has no options")
        }
        _ => CpuPolicy::None,
    };
    let memory = match all.memory_manager_policy.as_str() {
        "Static" => MemoryPolicy::Static,
        _ => MemoryPolicy::None,
    };
    let options = TopologyOptions::parse(&all.topology_manager_policy_options);
    let options = options.context("topologyManagerPolicyOptions")?;
    let milli = held.system.milli_cpu + held.kube.milli_cpu;
    Ok(ManagerSettings {
        cpu,
        reserved_cpus: held.cpus.clone(),
        reserved_count: usize::try_from(milli.div_ceil(1000))?,
        memory,
        reserved_memory: reserved_memory(all)?,
        topology: Policy::parse(&all.topology_manager_policy).context("topologyManagerPolicy")?,
        scope: Scope::parse(&all.topology_manager_scope).context("topologyManagerScope")?,
        prefer_closest: options.prefer_closest,
        most_nodes: options.most_nodes,
        ..ManagerSettings::default()
    })
}

fn reserved_memory(all: &ResourceSettings) -> anyhow::Result<Reservation> {
    let mut reserved = Reservation::new();
    for one in &all.reserved_memory {
        let node = reserved.entry(one.numa_node).or_default();
        for (resource, text) in &one.limits {
            ensure!(
                resource == "memory" || resource.starts_with("hugepages-"),
                "reservedMemory: {resource} is no memory"
            );
            let amount = Quantity::parse(text)
                .ok()
                .and_then(|amount| u64::try_from(amount.value()).ok());
            let amount = amount.filter(|amount| *amount > 0);
            let amount =
                amount.with_context(|| format!("reservedMemory: {resource}: {text:?} is no amount"))?;
            ensure!(
                node.insert(resource.clone(), amount).is_none(),
                "reservedMemory: {resource} of node {} stands twice",
                one.numa_node
            );
        }
    }
    Ok(reserved)
}

/// What is reserved of the nodes must come to what is reserved in all.
fn check_memory(reserved: &Reservation, all: u64) -> anyhow::Result<()> {
    let sum: u64 = reserved.values().filter_map(|node| node.get("memory")).sum();
    ensure!(
        sum == all,
        "the total amount {sum} of type \"memory\" is not equal to the value {all} determined by Node Allocatable feature"
    );
    Ok(())
}

fn rules(all: &ResourceSettings, version: Version, memory: u64) -> anyhow::Result<ResourceRules> {
    let limited = all.memory_swap.swap_behavior == "LimitedSwap";
    let swap = match (version, limited) {
        (Version::V1, true) => {
            bail!("memorySwap.swapBehavior: \"LimitedSwap\" is not supported with version 1 control groups")
        }
        (Version::V1, false) => Swap::WithMemory,
        (Version::V2, false) => Swap::Never,
        (Version::V2, true) => Swap::Limited {
            memory,
            swap: total_swap(),
        },
    };
    let period = i64::try_from(all.cpu_cfs_quota_period.as_micros())?;
    ensure!(
        (1000..=1_000_000).contains(&period),
        "cpuCFSQuotaPeriod must be between 1ms and 1sec, inclusive"
    );
    for name in &all.allowed_unsafe_sysctls {
        let front = name.strip_suffix('*').unwrap_or(name);
        ensure!(
            NAMESPACED.iter().any(|known| front.starts_with(known)),
            "allowedUnsafeSysctls: {name:?} is not of a pod's own namespaces"
        );
    }
    Ok(ResourceRules {
        cfs_period: all.cpu_cfs_quota.then_some(period),
        pids: Some(all.pod_pids_limit).filter(|limit| *limit > 0),
        seccomp_default: all.seccomp_default,
        unsafe_sysctls: all.allowed_unsafe_sysctls.clone(),
        swap,
        ..ResourceRules::default()
    })
}

/// Kernel parameters of which each pod has its own.
const NAMESPACED: &[&str] = &["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.", "net."];

fn total_swap() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("SwapTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The kubelet's own word on options that do not fit this machine, before anything is made.
pub fn check(all: &Settings, version: Version) -> anyhow::Result<()> {
    let held = Reservations::read(&all.resources)?;
    manager_settings(&all.resources, &held)?;
    rules(&all.resources, version, 0).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

    fn read(text: &str) -> anyhow::Result<ResourceSettings> {
        let files = [("c".to_owned(), format!("{HEAD}{text}"))];
        let sources = knode_kubelet_config::Sources {
            files: &files,
            ..Default::default()
        };
        let line = knode_kubelet_config::CommandLine::default();
        Ok(knode_kubelet_config::settle(&line, sources)?.settings.resources)
    }

    fn wrong(text: &str, version: Version) -> String {
        let all = read(text).unwrap();
        let held = Reservations::read(&all).and_then(|held| manager_settings(&all, &held));
        let error = held.map(drop).and_then(|()| rules(&all, version, 0).map(drop));
        format!("{:#}", error.unwrap_err())
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let v1 = |text| wrong(text, Version::V1);
        assert!(v1("memorySwap: {swapBehavior: LimitedSwap}").contains("LimitedSwap"));
        assert!(v1("cpuCFSQuotaPeriod: 2s").contains("cpuCFSQuotaPeriod"));
        assert!(v1("cpuManagerPolicyOptions: {full-pcpus-only: 'true'}").contains("no options"));
        assert!(v1("allowedUnsafeSysctls: [vm.swappiness]").contains("vm.swappiness"));
        assert!(v1("reservedSystemCPUs: x").contains("reservedSystemCPUs"));
        assert!(v1("systemReserved: {gpu: '1'}").contains("gpu"));
        assert!(v1("enforceNodeAllocatable: [pods, system-reserved]").contains("systemReservedCgroup"));
        assert!(v1("reservedMemory: [{numaNode: 0, limits: {cpu: '1'}}]").contains("cpu is no memory"));
        assert!(v1("topologyManagerPolicyOptions: {none-such: 'true'}").contains("none-such"));
    }

    #[test]
    fn named_processors_go_before_numbers() {
        let all = read(
            "reservedSystemCPUs: 0-1\nsystemReserved: {cpu: 500m, memory: 1Gi}\nkubeReserved: {cpu: '3'}",
        );
        let held = Reservations::read(&all.unwrap()).unwrap();
        assert_eq!(held.sum().milli_cpu, 2000);
        assert_eq!(held.sum().memory, 1 << 30);
    }
}
