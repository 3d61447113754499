//! `/metrics/cadvisor`: what containers and pods use, under cAdvisor's names; pure. What the runtime does not measure is
//! left out.

use super::collect::{Container, Usage};
use super::pods::{Interface, Pod};
use super::pressure::{stalled, waiting};
use super::text::{bytes, family, seconds};

/// A metric of containers: name, kind, help, value.
type OfContainer = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Container) -> Option<f64>,
);
/// A metric of interfaces.
type OfInterface = (&'static str, &'static str, fn(&Interface) -> f64);

const CONTAINERS: [OfContainer; 11] = [
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        |one| one.amount.cpu_nanoseconds.map(seconds),
    ),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
        |one| one.amount.working_set.map(bytes),
    ),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |one| one.amount.usage.map(bytes),
    ),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |one| {
        one.amount.rss.map(bytes)
    }),
    (
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        |one| one.layer_bytes.map(bytes),
    ),
    (
        "container_pressure_cpu_stalled_seconds_total",
        "counter",
        "Seconds in which no task of the container went on for want of processors.",
        |one| stalled(one.pressures.cpu),
    ),
    (
        "container_pressure_cpu_waiting_seconds_total",
        "counter",
        "Seconds in which tasks of the container waited for processors.",
        |one| waiting(one.pressures.cpu),
    ),
    (
        "container_pressure_memory_stalled_seconds_total",
        "counter",
        "Seconds in which no task of the container went on for want of memory.",
        |one| stalled(one.pressures.memory),
    ),
    (
        "container_pressure_memory_waiting_seconds_total",
        "counter",
        "Seconds in which tasks of the container waited for memory.",
        |one| waiting(one.pressures.memory),
    ),
    (
        "container_pressure_io_stalled_seconds_total",
        "counter",
        "Seconds in which no task of the container went on for want of input and output.",
        |one| stalled(one.pressures.io),
    ),
    (
        "container_pressure_io_waiting_seconds_total",
        "counter",
        "Seconds in which tasks of the container waited for input and output.",
        |one| waiting(one.pressures.io),
    ),
];

const INTERFACES: [OfInterface; 4] = [
    (
        "container_network_receive_bytes_total",
        "Cumulative count of bytes received",
        |one| bytes(one.rx_bytes),
    ),
    (
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        |one| bytes(one.rx_errors),
    ),
    (
        "container_network_transmit_bytes_total",
        "Cumulative count of bytes transmitted",
        |one| bytes(one.tx_bytes),
    ),
    (
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        |one| bytes(one.tx_errors),
    ),
];

pub(super) fn render(usage: &Usage) -> String {
    let mut out = String::new();
    for (name, kind, help, value) in CONTAINERS {
        let line = |one: &Container| {
            let value = value(one)?;
            let labels = of_container(one);
            Some(format!("{{{labels}}} {value} {}", one.at.as_millisecond()))
        };
        let lines: Vec<String> = usage.containers.iter().filter_map(line).collect();
        family(&mut out, (name, kind), help, &lines);
    }
    let now = usage.now.as_millisecond();
    for (name, help, value) in INTERFACES {
        let lines: Vec<String> = usage
            .pods
            .values()
            .flat_map(|pod| pod.interfaces.iter().map(move |one| (pod, one)))
            .map(|(pod, one)| format!("{{{}}} {} {now}", of_interface(pod, one), value(one)))
            .collect();
        family(&mut out, (name, "counter"), help, &lines);
    }
    let processes = |pod: &Pod| {
        let labels = of_pod(pod);
        pod.processes
            .map(|count| format!("{{container=\"\",{labels}}} {count} {now}"))
    };
    let lines: Vec<String> = usage.pods.values().filter_map(processes).collect();
    let help = "Number of processes running inside the container.";
    family(&mut out, ("container_processes", "gauge"), help, &lines);
    machine(&mut out, usage);
    out
}

fn machine(out: &mut String, usage: &Usage) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let line = |value: String| [format!(" {value}")];
    family(
        out,
        ("machine_cpu_cores", "gauge"),
        "Number of logical CPU cores.",
        &line(cores.to_string()),
    );
    if let Some(used) = usage.node.usage {
        let all = used.saturating_add(usage.memory_available);
        let help = "Amount of memory installed on the machine.";
        family(
            out,
            ("machine_memory_bytes", "gauge"),
            help,
            &line(bytes(all).to_string()),
        );
    }
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    family(
        out,
        ("container_scrape_error", "gauge"),
        help,
        &line("0".to_owned()),
    );
}

fn of_container(one: &Container) -> String {
    format!(
        "container={:?},id={:?},image={:?},name={:?},namespace={:?},pod={:?}",
        one.name, one.id, one.image, one.id, one.namespace, one.pod
    )
}

fn of_pod(pod: &Pod) -> String {
    format!(
        "id={:?},name={:?},namespace={:?},pod={:?}",
        pod.id, pod.id, pod.namespace, pod.name
    )
}

fn of_interface(pod: &Pod, one: &Interface) -> String {
    format!(
        "container=\"\",id={:?},image=\"\",interface={:?},name={:?},namespace={:?},pod={:?}",
        pod.id, one.name, pod.id, pod.namespace, pod.name
    )
}
