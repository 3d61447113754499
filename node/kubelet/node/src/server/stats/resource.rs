//! The text that metrics-server scrapes; pure.

use super::collect::{Container, Usage};
use super::text::{bytes, family, seconds};

pub(super) fn render(usage: &Usage) -> String {
    let mut out = String::new();
    let named = |value: fn(&Container) -> Option<f64>| {
        let line = move |container: &Container| {
            let value = value(container)?;
            let labels = format!(
                "{{container={:?},namespace={:?},pod={:?}}}",
                container.name, container.namespace, container.pod
            );
            Some(format!("{labels} {value} {}", container.at.as_millisecond()))
        };
        usage.containers.iter().filter_map(line).collect::<Vec<_>>()
    };
    family(
        &mut out,
        ("container_cpu_usage_seconds_total", "counter"),
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        &named(|container| container.amount.cpu_nanoseconds.map(seconds)),
    );
    family(
        &mut out,
        ("container_memory_working_set_bytes", "gauge"),
        "[STABLE] Current working set of the container in bytes",
        &named(|container| container.amount.working_set.map(bytes)),
    );
    let now = usage.now.as_millisecond();
    let node = |value: Option<f64>| {
        value
            .map(|value| format!(" {value} {now}"))
            .into_iter()
            .collect::<Vec<_>>()
    };
    family(
        &mut out,
        ("node_cpu_usage_seconds_total", "counter"),
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        &node(usage.node.cpu_nanoseconds.map(seconds)),
    );
    family(
        &mut out,
        ("node_memory_working_set_bytes", "gauge"),
        "[STABLE] Current working set of the node in bytes",
        &node(usage.node.working_set.map(bytes)),
    );
    family(
        &mut out,
        ("resource_scrape_error", "gauge"),
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
        &[" 0".to_owned()],
    );
    out
}
