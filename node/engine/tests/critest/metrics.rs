//! Metrics: every one that upstream expects is described, and there for a container that does something.

use std::collections::BTreeMap;

use knode_cri::*;

use crate::case::Case;
use crate::support::limited;

/// What upstream expects of each container and pod.
const NAMES: &[&str] = &[
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_cpu_cfs_throttled_seconds_total",
    "container_cpu_system_seconds_total",
    "container_cpu_usage_seconds_total",
    "container_cpu_user_seconds_total",
    "container_file_descriptors",
    "container_fs_inodes_free",
    "container_fs_inodes_total",
    "container_fs_limit_bytes",
    "container_fs_usage_bytes",
    "container_last_seen",
    "container_memory_cache",
    "container_memory_failcnt",
    "container_memory_failures_total",
    "container_memory_kernel_usage",
    "container_memory_mapped_file",
    "container_memory_max_usage_bytes",
    "container_memory_rss",
    "container_memory_swap",
    "container_memory_usage_bytes",
    "container_memory_working_set_bytes",
    "container_network_receive_bytes_total",
    "container_network_receive_errors_total",
    "container_network_receive_packets_dropped_total",
    "container_network_receive_packets_total",
    "container_network_transmit_bytes_total",
    "container_network_transmit_errors_total",
    "container_network_transmit_packets_dropped_total",
    "container_network_transmit_packets_total",
    "container_oom_events_total",
    "container_processes",
    "container_sockets",
    "container_spec_cpu_period",
    "container_spec_cpu_shares",
    "container_spec_memory_limit_bytes",
    "container_spec_memory_swap_limit_bytes",
    "container_start_time_seconds",
    "container_threads",
    "container_threads_max",
];

/// What upstream expects described, but not counted everywhere.
const DESCRIBED: &[&str] = &[
    "container_blkio_device_usage_total",
    "container_fs_reads_bytes_total",
    "container_fs_reads_total",
    "container_fs_writes_bytes_total",
    "container_fs_writes_total",
    "container_hugetlb_max_usage_bytes",
    "container_hugetlb_usage_bytes",
    "container_pressure_cpu_stalled_seconds_total",
    "container_pressure_cpu_waiting_seconds_total",
    "container_pressure_io_stalled_seconds_total",
    "container_pressure_io_waiting_seconds_total",
    "container_pressure_memory_stalled_seconds_total",
    "container_pressure_memory_waiting_seconds_total",
    "container_spec_cpu_quota",
    "container_spec_memory_reservation_limit_bytes",
    "container_ulimits_soft",
];

async fn descriptors(case: &Case<'_>) -> Vec<MetricDescriptor> {
    let request = ListMetricDescriptorsRequest {};
    case.cri()
        .list_metric_descriptors(request)
        .await
        .unwrap()
        .descriptors
}

pub async fn are_described(case: &Case<'_>) {
    let described = descriptors(case).await;
    for one in &described {
        assert!(!one.help.is_empty() && !one.label_keys.is_empty(), "{one:?}");
    }
    for name in NAMES.iter().chain(DESCRIBED) {
        assert!(described.iter().any(|one| one.name == *name), "{name}");
    }
}

pub async fn are_counted(case: &Case<'_>) {
    let pod = case.pod().await;
    let config = limited(case.staying().await, |resources| {
        (resources.cpu_period, resources.cpu_quota, resources.cpu_shares) = (100_000, 20_000, 1024);
        resources.memory_limit_in_bytes = 64 << 20;
        resources.memory_swap_limit_in_bytes = 64 << 20;
    });
    let id = case.run_config(&pod, config).await;
    let script = "mkdir -p /var/lib/mydisktest && for i in $(seq 1 10); do echo hi >> /var/lib/mydisktest/file_$i; done; sync";
    case.prints_inside(&id, &["sh", "-c", script]).await;
    let all = case
        .cri()
        .list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {})
        .await
        .unwrap();
    let own = all
        .pod_metrics
        .into_iter()
        .find(|one| one.pod_sandbox_id == pod)
        .unwrap();
    let inner = own.container_metrics.into_iter().flat_map(|one| one.metrics);
    let mut found = BTreeMap::new();
    for metric in own.metrics.into_iter().chain(inner) {
        found.entry(metric.name).or_insert(metric.label_values.len());
    }
    let expected = |name: &str| case.machine.has_network() || !name.contains("network");
    let missing: Vec<_> = NAMES
        .iter()
        .filter(|name| expected(name) && !found.contains_key(**name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for one in descriptors(case).await {
        match found.get(&one.name) {
            Some(labels) => assert_eq!(*labels, one.label_keys.len(), "{one:?}"),
            // Upstream takes nothing that is described for granted but these.
            None => assert!(DESCRIBED.contains(&&*one.name) || !expected(&one.name), "{one:?}"),
        }
    }
}
