//! Metrics under upstream's names, in the Prometheus text format.

mod services;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

pub(super) use services::write as write_services;
use text::{Histogram, head, line};

use super::ProxyMode;
use crate::model::IpFamily;

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
        head(out, name, "counter", "Answers by their status.");
        for (status, count) in &self.0 {
            line(out, format_args!("{name}{{code=\"{status}\"}} {count}"));
        }
    }
}

/// What was done for one family.
#[derive(Debug, Clone)]
struct OfFamily {
    /// Whether there are rules for it.
    is_served: bool,
    sync: Histogram,
    full: Histogram,
    partial: Histogram,
    programming: Histogram,
    last_sync: Option<Timestamp>,
    last_queued: Option<Timestamp>,
    failures: u64,
    repairs: u64,
    /// Frontends for clients inside and outside that have endpoints, but none here where it must be here.
    no_local: [usize; 2],
}

impl Default for OfFamily {
    fn default() -> Self {
        Self {
            is_served: false,
            sync: Histogram::new(sync_bounds()),
            full: Histogram::new(sync_bounds()),
            partial: Histogram::new(sync_bounds()),
            programming: Histogram::new(programming_bounds()),
            last_sync: None,
            last_queued: None,
            failures: 0,
            repairs: 0,
            no_local: [0; 2],
        }
    }
}

/// A step that succeeded for one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Synced {
    /// How long it took.
    pub took: Duration,
    /// Whether all was compared or written, not only what changed.
    pub full: bool,
    /// Whether something was found otherwise than it was left, and mended.
    pub repaired: bool,
    pub no_local: [usize; 2],
}

/// What the proxy has done so far.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub mode: ProxyMode,
    families: [OfFamily; 2],
    /// The time of the last successful sync.
    pub last_sync: Option<Timestamp>,
    /// Since when a change waits to be applied.
    pub queued: Option<Timestamp>,
    pub service_changes: u64,
    pub endpoint_changes: u64,
    /// Services that wait to be applied.
    pub pending: usize,
    /// Whether load balancers may send new connections to this node.
    pub eligible: bool,
    pub healthz: Answers,
    pub livez: Answers,
}

impl Metrics {
    pub fn new(mode: ProxyMode) -> Self {
        let mut families = [OfFamily::default(), OfFamily::default()];
        families[IpFamily::V4 as usize].is_served = true;
        Self {
            mode,
            families,
            last_sync: None,
            queued: None,
            service_changes: 0,
            endpoint_changes: 0,
            pending: 0,
            eligible: true,
            healthz: Answers::default(),
            livez: Answers::default(),
        }
    }

    /// A change came that is to be applied.
    pub fn wait(&mut self, now: Timestamp) {
        if self.queued.is_none() {
            self.queued = Some(now);
            for family in &mut self.families {
                family.last_queued = Some(now);
            }
        }
    }

    /// All that waited was applied; `triggers` are the times at which the pods behind it changed.
    pub fn applied(&mut self, now: Timestamp, triggers: &[(IpFamily, Timestamp)]) {
        for (family, trigger) in triggers {
            let latency = now.duration_since(*trigger).as_secs_f64().max(0.0);
            self.families[*family as usize].programming.observe(latency);
        }
        self.last_sync = Some(now);
        self.queued = None;
        self.pending = 0;
    }

    /// A step of one family.
    pub fn synced(&mut self, family: IpFamily, step: Synced, now: Timestamp) {
        let family = &mut self.families[family as usize];
        let seconds = step.took.as_secs_f64();
        family.is_served = true;
        family.sync.observe(seconds);
        let kind = if step.full {
            &mut family.full
        } else {
            &mut family.partial
        };
        kind.observe(seconds);
        family.last_sync = Some(now);
        family.repairs += u64::from(step.repaired);
        family.no_local = step.no_local;
    }

    /// A step that failed; of which family is not known, so it counts for all.
    pub fn failed(&mut self) {
        for family in &mut self.families {
            family.failures += 1;
        }
    }

    /// All metrics as text, but for those of single Services.
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(32 << 10);
        self.write_histograms(&mut out);
        self.write_values(&mut out);
        self.write_no_local(&mut out);
        self.healthz.write(&mut out, "kubeproxy_proxy_healthz_total");
        self.livez.write(&mut out, "kubeproxy_proxy_livez_total");
        out
    }

    fn served(&self) -> impl Iterator<Item = (String, &OfFamily)> {
        let families = IpFamily::ALL.into_iter().zip(&self.families);
        let served = families.filter(|(_, of)| of.is_served);
        served.map(|(family, of)| (format!("ip_family=\"{family}\""), of))
    }

    fn write_histograms(&self, out: &mut String) {
        type Of = fn(&OfFamily) -> &Histogram;
        let histograms: [(&str, &str, Of); 4] = [
            (
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Seconds that a step of the rules took.",
                |of| &of.sync,
            ),
            (
                "kubeproxy_sync_full_proxy_rules_duration_seconds",
                "Seconds that a step took in which everything was compared or written.",
                |of| &of.full,
            ),
            (
                "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                "Seconds that a step took in which only what changed was written.",
                |of| &of.partial,
            ),
            (
                "kubeproxy_network_programming_duration_seconds",
                "Seconds from the change of a pod to the rules for it, by the trigger time of its slice.",
                |of| &of.programming,
            ),
        ];
        for (name, help, histogram) in histograms {
            head(out, name, "histogram", help);
            for (labels, of) in self.served() {
                histogram(of).write(out, name, &labels);
            }
        }
    }

    fn write_values(&self, out: &mut String) {
        let seconds =
            |time: Option<Timestamp>| time.map_or(0.0, |time| time.as_millisecond() as f64 / 1000.0);
        let failures = match self.mode {
            ProxyMode::Nftables => "kubeproxy_sync_proxy_rules_nftables_sync_failures_total",
            ProxyMode::Iptables => "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
        };
        type Of<'a> = &'a dyn Fn(&OfFamily) -> f64;
        let prefix = "kubeproxy_sync_proxy_rules_";
        let values: [(String, &str, &str, Of<'_>); 8] = [
            (
                format!("{prefix}last_timestamp_seconds"),
                "gauge",
                "When the rules were last brought up to date.",
                &|of| seconds(of.last_sync),
            ),
            (
                format!("{prefix}last_queued_timestamp_seconds"),
                "gauge",
                "When the last change came.",
                &|of| seconds(of.last_queued),
            ),
            (
                format!("{prefix}service_changes_total"),
                "counter",
                "Changes of Services seen.",
                &|_| self.service_changes as f64,
            ),
            (
                format!("{prefix}service_changes_pending"),
                "gauge",
                "Services that wait to be applied.",
                &|_| self.pending as f64,
            ),
            (
                format!("{prefix}endpoint_changes_total"),
                "counter",
                "Changes of EndpointSlices seen.",
                &|_| self.endpoint_changes as f64,
            ),
            (
                format!("{prefix}endpoint_changes_pending"),
                "gauge",
                "Services whose endpoints wait to be applied.",
                &|_| self.pending as f64,
            ),
            (failures.to_owned(), "counter", "Steps that failed.", &|of| {
                of.failures as f64
            }),
            (
                "knode_proxy_table_repairs_total".to_owned(),
                "counter",
                "Times that others had changed the rules and they were mended.",
                &|of| of.repairs as f64,
            ),
        ];
        for (name, kind, help, value) in values {
            head(out, &name, kind, help);
            for (labels, of) in self.served() {
                line(out, format_args!("{name}{{{labels}}} {}", value(of)));
            }
        }
    }

    fn write_no_local(&self, out: &mut String) {
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        let help = "Frontends whose traffic stays on the node and that have no endpoint there.";
        head(out, name, "gauge", help);
        for (labels, of) in self.served() {
            for (policy, count) in ["internal", "external"].into_iter().zip(of.no_local) {
                line(
                    out,
                    format_args!("{name}{{{labels},traffic_policy=\"{policy}\"}} {count}"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_under_every_bound_that_holds_them() {
        let mut metrics = Metrics::new(ProxyMode::Nftables);
        let now: Timestamp = "2026-11-22T10:00:01Z".parse().expect("a time");
        let trigger: Timestamp = "2026-11-22T10:00:00.6Z".parse().expect("a time");
        let step = |millis| Synced {
            took: Duration::from_millis(millis),
            full: false,
            repaired: false,
            no_local: [0, 2],
        };
        metrics.synced(IpFamily::V4, step(3), now);
        assert!(!metrics.text().contains("IPv6"), "not served");
        metrics.synced(IpFamily::V6, step(9), now);
        metrics.applied(now, &[(IpFamily::V4, trigger)]);
        let text = metrics.text();
        for line in [
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.002\"} 0",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.004\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv6\",le=\"0.008\"} 0",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 1",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 0",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\"IPv4\",le=\"+Inf\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.25\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"0.5\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{ip_family=\"IPv4\",le=\"300\"} 1",
            "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv6\"} 0",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv4\"} 1795341601",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv6\",traffic_policy=\"external\"} 2",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line:?} is not in:\n{text}"
            );
        }
    }
}
