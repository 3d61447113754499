//! The metrics that cAdvisor has for containers: names, meanings, kinds and labels.

use knode_cri::MetricType;

/// A metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    /// Labels besides [`COMMON`].
    pub(super) labels: &'static [&'static str],
}

/// Labels of every metric, as the kubelet serves them for cAdvisor's.
pub(super) const COMMON: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

const DEVICE: &[&str] = &["device"];
const INTERFACE: &[&str] = &["interface"];

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Row {
    Row {
        name,
        help,
        kind: MetricType::Counter,
        labels,
    }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Row {
    Row {
        name,
        help,
        kind: MetricType::Gauge,
        labels,
    }
}

/// All of them, by name.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    counter("container_blkio_device_usage_total", "Blkio device bytes usage", &["device", "major", "minor", "operation"]),
    counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", &[]),
    counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", &[]),
    counter("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", &[]),
    counter("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", &[]),
    counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", &["cpu"]),
    counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", &[]),
    gauge("container_file_descriptors", "Number of open file descriptors for the container.", &[]),
    gauge("container_fs_inodes_free", "Number of available Inodes", DEVICE),
    gauge("container_fs_inodes_total", "Number of Inodes", DEVICE),
    gauge("container_fs_limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", DEVICE),
    counter("container_fs_reads_bytes_total", "Cumulative count of bytes read", DEVICE),
    counter("container_fs_reads_total", "Cumulative count of reads completed", DEVICE),
    gauge("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", DEVICE),
    counter("container_fs_writes_bytes_total", "Cumulative count of bytes written", DEVICE),
    counter("container_fs_writes_total", "Cumulative count of writes completed", DEVICE),
    gauge("container_hugetlb_max_usage_bytes", "Maximum hugepage usage recorded in bytes", &["pagesize"]),
    gauge("container_hugetlb_usage_bytes", "Current hugepage usage in bytes", &["pagesize"]),
    gauge("container_last_seen", "Last time a container was seen by the exporter", &[]),
    gauge("container_memory_cache", "Number of bytes of page cache memory.", &[]),
    counter("container_memory_failcnt", "Number of memory usage hits limits", &[]),
    counter("container_memory_failures_total", "Cumulative count of memory allocation failures.", &["failure_type", "scope"]),
    gauge("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", &[]),
    gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.", &[]),
    gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", &[]),
    gauge("container_memory_rss", "Size of RSS in bytes.", &[]),
    gauge("container_memory_swap", "Container swap usage in bytes.", &[]),
    gauge("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed", &[]),
    gauge("container_memory_working_set_bytes", "Current working set in bytes.", &[]),
    counter("container_network_receive_bytes_total", "Cumulative count of bytes received", INTERFACE),
    counter("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", INTERFACE),
    counter("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", INTERFACE),
    counter("container_network_receive_packets_total", "Cumulative count of packets received", INTERFACE),
    counter("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", INTERFACE),
    counter("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", INTERFACE),
    counter("container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", INTERFACE),
    counter("container_network_transmit_packets_total", "Cumulative count of packets transmitted", INTERFACE),
    counter("container_oom_events_total", "Count of out of memory events observed for the container", &[]),
    counter("container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", &[]),
    counter("container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", &[]),
    counter("container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", &[]),
    counter("container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", &[]),
    counter("container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", &[]),
    counter("container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", &[]),
    gauge("container_processes", "Number of processes running inside the container.", &[]),
    gauge("container_sockets", "Number of open sockets for the container.", &[]),
    gauge("container_spec_cpu_period", "CPU period of the container.", &[]),
    gauge("container_spec_cpu_quota", "CPU quota of the container.", &[]),
    gauge("container_spec_cpu_shares", "CPU share of the container.", &[]),
    gauge("container_spec_memory_limit_bytes", "Memory limit for the container.", &[]),
    gauge("container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.", &[]),
    gauge("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", &[]),
    gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", &[]),
    gauge("container_threads", "Number of threads running inside the container", &[]),
    gauge("container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero", &[]),
    gauge("container_ulimits_soft", "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice", &["ulimit"]),
];

/// The metric of this name.
pub(super) fn row(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_each_is_there_once() {
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert_eq!(TABLE.len(), 56);
    }
}
