//! Reading what the kernel counts for one container or pod.

use std::fs;
use std::path::Path;

use knode_cri::LinuxContainerResources;
use knode_linux::cgroup::{Cgroups, Version};

/// A value with those of its own labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) labels: Vec<String>,
    pub(super) value: u64,
}

/// Collects samples; what cannot be read is left out.
#[derive(Debug, Default)]
pub(super) struct Samples(pub(super) Vec<Sample>);

const NANOS: u64 = 1_000_000_000;

impl Samples {
    pub(super) fn add(&mut self, name: &'static str, labels: &[&str], value: Option<u64>) {
        if let Some(value) = value {
            self.0.push(Sample {
                name,
                labels: labels.iter().map(|label| label.to_string()).collect(),
                value,
            });
        }
    }

    fn plain(&mut self, name: &'static str, value: Option<u64>) {
        self.add(name, &[], value);
    }

    /// Processor and memory of a control group.
    pub(super) fn group(&mut self, cgroups: &Cgroups, group: &Path) {
        if let Ok(usage) = cgroups.usage(group) {
            self.add(
                "container_cpu_usage_seconds_total",
                &["total"],
                Some(usage.cpu.nanoseconds / NANOS),
            );
            let memory = usage.memory;
            self.plain("container_memory_rss", Some(memory.rss));
            self.plain("container_memory_swap", Some(memory.swap));
            self.plain("container_memory_usage_bytes", Some(memory.usage));
            self.plain("container_memory_working_set_bytes", Some(memory.working_set));
            for scope in ["container", "hierarchy"] {
                let name = "container_memory_failures_total";
                self.add(name, &["pgfault", scope], Some(memory.page_faults));
                self.add(name, &["pgmajfault", scope], Some(memory.major_page_faults));
            }
            self.plain("container_threads", Some(usage.tasks));
        }
        let directory = |controller: &str| cgroups.directory(controller, group);
        let maximum = fs::read_to_string(directory("pids").join("pids.max")).unwrap_or_default();
        // 0 stands for no limit.
        self.plain("container_threads_max", Some(maximum.trim().parse().unwrap_or(0)));
        self.plain("container_oom_events_total", cgroups.oom_kills(group).ok());
        match cgroups.version() {
            Version::V1 => self.version_1(&directory),
            Version::V2 => self.version_2(&directory("")),
        }
    }

    fn version_1(&mut self, directory: &dyn Fn(&str) -> std::path::PathBuf) {
        let cpu = read(&directory("cpu").join("cpu.stat"));
        self.throttling(&cpu, "throttled_time", NANOS);
        let times = read(&directory("cpuacct").join("cpuacct.stat"));
        // The kernel's clock tick for user space.
        let seconds = |key| keyed(&times, key).map(|ticks| ticks / 100);
        self.plain("container_cpu_user_seconds_total", seconds("user"));
        self.plain("container_cpu_system_seconds_total", seconds("system"));
        let memory = directory("memory");
        let stat = read(&memory.join("memory.stat"));
        self.plain("container_memory_cache", keyed(&stat, "total_cache"));
        self.plain("container_memory_mapped_file", keyed(&stat, "total_mapped_file"));
        let number = |file: &str| number(&memory.join(file));
        self.plain("container_memory_failcnt", number("memory.failcnt"));
        self.plain(
            "container_memory_max_usage_bytes",
            number("memory.max_usage_in_bytes"),
        );
        let kernel = number("memory.kmem.usage_in_bytes");
        self.plain("container_memory_kernel_usage", Some(kernel.unwrap_or(0)));
        let blkio = directory("blkio");
        let bytes = read(&blkio.join("blkio.throttle.io_service_bytes"));
        let operations = read(&blkio.join("blkio.throttle.io_serviced"));
        for line in bytes.lines() {
            self.device(
                line,
                [
                    "container_fs_reads_bytes_total",
                    "container_fs_writes_bytes_total",
                ],
                true,
            );
        }
        for line in operations.lines() {
            self.device(
                line,
                ["container_fs_reads_total", "container_fs_writes_total"],
                false,
            );
        }
    }

    /// A line `major:minor Operation number`.
    fn device(&mut self, line: &str, names: [&'static str; 2], bytes: bool) {
        let mut words = line.split_whitespace();
        let (Some(device), Some(operation), Some(value)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let Some((major, minor)) = device.split_once(':') else {
            return;
        };
        let value = value.parse().ok();
        match operation {
            "Read" => self.add(names[0], &[device], value),
            "Write" => self.add(names[1], &[device], value),
            _ => return,
        }
        if bytes {
            let labels = [device, major, minor, operation];
            self.add("container_blkio_device_usage_total", &labels, value);
        }
    }

    fn version_2(&mut self, directory: &Path) {
        let cpu = read(&directory.join("cpu.stat"));
        self.throttling(&cpu, "throttled_usec", 1_000_000);
        let seconds = |key| keyed(&cpu, key).map(|micros| micros / 1_000_000);
        self.plain("container_cpu_user_seconds_total", seconds("user_usec"));
        self.plain("container_cpu_system_seconds_total", seconds("system_usec"));
        let stat = read(&directory.join("memory.stat"));
        self.plain("container_memory_cache", keyed(&stat, "file"));
        self.plain("container_memory_mapped_file", keyed(&stat, "file_mapped"));
        self.plain(
            "container_memory_kernel_usage",
            Some(keyed(&stat, "kernel").unwrap_or(0)),
        );
        let events = read(&directory.join("memory.events"));
        self.plain("container_memory_failcnt", keyed(&events, "max"));
        let peak = number(&directory.join("memory.peak"));
        let peak = peak.or_else(|| number(&directory.join("memory.current")));
        self.plain("container_memory_max_usage_bytes", peak);
        for line in read(&directory.join("io.stat")).lines() {
            self.io_stat(line);
        }
        for (file, waiting, stalled) in PRESSURE {
            let text = read(&directory.join(file));
            self.plain(waiting, pressure(&text, "some"));
            self.plain(stalled, pressure(&text, "full"));
        }
    }

    /// A line `major:minor rbytes=… wbytes=… rios=… wios=…`.
    fn io_stat(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let Some(device) = words.next() else { return };
        let Some((major, minor)) = device.split_once(':') else {
            return;
        };
        let pairs: Vec<(&str, u64)> = words
            .filter_map(|word| word.split_once('='))
            .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
            .collect();
        let of = |wanted: &str| {
            pairs
                .iter()
                .find(|(key, _)| *key == wanted)
                .map(|(_, value)| *value)
        };
        self.add("container_fs_reads_bytes_total", &[device], of("rbytes"));
        self.add("container_fs_writes_bytes_total", &[device], of("wbytes"));
        self.add("container_fs_reads_total", &[device], of("rios"));
        self.add("container_fs_writes_total", &[device], of("wios"));
        for (operation, key) in [("Read", "rbytes"), ("Write", "wbytes")] {
            let labels = [device, major, minor, operation];
            self.add("container_blkio_device_usage_total", &labels, of(key));
        }
    }

    /// `cpu.stat`; a group without a quota has waited for none.
    fn throttling(&mut self, stat: &str, time: &str, second: u64) {
        let of = |key| Some(keyed(stat, key).unwrap_or(0));
        self.plain("container_cpu_cfs_periods_total", of("nr_periods"));
        self.plain("container_cpu_cfs_throttled_periods_total", of("nr_throttled"));
        let throttled = of(time).map(|time| time / second);
        self.plain("container_cpu_cfs_throttled_seconds_total", throttled);
    }

    /// What was asked for.
    pub(super) fn limits(&mut self, resources: &LinuxContainerResources) {
        let positive = |value: i64| Some(u64::try_from(value).unwrap_or(0));
        self.plain("container_spec_cpu_period", positive(resources.cpu_period));
        self.plain("container_spec_cpu_shares", positive(resources.cpu_shares));
        if resources.cpu_quota > 0 {
            self.plain("container_spec_cpu_quota", positive(resources.cpu_quota));
        }
        self.plain(
            "container_spec_memory_limit_bytes",
            positive(resources.memory_limit_in_bytes),
        );
        self.plain("container_spec_memory_reservation_limit_bytes", Some(0));
        let swap = positive(resources.memory_swap_limit_in_bytes);
        self.plain("container_spec_memory_swap_limit_bytes", swap);
    }

    /// Processes and what they have open.
    pub(super) fn processes(&mut self, processes: &[i32]) {
        let (mut files, mut sockets) = (0, 0);
        for pid in processes {
            for entry in fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten()
            {
                files += 1;
                let target = fs::read_link(entry.path()).unwrap_or_default();
                sockets += u64::from(target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
            }
        }
        self.plain("container_processes", u64::try_from(processes.len()).ok());
        self.plain("container_file_descriptors", Some(files));
        self.plain("container_sockets", Some(sockets));
    }

    /// Limits of the first process: a line is `Max open files  soft  hard  unit`.
    pub(super) fn ulimits(&mut self, pid: i32) {
        let text = read(Path::new(&format!("/proc/{pid}/limits")));
        let soft = text.lines().find_map(|line| line.strip_prefix("Max open files"));
        let soft = soft.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        self.add("container_ulimits_soft", &["max_open_files"], soft);
    }

    /// Interfaces as `/proc/net/dev` has them.
    pub(super) fn network(&mut self, text: &str) {
        for line in text.lines() {
            let Some((name, numbers)) = line.split_once(':') else {
                continue;
            };
            let name = name.trim();
            let numbers: Vec<u64> = numbers
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect();
            if name == "lo" || numbers.len() < 16 {
                continue;
            }
            for (metric, index) in NETWORK {
                self.add(metric, &[name], numbers.get(*index).copied());
            }
        }
    }
}

/// Files of pressure with what they are for.
const PRESSURE: [(&str, &str, &str); 3] = [
    (
        "cpu.pressure",
        "container_pressure_cpu_waiting_seconds_total",
        "container_pressure_cpu_stalled_seconds_total",
    ),
    (
        "io.pressure",
        "container_pressure_io_waiting_seconds_total",
        "container_pressure_io_stalled_seconds_total",
    ),
    (
        "memory.pressure",
        "container_pressure_memory_waiting_seconds_total",
        "container_pressure_memory_stalled_seconds_total",
    ),
];

/// Columns of `/proc/net/dev`.
const NETWORK: &[(&str, usize)] = &[
    ("container_network_receive_bytes_total", 0),
    ("container_network_receive_packets_total", 1),
    ("container_network_receive_errors_total", 2),
    ("container_network_receive_packets_dropped_total", 3),
    ("container_network_transmit_bytes_total", 8),
    ("container_network_transmit_packets_total", 9),
    ("container_network_transmit_errors_total", 10),
    ("container_network_transmit_packets_dropped_total", 11),
];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &Path) -> Option<u64> {
    read(path).trim().parse().ok()
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Whole seconds of a line `some avg10=… total=MICROSECONDS`.
fn pressure(text: &str, kind: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(kind))?;
    let total: u64 = line.rsplit_once("total=")?.1.trim().parse().ok()?;
    Some(total / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(samples: &Samples, name: &str, labels: &[&str]) -> Option<u64> {
        let wanted: Vec<String> = labels.iter().map(|label| label.to_string()).collect();
        let found = samples
            .0
            .iter()
            .find(|sample| sample.name == name && sample.labels == wanted);
        found.map(|sample| sample.value)
    }

    #[test]
    fn devices_are_read_in_both_versions() {
        let mut samples = Samples::default();
        samples.device("8:0 Read 4096", ["container_fs_reads_bytes_total", "x"], true);
        samples.device("8:0 Total 4096", ["x", "x"], true);
        samples.io_stat("8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0");
        assert_eq!(
            value(&samples, "container_fs_reads_bytes_total", &["8:0"]),
            Some(4096)
        );
        assert_eq!(value(&samples, "container_fs_writes_total", &["8:16"]), Some(4));
        let usage = "container_blkio_device_usage_total";
        assert_eq!(value(&samples, usage, &["8:0", "8", "0", "Read"]), Some(4096));
    }

    #[test]
    fn pressure_is_in_seconds() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 total=0\n";
        assert_eq!(
            (pressure(text, "some"), pressure(text, "full")),
            (Some(2), Some(0))
        );
    }

    #[test]
    fn interfaces_but_the_loopback() {
        let mut samples = Samples::default();
        samples.network("  lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\neth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n");
        assert_eq!(samples.0.len(), 8);
        let dropped = "container_network_transmit_packets_dropped_total";
        assert_eq!(value(&samples, dropped, &["eth0"]), Some(8));
    }
}
