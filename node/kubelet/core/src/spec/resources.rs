//! Limits of containers and pods in the kernel's terms (upstream: `pkg/kubelet/cm/helpers_linux.go`).

use k8s_openapi::api::core::v1::{Container, Pod};
use knode_cri as cri;

use crate::pod::PodExt;
use crate::qos::{
    Amounts, Qos, amounts, amounts_in, class, containers_total, own_resources, pod_total,
    total_without_overhead,
};

const PERIOD_MICROS: i64 = 100_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA_MICROS: i64 = 1000;

/// Shares of a request in thousandths of a core.
pub fn shares(milli_cpu: i64) -> i64 {
    (milli_cpu * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Microseconds of each period for a limit in thousandths of a core; 0 is no limit.
pub fn quota(milli_cpu: i64) -> i64 {
    match milli_cpu {
        ..=0 => 0,
        _ => (milli_cpu * PERIOD_MICROS / 1000).max(MIN_QUOTA_MICROS),
    }
}

fn milli_cpu(amounts: &Amounts) -> i64 {
    amounts
        .get("cpu")
        .map(knode_api::quantity::Quantity::milli_value)
        .unwrap_or(0)
}

fn memory(amounts: &Amounts) -> i64 {
    amounts
        .get("memory")
        .map(knode_api::quantity::Quantity::value)
        .unwrap_or(0)
}

/// Limits of one container. `swap_limited`: memory and swap together may be limited (cgroup v1).
pub fn of_container(pod: &Pod, container: &Container, node_memory: i64) -> cri::LinuxContainerResources {
    let (mut limits, requests) = (amounts(container, true), amounts(container, false));
    // A container without a limit may use what the pod as a whole may.
    for (name, amount) in amounts_in(own_resources(pod), true) {
        limits.entry(name).or_insert(amount);
    }
    let limit = memory(&limits);
    cri::LinuxContainerResources {
        cpu_period: PERIOD_MICROS,
        cpu_quota: quota(milli_cpu(&limits)),
        cpu_shares: shares(milli_cpu(&requests)),
        memory_limit_in_bytes: limit,
        memory_swap_limit_in_bytes: limit,
        oom_score_adj: oom_score_adj(pod, container, node_memory),
        ..cri::LinuxContainerResources::default()
    }
}

/// Limits of the pod as a whole: of each resource only if every container is limited.
pub fn of_pod(pod: &Pod) -> cri::LinuxContainerResources {
    let (limits, requests) = (pod_total(pod, true), pod_total(pod, false));
    let whole = amounts_in(own_resources(pod), true);
    let limited = |name: &str| {
        let mut all = pod.main_containers().iter();
        whole.get(name).is_some_and(|amount| !amount.is_zero())
            || all.all(|container| {
                amounts(container, true)
                    .get(name)
                    .is_some_and(|amount| !amount.is_zero())
            })
    };
    cri::LinuxContainerResources {
        cpu_period: PERIOD_MICROS,
        cpu_quota: if limited("cpu") {
            quota(milli_cpu(&limits))
        } else {
            0
        },
        cpu_shares: shares(milli_cpu(&requests)),
        memory_limit_in_bytes: if limited("memory") { memory(&limits) } else { 0 },
        ..cri::LinuxContainerResources::default()
    }
}

/// What a pod's sandbox is told of its containers' resources together, and of its overhead (upstream:
/// `pkg/kubelet/kuberuntime/kuberuntime_sandbox_linux.go`).
pub fn of_sandbox(pod: &Pod) -> (cri::LinuxContainerResources, cri::LinuxContainerResources) {
    let (limits, requests) = (
        total_without_overhead(pod, true),
        total_without_overhead(pod, false),
    );
    let overhead = pod.spec().and_then(|spec| spec.overhead.as_ref());
    let overhead = overhead.map(|overhead| {
        let fixed = k8s_openapi::api::core::v1::ResourceRequirements {
            limits: Some(overhead.clone()),
            ..Default::default()
        };
        linux(&amounts_in(Some(&fixed), true), &amounts_in(Some(&fixed), false))
    });
    (linux(&limits, &requests), overhead.unwrap_or_default())
}

fn linux(limits: &Amounts, requests: &Amounts) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources {
        cpu_period: PERIOD_MICROS,
        cpu_quota: quota(milli_cpu(limits)),
        cpu_shares: shares(milli_cpu(requests)),
        memory_limit_in_bytes: memory(limits),
        ..cri::LinuxContainerResources::default()
    }
}

/// How readily the kernel kills the container when memory runs out (upstream: `pkg/kubelet/qos/policy.go`).
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    let critical = pod.spec().and_then(|spec| spec.priority).unwrap_or(0) >= 2_000_000_000;
    match class(pod) {
        _ if critical => -997,
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = memory(&amounts(container, false)) + rest_of_memory(pod);
            let share = request.saturating_mul(1000).checked_div(node_memory).unwrap_or(0);
            (1000 - share).clamp(3, 999)
        }
    }
}

/// What each container has of the memory that the pod as a whole requests beyond its containers' requests.
fn rest_of_memory(pod: &Pod) -> i64 {
    let whole = memory(&amounts_in(own_resources(pod), false));
    if whole == 0 {
        return 0;
    }
    let count = pod.all_containers().count().max(1);
    let rest = whole - memory(&containers_total(pod, false));
    rest.max(0) / i64::try_from(count).unwrap_or(1)
}

/// `/kubepods[/burstable|/besteffort]` below the kubelet's cgroup root.
pub fn class_cgroup(root: &str, class: Qos) -> String {
    let root = root.trim_end_matches('/');
    let class = match class {
        Qos::Guaranteed => "",
        Qos::Burstable => "/burstable",
        Qos::BestEffort => "/besteffort",
    };
    format!("{root}/kubepods{class}")
}

/// The pod's group in that of its class.
pub fn cgroup_parent(root: &str, pod: &Pod) -> String {
    format!("{}/pod{}", class_cgroup(root, class(pod)), pod.uid())
}

/// Every place where the cgroup of a pod can be whose class is not known.
pub fn cgroup_candidates(root: &str, uid: &str) -> [String; 3] {
    [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort]
        .map(|class| format!("{}/pod{uid}", class_cgroup(root, class)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_quota_as_upstream_counts_them() {
        assert_eq!(
            (shares(0), shares(100), shares(50), shares(1_000_000)),
            (2, 102, 51, 262_144)
        );
        assert_eq!(
            (quota(0), quota(200), quota(150), quota(1)),
            (0, 20_000, 15_000, 1000)
        );
    }
}
