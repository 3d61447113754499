//! Changing the resources of containers that run (upstream: `pkg/kubelet/allocation`). Pure.
//!
//! A worker's pod always carries the resources that the node has granted. What the API asks for beyond that is a wish:
//! [`judge`] says whether the node can grant it, [`way`] how a container gets from what it runs with to what is granted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use knode_api::quantity::Quantity;

use crate::pod::PodExt;
use crate::qos::{Amounts, add, amounts, pod_total};

/// What becomes of a wish for other resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The node grants it.
    Granted,
    /// Not now: others have what is wanted.
    Deferred(String),
    /// Never on this node.
    Infeasible(String),
}

/// A wish that is not granted, with why.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The pod as the API has it.
    pub pod: std::sync::Arc<Pod>,
    /// What became of it; none before it was looked at.
    pub verdict: Option<Verdict>,
}

/// How a running container gets its resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It has them.
    Done,
    /// The runtime changes its limits.
    Update,
    /// It has to be started anew.
    Restart,
}

/// Whether the node can grant `wanted` beside `others`, the other pods that it runs.
pub fn judge<'a>(
    wanted: &Pod,
    others: impl Iterator<Item = &'a Pod>,
    allocatable: &BTreeMap<String, ApiQuantity>,
) -> Verdict {
    if wanted.is_static() {
        return Verdict::Infeasible("In-place resize of static-pods is not supported".to_owned());
    }
    let requested = pod_total(wanted, false);
    let mut used = Amounts::new();
    for other in others {
        add(&mut used, &pod_total(other, false));
    }
    let none = Quantity::ZERO;
    let mut deferred = None;
    for name in ["cpu", "memory"] {
        let capacity = allocatable
            .get(name)
            .and_then(|text| Quantity::parse(&text.0).ok());
        let (Some(capacity), Some(wish)) = (capacity, requested.get(name)) else {
            continue;
        };
        let count = |quantity: &Quantity| match name {
            "cpu" => quantity.milli_value(),
            _ => quantity.value(),
        };
        let (wish, capacity) = (count(wish), count(&capacity));
        let used = count(used.get(name).unwrap_or(&none));
        if wish > capacity {
            return Verdict::Infeasible(format!(
                "Node didn't have enough capacity: {name}, requested: {wish}, capacity: {capacity}"
            ));
        }
        if wish.saturating_add(used) > capacity && deferred.is_none() {
            deferred = Some(format!(
                "Node didn't have enough resource: {name}, requested: {wish}, used: {used}, capacity: {capacity}"
            ));
        }
    }
    deferred.map_or(Verdict::Granted, Verdict::Deferred)
}

/// Whether each container of `one` has the resources of that in `other`.
pub fn same(one: &Pod, other: &Pod) -> bool {
    one.all_containers().all(|(_, container)| {
        let before = other.container(&container.name);
        before.is_none_or(|(_, before)| resources(&before) == resources(container))
    })
}

/// `pod` with the resources that its containers have in `held`.
pub fn with_resources(pod: &Pod, held: &Pod) -> Pod {
    let mut kept = pod.clone();
    let spec = kept.spec.get_or_insert_default();
    let all = spec
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut spec.containers);
    for container in all {
        if let Some((_, before)) = held.container(&container.name) {
            container.resources = before.resources.clone();
        }
    }
    kept
}

/// What is compared of a container's resources: those that can change while it runs.
fn resources(container: &Container) -> [Amounts; 2] {
    [false, true].map(|limits| {
        let mut all = amounts(container, limits);
        all.retain(|name, _| matches!(name.as_str(), "cpu" | "memory"));
        all
    })
}

/// How a container that runs with `applied` gets what its definition says.
pub fn way(container: &Container, applied: &ResourceRequirements) -> Way {
    let before = Container {
        resources: Some(applied.clone()),
        ..Container::default()
    };
    let (old, new) = (resources(&before), resources(container));
    let changed = |name: &str| (0..2).any(|index| old[index].get(name) != new[index].get(name));
    let restarts = |name: &str| {
        let mut policies = container.resize_policy.iter().flatten();
        policies.any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer")
    };
    let changed: Vec<&str> = ["cpu", "memory"]
        .into_iter()
        .filter(|name| changed(name))
        .collect();
    match changed.is_empty() {
        true => Way::Done,
        false if changed.iter().any(|name| restarts(name)) => Way::Restart,
        false => Way::Update,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(cpu: &str, memory: &str) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}});
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}}))
            .unwrap()
    }

    #[test]
    fn a_wish_is_granted_now_later_or_never() {
        let allocatable = [("cpu", "2"), ("memory", "1Gi")];
        let allocatable = allocatable.map(|(name, text)| (name.to_owned(), ApiQuantity(text.to_owned())));
        let other = pod("1500m", "512Mi");
        let judge = |wanted: &Pod| super::judge(wanted, [&other].into_iter(), &allocatable.clone().into());
        assert_eq!(judge(&pod("500m", "512Mi")), Verdict::Granted);
        let cpu = "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000";
        assert_eq!(judge(&pod("501m", "512Mi")), Verdict::Deferred(cpu.into()));
        let memory = "Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824";
        assert_eq!(judge(&pod("501m", "2Gi")), Verdict::Infeasible(memory.into()));
    }

    #[test]
    fn a_policy_decides_whether_a_container_is_restarted() {
        let container = |cpu: &str, memory: &str| -> Container {
            let value: Value = json!({"name": "c", "resources": {"limits": {"cpu": cpu, "memory": memory}},
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
                                 {"resourceName": "memory", "restartPolicy": "RestartContainer"}]});
            serde_json::from_value(value).unwrap()
        };
        let applied = container("1", "1Gi").resources.unwrap();
        assert_eq!(way(&container("1000m", "1024Mi"), &applied), Way::Done);
        assert_eq!(way(&container("2", "1Gi"), &applied), Way::Update);
        assert_eq!(way(&container("1", "2Gi"), &applied), Way::Restart);
        assert_eq!(way(&container("2", "2Gi"), &applied), Way::Restart);
    }

    #[test]
    fn resources_are_kept_and_everything_else_is_new() {
        let (old, mut new) = (pod("1", "1Gi"), pod("2", "1Gi"));
        new.metadata.labels = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        assert!(!same(&old, &new));
        let kept = with_resources(&new, &old);
        assert!(same(&kept, &old));
        assert_eq!(kept.metadata.labels, new.metadata.labels);
    }
}
