//! What this process takes, under the names of Prometheus' client libraries.

use jiff::Timestamp;
use knode_kubelet_metrics::Page;
use procfs::process::{LimitValue, Process};

/// Adds what the kernel tells; what it does not is left out.
pub(super) fn text(started: Timestamp, page: &mut Page) {
    page.gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        started.as_duration().as_secs_f64(),
    );
    let Ok(process) = Process::myself() else { return };
    if let Ok(stat) = process.stat() {
        let ticks = as_f64(stat.utime + stat.stime);
        page.counter(
            "process_cpu_seconds_total",
            "Seconds of processor time, user and system.",
            ticks / as_f64(procfs::ticks_per_second()),
        );
        let sizes = [
            ("process_resident_memory_bytes", stat.rss * procfs::page_size()),
            ("process_virtual_memory_bytes", stat.vsize),
        ];
        for (name, bytes) in sizes {
            page.gauge(name, "Bytes of memory.", as_f64(bytes));
        }
    }
    if let Ok(open) = process.fd_count() {
        page.gauge("process_open_fds", "Open file descriptors.", as_f64(open as u64));
    }
    if let Ok(limits) = process.limits() {
        let limits = [
            ("process_max_fds", limits.max_open_files.soft_limit),
            (
                "process_virtual_memory_max_bytes",
                limits.max_address_space.soft_limit,
            ),
        ];
        for (name, limit) in limits {
            page.gauge(name, "A limit of this process.", limit_of(limit));
        }
    }
}

fn limit_of(limit: LimitValue) -> f64 {
    match limit {
        LimitValue::Value(value) => as_f64(value),
        LimitValue::Unlimited => as_f64(u64::MAX),
    }
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_tells_of_itself() {
        let mut page = Page::default();
        text(Timestamp::UNIX_EPOCH, &mut page);
        let text = page.text();
        for name in [
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
        ] {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default();
            assert!(
                line.trim().parse::<f64>().is_ok_and(|value| value >= 0.0),
                "{name} in\n{text}"
            );
        }
        assert!(
            text.contains("# TYPE process_cpu_seconds_total counter\n"),
            "{text}"
        );
    }
}
