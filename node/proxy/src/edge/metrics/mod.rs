//! Metrics under upstream's names, in the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

/// Counts of values up to each bound.
#[derive(Debug, Clone)]
struct Histogram {
    bounds: Vec<f64>,
    counts: Vec<u64>,
    sum: f64,
    total: u64,
}

impl Histogram {
    fn new(bounds: Vec<f64>) -> Self {
        let counts = vec![0; bounds.len()];
        Self {
            bounds,
            counts,
            sum: 0.0,
            total: 0,
        }
    }

    fn observe(&mut self, value: f64) {
        self.sum += value;
        self.total += 1;
        for (count, bound) in self.counts.iter_mut().zip(&self.bounds) {
            *count += u64::from(value <= *bound);
        }
    }

    fn write(&self, out: &mut String, name: &str) {
        line(out, format_args!("# TYPE {name} histogram"));
        for (count, bound) in self.counts.iter().zip(&self.bounds) {
            line(
                out,
                format_args!("{name}_bucket{{ip_family=\"IPv4\",le=\"{bound}\"}} {count}"),
            );
        }
        line(
            out,
            format_args!("{name}_bucket{{ip_family=\"IPv4\",le=\"+Inf\"}} {}", self.total),
        );
        line(out, format_args!("{name}_sum{{ip_family=\"IPv4\"}} {}", self.sum));
        line(
            out,
            format_args!("{name}_count{{ip_family=\"IPv4\"}} {}", self.total),
        );
    }
}

/// Writing to a String cannot fail.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// 1 ms doubling, 15 times.
fn sync_bounds() -> Vec<f64> {
    (0..15).map(|power| 0.001 * f64::from(1 << power)).collect()
}

/// As upstream: quarters of a second, then seconds to a minute, then coarser to five.
fn programming_bounds() -> Vec<f64> {
    let step = |from: f64, width: f64, count: i32| (0..count).map(move |n| from + width * f64::from(n));
    step(0.25, 0.25, 2)
        .chain(step(1.0, 1.0, 59))
        .chain(step(60.0, 5.0, 12))
        .chain(step(120.0, 30.0, 7))
        .collect()
}

/// Answers by their status.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(BTreeMap<u16, u64>);

impl Answers {
    pub fn count(&mut self, status: u16) {
        *self.0.entry(status).or_default() += 1;
    }

    fn write(&self, out: &mut String, name: &str) {
        line(out, format_args!("# TYPE {name} counter"));
        for (status, count) in &self.0 {
            line(out, format_args!("{name}{{code=\"{status}\"}} {count}"));
        }
    }
}

/// What the proxy has done so far.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    sync: Histogram,
    programming: Histogram,
    /// The time of the last successful sync.
    pub last_sync: Option<Timestamp>,
    /// Since when a change waits to be applied.
    pub queued: Option<Timestamp>,
    pub service_changes: u64,
    pub endpoint_changes: u64,
    pub failures: u64,
    pub repairs: u64,
    /// Whether load balancers may send new connections to this node.
    pub eligible: bool,
    pub healthz: Answers,
    pub livez: Answers,
    /// Frontends for clients inside and outside that have endpoints, but none here where it must be here.
    pub no_local: [usize; 2],
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            sync: Histogram::new(sync_bounds()),
            programming: Histogram::new(programming_bounds()),
            last_sync: None,
            queued: None,
            service_changes: 0,
            endpoint_changes: 0,
            failures: 0,
            repairs: 0,
            eligible: true,
            healthz: Answers::default(),
            livez: Answers::default(),
            no_local: [0; 2],
        }
    }
}

impl Metrics {
    /// A sync that succeeded; `triggers` are the times at which the pods behind it changed.
    pub fn synced(&mut self, took: Duration, now: Timestamp, triggers: &[Timestamp]) {
        self.sync.observe(took.as_secs_f64());
        for trigger in triggers {
            self.programming
                .observe(now.duration_since(*trigger).as_secs_f64().max(0.0));
        }
        self.last_sync = Some(now);
        self.queued = None;
    }

    /// All metrics as text.
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(8 << 10);
        self.sync
            .write(&mut out, "kubeproxy_sync_proxy_rules_duration_seconds");
        self.programming
            .write(&mut out, "kubeproxy_network_programming_duration_seconds");
        let seconds =
            |time: Option<Timestamp>| time.map_or(0.0, |time| time.as_millisecond() as f64 / 1000.0);
        let gauges = [
            (
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "gauge",
                seconds(self.last_sync),
            ),
            (
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "gauge",
                seconds(self.queued),
            ),
            (
                "kubeproxy_sync_proxy_rules_service_changes_total",
                "counter",
                self.service_changes as f64,
            ),
            (
                "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                "counter",
                self.endpoint_changes as f64,
            ),
            (
                "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
                "counter",
                self.failures as f64,
            ),
            ("knode_proxy_table_repairs_total", "counter", self.repairs as f64),
        ];
        for (name, kind, value) in gauges {
            line(&mut out, format_args!("# TYPE {name} {kind}"));
            line(&mut out, format_args!("{name}{{ip_family=\"IPv4\"}} {value}"));
        }
        self.healthz.write(&mut out, "kubeproxy_proxy_healthz_total");
        self.livez.write(&mut out, "kubeproxy_proxy_livez_total");
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        line(&mut out, format_args!("# TYPE {name} gauge"));
        for (policy, count) in ["internal", "external"].into_iter().zip(self.no_local) {
            line(
                &mut out,
                format_args!("{name}{{ip_family=\"IPv4\",traffic_policy=\"{policy}\"}} {count}"),
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_under_every_bound_that_holds_them() {
        let mut metrics = Metrics::default();
        let now: Timestamp = "2026-11-22T10:00:01Z".parse().expect("a time");
        let trigger: Timestamp = "2026-11-22T10:00:00.6Z".parse().expect("a time");
        metrics.synced(Duration::from_millis(3), now, &[trigger]);
        let text = metrics.text();
        for line in [
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.002\"} 0",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.004\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"+Inf\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.25\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.5\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"300\"} 1",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1795341601",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line:?} is not in:\n{text}"
            );
        }
    }
}
