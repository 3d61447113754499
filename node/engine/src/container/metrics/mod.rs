//! Metrics under cAdvisor's names, read when they are asked for.

mod read;
mod table;

use knode_cri::{ContainerMetrics, ContainerState, Metric, MetricDescriptor, PodSandboxMetrics, UInt64Value};

use self::read::Samples;
use self::table::{COMMON, TABLE};
use super::Container;
use crate::engine::{Core, now_nanos};
use crate::sandbox::{Sandbox, net_request};

/// What there is, with label keys in the order of the values.
pub(crate) fn descriptors() -> Vec<MetricDescriptor> {
    let of = |row: &table::Row| MetricDescriptor {
        name: row.name.into(),
        help: row.help.into(),
        label_keys: COMMON
            .iter()
            .chain(row.labels)
            .map(|key| key.to_string())
            .collect(),
    };
    TABLE.iter().map(of).collect()
}

/// Values of [`COMMON`].
type Common = [String; 6];

fn metrics(samples: Samples, common: &Common, timestamp: i64) -> Vec<Metric> {
    let of = |sample: read::Sample| {
        let row = table::row(sample.name)?;
        Some(Metric {
            name: sample.name.into(),
            timestamp,
            metric_type: row.kind as i32,
            label_values: common.iter().cloned().chain(sample.labels).collect(),
            value: Some(UInt64Value { value: sample.value }),
        })
    };
    samples.0.into_iter().filter_map(of).collect()
}

impl Core {
    /// Metrics of a sandbox and its running containers.
    pub(crate) fn sandbox_metrics(&self, sandbox: &Sandbox) -> PodSandboxMetrics {
        let record = sandbox.record();
        let timestamp = now_nanos();
        let metadata = record.config.metadata.clone().unwrap_or_default();
        let group = record.cgroup_parent();
        let pod = [metadata.namespace, metadata.name];
        let common = [
            String::new(),
            group.display().to_string(),
            String::new(),
            record.id.clone(),
            pod[0].clone(),
            pod[1].clone(),
        ];
        let mut samples = Samples::default();
        samples.group(&self.cgroups, &group);
        if !record.host_network() {
            let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
            let netns = net_request(&self.layout, &record).netns;
            samples.network(&knode_linux::namespace::in_network(&netns, read).unwrap_or_default());
        }
        let containers = self.containers_of(&record.id);
        let running = containers
            .iter()
            .filter(|container| container.state() == ContainerState::ContainerRunning);
        PodSandboxMetrics {
            pod_sandbox_id: record.id.clone(),
            metrics: metrics(samples, &common, timestamp),
            container_metrics: running
                .map(|container| self.container_metrics(container, &pod, timestamp))
                .collect(),
        }
    }

    fn container_metrics(
        &self,
        container: &Container,
        pod: &[String; 2],
        timestamp: i64,
    ) -> ContainerMetrics {
        let record = container.record();
        let metadata = record.config.metadata.clone().unwrap_or_default();
        let common = [
            metadata.name,
            record.cgroup.display().to_string(),
            record.image_name.clone(),
            record.id.clone(),
            pod[0].clone(),
            pod[1].clone(),
        ];
        let mut samples = Samples::default();
        samples.group(&self.cgroups, &record.cgroup);
        samples.processes(&self.cgroups.processes(&record.cgroup).unwrap_or_default());
        let linux = record.config.linux.clone().unwrap_or_default();
        samples.limits(&linux.resources.unwrap_or_default());
        if let Some(started) = record.started {
            samples.ulimits(started.pid);
            let seconds = u64::try_from(started.at / 1_000_000_000).ok();
            samples.add("container_start_time_seconds", &[], seconds);
        }
        let seen = u64::try_from(timestamp / 1_000_000_000).ok();
        samples.add("container_last_seen", &[], seen);
        self.file_system(&record.id, &mut samples);
        ContainerMetrics {
            container_id: record.id.clone(),
            metrics: metrics(samples, &common, timestamp),
        }
    }

    /// The writable layer, and the file system that it lies on.
    fn file_system(&self, id: &str, samples: &mut Samples) {
        let root = self.config.images.root();
        let device = root.display().to_string();
        if let Ok(found) = knode_linux::filewatch::file_system_usage(root) {
            samples.add("container_fs_limit_bytes", &[&device], Some(found.capacity));
            samples.add("container_fs_inodes_total", &[&device], Some(found.inodes));
            samples.add("container_fs_inodes_free", &[&device], Some(found.inodes_free));
        }
        if let Ok(usage) = self.config.images.snapshots().usage(id) {
            samples.add("container_fs_usage_bytes", &[&device], Some(usage.bytes));
        }
    }
}
