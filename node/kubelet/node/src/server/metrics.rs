//! `/metrics`: the kubelet about itself.

use std::fmt::Write;

use super::Kubelet;

pub(super) fn text(kubelet: &Kubelet) -> String {
    let pods = kubelet.pods.pods();
    let statuses = pods.iter().filter_map(|pod| pod.status.as_ref());
    let running = statuses
        .flat_map(|status| status.container_statuses.iter().flatten())
        .filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
        .count();
    let mut out = String::new();
    let mut metric = |name: &str, help: &str, labels: &str, value: f64| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "# HELP {name} [ALPHA] {help}\n# TYPE {name} gauge\n{name}{labels} {value}"
        );
    };
    let node = format!("{{node={:?}}}", kubelet.node_name);
    metric(
        "kubelet_node_name",
        "The node's name. The count is always 1.",
        &node,
        1.0,
    );
    metric(
        "kubelet_desired_pods",
        "The number of pods the kubelet is being instructed to run.",
        "",
        as_f64(pods.len()),
    );
    let state = "{container_state=\"running\"}";
    metric(
        "kubelet_running_containers",
        "Number of containers currently running",
        state,
        as_f64(running),
    );
    let started = kubelet.started.as_millisecond();
    #[allow(clippy::cast_precision_loss)]
    let started = started as f64 / 1000.0;
    metric(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        "",
        started,
    );
    if let Ok(process) = procfs::process::Process::myself()
        && let Ok(stat) = process.stat()
    {
        #[allow(clippy::cast_precision_loss)]
        let resident = (stat.rss * procfs::page_size()) as f64;
        metric(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            "",
            resident,
        );
    }
    out
}

#[allow(clippy::cast_precision_loss)]
fn as_f64(count: usize) -> f64 {
    count as f64
}
