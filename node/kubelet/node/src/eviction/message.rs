//! What an evicted pod is told, in upstream's words. Pure.

use std::fmt::Write;

use k8s_openapi::api::core::v1::Container;
use knode_api::quantity::{Format, Quantity};

use super::observe::Observations;
use super::rank::{PodUse, request};
use super::threshold::Threshold;

/// Why the pod is ended for the sake of this limit.
pub fn message(threshold: &Threshold, seen: &Observations, pod: &PodUse) -> String {
    let signal = threshold.signal;
    let resource = signal.resource();
    let mut text = format!("The node was low on resource: {resource}. ");
    let amount = |value: u64| printed(value, signal.is_bytes());
    if let Some(observed) = seen.get(&signal) {
        let limit = amount(threshold.value.of(observed.capacity));
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "Threshold quantity: {limit}, available: {}. ",
            amount(observed.available)
        );
    }
    for used in &pod.containers {
        let bytes = match resource {
            "memory" => used.memory,
            "ephemeral-storage" => used.disk,
            _ => continue,
        };
        let Some(container) = container(pod, &used.name) else {
            continue;
        };
        let asked = request(container, resource).unwrap_or(Quantity::ZERO);
        if i128::from(bytes) > i128::from(asked.value()) {
            let name = &used.name;
            let used = amount(bytes);
            let _ = write!(
                text,
                "Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
            );
        }
    }
    text
}

fn container<'a>(pod: &'a PodUse, name: &str) -> Option<&'a Container> {
    let spec = pod.pod.spec.as_ref()?;
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    all.find(|container| container.name == name)
}

/// As Go prints a quantity.
fn printed(value: u64, bytes: bool) -> String {
    let format = if bytes {
        Format::BinarySi
    } else {
        Format::DecimalSi
    };
    Quantity::from_int(i64::try_from(value).unwrap_or(i64::MAX), format).to_string()
}
