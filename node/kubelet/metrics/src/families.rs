//! Making and registering families.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

/// Names, labels and buckets are constants of this crate, and each family is made once for a registry.
const CONSTANT: &str = "families are constants of this crate, and its tests make all of them";

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let made = made.expect(CONSTANT);
    registry.register(Box::new(made.clone())).expect(CONSTANT);
    made
}

pub(crate) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, alpha(help)))
}

pub(crate) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, alpha(help)), labels))
}

pub(crate) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, alpha(help)).buckets(buckets.to_vec());
    register(registry, Histogram::with_opts(options))
}

pub(crate) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> HistogramVec {
    let options = HistogramOpts::new(name, alpha(help)).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(options, labels))
}

/// Upstream writes a metric's stability before its help.
pub(crate) fn alpha(help: &str) -> String {
    format!("[ALPHA] {help}")
}

pub(crate) fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, alpha(help)), labels))
}
