//! How containers and pods are limited, and where they run (upstream:
//! `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go`, `pkg/kubelet/cm/helpers_linux.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use knode_cri as cri;
use knode_kubelet_resources::Managers;
use knode_kubelet_resources::machine::huge_page_resource;

use crate::model::Rejection;
use crate::pod::PodExt;
use crate::qos::{Qos, amounts, class, pod_total};
use crate::spec::resources;

/// The kernel's usual period of limits of processor time, in microseconds.
const PERIOD: i64 = 100_000;
const MIN_QUOTA: i64 = 1000;

/// How pods are kept from swapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swap {
    /// Version 1 control groups: limits of memory hold for memory and swap together.
    #[default]
    WithMemory,
    /// None may swap.
    Never,
    /// `LimitedSwap`: burstable containers may, in the proportion of their requests to the machine's memory.
    Limited {
        /// Bytes of the machine's memory.
        memory: u64,
        /// Bytes of its swap.
        swap: u64,
    },
}

/// What the kubelet's configuration says about resources.
#[derive(Clone)]
pub struct ResourceRules {
    /// Who has processors and memory for themselves; none if nobody has.
    pub managers: Option<Arc<Managers>>,
    /// Microseconds of the period of limits of processor time; none if they do not hold.
    pub cfs_period: Option<i64>,
    /// Processes that a pod may have.
    pub pids: Option<i64>,
    /// Containers that name no seccomp profile get the runtime's.
    pub seccomp_default: bool,
    /// Names of kernel parameters that pods may set beside the safe ones, or their beginnings with a star.
    pub unsafe_sysctls: Vec<String>,
    /// Who may swap.
    pub swap: Swap,
    /// Sizes of huge pages that the machine has, in bytes.
    pub huge_pages: Vec<u64>,
}

impl Default for ResourceRules {
    fn default() -> Self {
        Self {
            managers: None,
            cfs_period: Some(PERIOD),
            pids: None,
            seccomp_default: false,
            unsafe_sysctls: Vec::new(),
            swap: Swap::default(),
            huge_pages: Vec::new(),
        }
    }
}

impl ResourceRules {
    /// Limits of one container.
    pub(crate) fn of_container(
        &self,
        pod: &Pod,
        container: &Container,
        node_memory: i64,
    ) -> cri::LinuxContainerResources {
        let mut limits = resources::of_container(pod, container, node_memory);
        self.restrict(&mut limits, pod, container);
        limits
    }

    /// Limits of the pod as a whole.
    pub(crate) fn of_pod(&self, pod: &Pod) -> cri::LinuxContainerResources {
        let mut limits = resources::of_pod(pod);
        let own = self
            .managers
            .as_ref()
            .is_some_and(|managers| managers.has_exclusive(pod.uid()));
        self.restrict_time(&mut limits, own);
        if let Some(pids) = self.pids {
            limits.unified.insert("pids.max".to_owned(), pids.to_string());
        }
        let total = pod_total(pod, true);
        limits.hugepage_limits =
            self.huge_page_limits(|name| total.get(name).map_or(0, |amount| amount.value()));
        limits
    }

    /// Completes a container's configuration.
    pub(crate) fn put_into(&self, config: &mut cri::ContainerConfig, pod: &Pod, container: &Container) {
        let linux = config.linux.get_or_insert_default();
        self.restrict(linux.resources.get_or_insert_default(), pod, container);
        let security = linux.security_context.get_or_insert_default();
        if self.seccomp_default && !security.privileged && !names_profile(pod, container) {
            security.seccomp = Some(cri::SecurityProfile {
                profile_type: cri::security_profile::ProfileType::RuntimeDefault as i32,
                localhost_ref: String::new(),
            });
        }
    }

    fn restrict(&self, limits: &mut cri::LinuxContainerResources, pod: &Pod, container: &Container) {
        let pin = self
            .managers
            .as_ref()
            .map(|managers| managers.pin(pod.uid(), &container.name));
        let pin = pin.unwrap_or_default();
        self.restrict_time(limits, pin.exclusive);
        limits.cpuset_cpus = pin.cpus;
        limits.cpuset_mems = pin.mems;
        let own = amounts(container, true);
        limits.hugepage_limits =
            self.huge_page_limits(|name| own.get(name).map_or(0, |amount| amount.value()));
        if self.swap != Swap::WithMemory {
            let swap = self.swap_of(pod, container);
            limits.memory_swap_limit_in_bytes = 0;
            limits
                .unified
                .insert("memory.swap.max".to_owned(), swap.to_string());
        }
    }

    /// Whoever has processors alone is not held back on them.
    fn restrict_time(&self, limits: &mut cri::LinuxContainerResources, exclusive: bool) {
        let Some(period) = self.cfs_period else {
            (limits.cpu_period, limits.cpu_quota) = (0, 0);
            return;
        };
        if limits.cpu_quota > 0 && period != PERIOD {
            limits.cpu_quota = (limits.cpu_quota * period / PERIOD).max(MIN_QUOTA);
        }
        limits.cpu_period = period;
        if exclusive {
            limits.cpu_quota = -1;
        }
    }

    fn huge_page_limits(&self, of: impl Fn(&str) -> i64) -> Vec<cri::HugepageLimit> {
        let limit = |size: &u64| cri::HugepageLimit {
            page_size: page_size(*size),
            limit: u64::try_from(of(&huge_page_resource(*size))).unwrap_or(0),
        };
        self.huge_pages.iter().map(limit).collect()
    }

    /// Bytes of swap that a container may use.
    fn swap_of(&self, pod: &Pod, container: &Container) -> u64 {
        let Swap::Limited { memory, swap } = self.swap else {
            return 0;
        };
        let of = |limits| {
            amounts(container, limits)
                .get("memory")
                .map_or(0, |amount| amount.value())
        };
        let request = u64::try_from(of(false)).unwrap_or(0);
        let fixed = request == 0 || of(true) == of(false);
        if fixed || class(pod) != Qos::Burstable || pod.is_critical() || memory == 0 {
            return 0;
        }
        let share = u128::from(request) * u128::from(swap) / u128::from(memory);
        u64::try_from(share).unwrap_or(swap).min(swap)
    }

    /// Gives a pod the processors and the memory that it asks for.
    pub(crate) fn admit(&self, pod: &Pod) -> Option<Rejection> {
        let managers = self.managers.as_ref()?;
        let denied = managers.admit(pod, class(pod) == Qos::Guaranteed).err()?;
        Some(Rejection {
            reason: denied.reason,
            message: denied.message,
        })
    }

    /// Takes back what pods have that are not among these.
    pub(crate) fn retain(&self, uids: &BTreeSet<String>) {
        if let Some(managers) = &self.managers {
            managers.retain(uids);
        }
    }
}

/// A size of huge pages as the kernel's files have it: `2MB`.
pub fn page_size(bytes: u64) -> String {
    let units = BTreeMap::from([(30, "GB"), (20, "MB"), (10, "KB")]);
    let unit = units.iter().rev().find(|(shift, _)| bytes >> **shift > 0);
    unit.map_or_else(
        || format!("{bytes}B"),
        |(shift, name)| format!("{}{name}", bytes >> shift),
    )
}

fn names_profile(pod: &Pod, container: &Container) -> bool {
    let own = container
        .security_context
        .as_ref()
        .and_then(|own| own.seccomp_profile.as_ref());
    let shared = pod
        .spec()
        .and_then(|spec| spec.security_context.as_ref()?.seccomp_profile.as_ref());
    own.or(shared).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(resources: Value) -> (Pod, Container) {
        let pod = json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "c", "resources": resources}]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let container = pod.main_containers()[0].clone();
        (pod, container)
    }

    #[test]
    fn time_is_limited_by_the_period_or_not_at_all() {
        let (pod, container) = pod(json!({"limits": {"cpu": "500m"}}));
        let of = |period| {
            let rules = ResourceRules {
                cfs_period: period,
                ..ResourceRules::default()
            };
            let limits = rules.of_container(&pod, &container, 0);
            (limits.cpu_period, limits.cpu_quota)
        };
        assert_eq!(of(Some(100_000)), (100_000, 50_000));
        assert_eq!(of(Some(10_000)), (10_000, 5000));
        assert_eq!(of(Some(1000)), (1000, 1000));
        assert_eq!(of(None), (0, 0));
    }

    #[test]
    fn processes_and_huge_pages() {
        let (pod, container) = pod(json!({"limits": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}}));
        let rules = ResourceRules {
            pids: Some(64),
            huge_pages: vec![2 << 20, 1 << 30],
            ..ResourceRules::default()
        };
        let whole = rules.of_pod(&pod);
        assert_eq!(whole.unified["pids.max"], "64");
        let limits = rules.of_container(&pod, &container, 0);
        assert!(limits.unified.is_empty());
        for limits in [whole, limits] {
            let pages: Vec<_> = limits
                .hugepage_limits
                .iter()
                .map(|one| (one.page_size.as_str(), one.limit))
                .collect();
            assert_eq!(pages, [("2MB", 4 << 20), ("1GB", 0)]);
        }
    }

    #[test]
    fn swap_in_proportion() {
        let of = |swap, resources| {
            let (pod, container) = pod(resources);
            let rules = ResourceRules {
                swap,
                ..ResourceRules::default()
            };
            let limits = rules.of_container(&pod, &container, 0);
            (
                limits.memory_swap_limit_in_bytes,
                limits.unified.get("memory.swap.max").cloned(),
            )
        };
        let limited = Swap::Limited {
            memory: 8 << 30,
            swap: 4 << 30,
        };
        let burstable = json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}});
        assert_eq!(
            of(limited, burstable.clone()),
            (0, Some((512_u64 << 20).to_string()))
        );
        assert_eq!(of(limited, json!({})), (0, Some("0".to_owned())));
        assert_eq!(
            of(limited, json!({"limits": {"memory": "1Gi", "cpu": "1"}})),
            (0, Some("0".to_owned()))
        );
        assert_eq!(of(Swap::Never, burstable.clone()), (0, Some("0".to_owned())));
        assert_eq!(of(Swap::WithMemory, burstable), (2 << 30, None));
    }

    #[test]
    fn the_runtimes_profile_where_none_is_named() {
        let rules = ResourceRules {
            seccomp_default: true,
            ..ResourceRules::default()
        };
        let of = |pod: &Pod, container: &Container| {
            let mut config = cri::ContainerConfig::default();
            rules.put_into(&mut config, pod, container);
            config
                .linux
                .unwrap()
                .security_context
                .unwrap()
                .seccomp
                .map(|seccomp| seccomp.profile_type)
        };
        let (pod, container) = pod(json!({}));
        let default = cri::security_profile::ProfileType::RuntimeDefault as i32;
        assert_eq!(of(&pod, &container), Some(default));
        let mut named = container.clone();
        named.security_context =
            serde_json::from_value(json!({"seccompProfile": {"type": "Unconfined"}})).unwrap();
        assert_eq!(of(&pod, &named), None);
    }
}
