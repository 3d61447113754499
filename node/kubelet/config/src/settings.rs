//! The fields that are followed, typed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use knode_api::time::parse_duration;
use serde::{Deserialize, Deserializer};

/// What this kubelet follows of a complete configuration. Names and meanings are those of `KubeletConfiguration`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Settings {
    /// A directory of manifests, or one; empty for none.
    #[serde(default)]
    pub static_pod_path: String,
    /// A URL of manifests; empty for none.
    #[serde(default, rename = "staticPodURL")]
    pub static_pod_url: String,
    /// Headers that it is asked with.
    #[serde(default, rename = "staticPodURLHeader")]
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    /// Pause between two looks at it.
    #[serde(deserialize_with = "time")]
    pub http_check_frequency: Duration,
    pub pod_logs_dir: String,
    pub address: IpAddr,
    pub port: u16,
    /// The certificate to serve with, PEM; empty for one of the cluster.
    #[serde(default)]
    pub tls_cert_file: String,
    /// Its key.
    #[serde(default)]
    pub tls_private_key_file: String,
    /// Of TLS 1.2; empty for all good ones.
    #[serde(default)]
    pub tls_cipher_suites: Vec<String>,
    /// `VersionTLS12` or `VersionTLS13`.
    pub tls_min_version: String,
    #[serde(default)]
    pub authentication: Authentication,
    /// 0 turns it off.
    pub healthz_port: u16,
    pub healthz_bind_address: IpAddr,
    /// Empty for none.
    #[serde(default)]
    pub cluster_domain: String,
    #[serde(default, rename = "clusterDNS")]
    pub cluster_dns: Vec<IpAddr>,
    #[serde(rename = "imageMinimumGCAge", deserialize_with = "time")]
    pub image_minimum_gc_age: Duration,
    /// Zero: images are removed for want of space only.
    #[serde(rename = "imageMaximumGCAge", deserialize_with = "time")]
    pub image_maximum_gc_age: Duration,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    /// Empty for the root.
    #[serde(default)]
    pub cgroup_root: String,
    /// `cgroupfs` or `systemd`; a runtime that says its own goes before.
    pub cgroup_driver: String,
    pub max_pods: u32,
    /// Pods for each of the machine's processors, within `max_pods`; 0 for no limit of that kind.
    #[serde(default)]
    pub pods_per_core: u32,
    /// Images that the node's status names; -1 for all.
    pub node_status_max_images: i32,
    /// Empty for none.
    pub resolv_conf: String,
    /// By signal; all that hold, defaults included.
    #[serde(default)]
    pub eviction_hard: BTreeMap<String, String>,
    #[serde(default)]
    pub eviction_soft: BTreeMap<String, String>,
    #[serde(default)]
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    #[serde(default)]
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    #[serde(deserialize_with = "time")]
    pub eviction_pressure_transition_period: Duration,
    /// Seconds.
    pub eviction_max_pod_grace_period: u32,
    pub fail_swap_on: bool,
    /// One image after the other.
    pub serialize_image_pulls: bool,
    /// Images pulled at once; without, as many as there are.
    #[serde(default)]
    pub max_parallel_image_pulls: Option<u32>,
    /// Which images that are there are asked for again: `NeverVerify` and the like.
    pub image_pull_credentials_verification_policy: String,
    /// Images that are not; repositories, or beginnings of repositories that end in `/*`.
    #[serde(default)]
    pub preloaded_images_verification_allowlist: Vec<String>,
    #[serde(rename = "failCgroupV1")]
    pub fail_cgroup_v1: bool,
    /// Whether `/logs/` is served.
    pub enable_system_log_handler: bool,
    /// A quantity.
    pub container_log_max_size: String,
    pub container_log_max_files: u32,
    #[serde(deserialize_with = "time")]
    pub container_log_monitor_interval: Duration,
    #[serde(deserialize_with = "time")]
    pub shutdown_grace_period: Duration,
    #[serde(deserialize_with = "time")]
    pub shutdown_grace_period_critical_pods: Duration,
    #[serde(default)]
    pub shutdown_grace_period_by_pod_priority: Vec<PriorityGrace>,
    #[serde(default)]
    pub register_with_taints: Vec<Taint>,
    /// Empty for the engine in the same process.
    #[serde(default)]
    pub container_runtime_endpoint: String,
    /// Empty for that of the runtime.
    #[serde(default)]
    pub image_service_endpoint: String,
    /// Read for itself.
    #[serde(skip)]
    pub resources: ResourceSettings,
}

impl Settings {
    /// How many images are pulled at once; `usize::MAX` for no limit.
    pub fn image_pulls(&self) -> usize {
        match (self.serialize_image_pulls, self.max_parallel_image_pulls) {
            (true, _) => 1,
            (false, Some(most)) => usize::try_from(most).unwrap_or(usize::MAX),
            (false, None) => usize::MAX,
        }
    }
}

/// What is reserved, pinned and limited.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct ResourceSettings {
    pub cpu_manager_policy: String,
    #[serde(default)]
    pub cpu_manager_policy_options: BTreeMap<String, String>,
    pub memory_manager_policy: String,
    pub topology_manager_policy: String,
    pub topology_manager_scope: String,
    #[serde(default)]
    pub topology_manager_policy_options: BTreeMap<String, String>,
    /// Less than 1 for none.
    pub pod_pids_limit: i64,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    #[serde(rename = "cpuCFSQuotaPeriod", deserialize_with = "time")]
    pub cpu_cfs_quota_period: Duration,
    /// Quantities by resource.
    #[serde(default)]
    pub system_reserved: BTreeMap<String, String>,
    #[serde(default)]
    pub kube_reserved: BTreeMap<String, String>,
    /// A list such as `0-1`; empty for none.
    #[serde(default, rename = "reservedSystemCPUs")]
    pub reserved_system_cpus: String,
    #[serde(default)]
    pub system_reserved_cgroup: String,
    #[serde(default)]
    pub kube_reserved_cgroup: String,
    pub enforce_node_allocatable: Vec<String>,
    #[serde(default)]
    pub allowed_unsafe_sysctls: Vec<String>,
    #[serde(default)]
    pub reserved_memory: Vec<MemoryReservation>,
    pub seccomp_default: bool,
    #[serde(default)]
    pub memory_swap: MemorySwap,
}

/// Memory of a NUMA node that pods don't get.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct MemoryReservation {
    #[serde(default)]
    pub numa_node: u32,
    /// Quantities by resource.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
}

/// `memorySwap`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemorySwap {
    /// `LimitedSwap`, or none.
    #[serde(default)]
    pub swap_behavior: String,
}

/// `authentication`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Authentication {
    /// `x509`.
    #[serde(default)]
    pub x509: X509,
}

/// `authentication.x509`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct X509 {
    /// Who may sign clients; empty for the cluster's authority.
    #[serde(default, rename = "clientCAFile")]
    pub client_ca_file: String,
}

/// How long pods from a priority on may take at a shutdown of the machine.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct PriorityGrace {
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub shutdown_grace_period_seconds: u64,
}

/// A taint to register with.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct Taint {
    #[serde(default)]
    pub key: String,
    #[serde(default)]
    pub value: String,
    #[serde(default)]
    pub effect: String,
    #[serde(default, rename = "timeAdded")]
    pub time_added: Option<String>,
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse_duration(&text).ok_or_else(|| serde::de::Error::custom("not a duration"))
}
