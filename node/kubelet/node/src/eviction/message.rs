//! What an evicted pod is told, in upstream's words. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::Container;
use knode_api::quantity::{Format, Quantity};

use super::observe::Observations;
use super::rank::{PodUse, request};
use super::threshold::{Threshold, printed};

/// Why the pod is ended for the sake of this limit, and what its Event is marked with.
pub fn message(
    threshold: &Threshold,
    seen: &Observations,
    pod: &PodUse,
) -> (String, BTreeMap<String, String>) {
    let resource = threshold.signal.resource();
    let mut text = format!("The node was low on resource: {resource}. ");
    if let Some(observed) = seen.get(&threshold.signal) {
        let format = match threshold.signal.is_decimal() {
            true => Format::DecimalSi,
            false => Format::BinarySi,
        };
        let limit = threshold.value.printed(observed.capacity);
        let available = printed(observed.available, format);
        // Writing to a String cannot fail.
        let _ = write!(text, "Threshold quantity: {limit}, available: {available}. ");
    }
    let (mut names, mut amounts) = (Vec::new(), Vec::new());
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
            let (name, used) = (&used.name, printed(bytes, Format::BinarySi));
            let _ = write!(
                text,
                "Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
            );
            names.push(name.as_str());
            amounts.push(used);
        }
    }
    let marks = [
        ("starved_resource", resource.to_owned()),
        ("offending_containers", names.join(",")),
        ("offending_containers_usage", amounts.join(",")),
    ];
    let marks = marks.map(|(name, value)| (name.to_owned(), value));
    (text, marks.into())
}

fn container<'a>(pod: &'a PodUse, name: &str) -> Option<&'a Container> {
    let spec = pod.pod.spec.as_ref()?;
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    all.find(|container| container.name == name)
}
