//! Changing the resources of containers that run (upstream: `pkg/kubelet/allocation`). Pure.
//!
//! A worker's pod always carries the resources that the node has granted. What the API asks for beyond that is a wish:
//! [`judge`] says whether the node can grant it, [`way`] how a container gets from what it runs with to what is granted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use knode_api::quantity::Quantity;

use crate::pod::PodExt;
use crate::qos::{Amounts, add, amounts_in, own_resources, pod_total};

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

/// Whether `one` and each of its containers have the resources of `other` and that in it.
pub fn same(one: &Pod, other: &Pod) -> bool {
    same_whole(own_resources(one), own_resources(other))
        && one.all_containers().all(|(_, container)| {
            let before = other.container(&container.name);
            before.is_none_or(|(_, before)| resources(&before) == resources(container))
        })
}

/// Whether what a pod has as a whole is the same.
pub fn same_whole(one: Option<&ResourceRequirements>, other: Option<&ResourceRequirements>) -> bool {
    mutable(one) == mutable(other)
}

/// `pod` with the resources that it and its containers have in `held`.
pub fn with_resources(pod: &Pod, held: &Pod) -> Pod {
    let mut kept = pod.clone();
    let spec = kept.spec.get_or_insert_default();
    spec.resources = own_resources(held).cloned();
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
    mutable(container.resources.as_ref())
}

fn mutable(resources: Option<&ResourceRequirements>) -> [Amounts; 2] {
    [false, true].map(|limits| {
        let mut all = amounts_in(resources, limits);
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

/// The text of an Event about a resize, as upstream's `pkg/kubelet/events/resize.go` writes it: what each container is to
/// have, as JSON.
pub fn message(what: &str, pod: &Pod, error: Option<&str>) -> String {
    let one = |container: &Container| {
        let resources = container.resources.as_ref();
        let list = |of: Option<&BTreeMap<String, ApiQuantity>>| of.filter(|list| !list.is_empty()).cloned();
        // The order of the fields is that of upstream's structs.
        let resources = Ordered(vec![
            (
                "limits",
                json_of(list(resources.and_then(|all| all.limits.as_ref()))),
            ),
            (
                "requests",
                json_of(list(resources.and_then(|all| all.requests.as_ref()))),
            ),
        ]);
        Ordered(vec![
            ("name", Some(quoted(&container.name))),
            ("resources", Some(resources.text())),
        ])
        .text()
    };
    let all = |containers: &[Container]| {
        let all: Vec<String> = containers.iter().map(one).collect();
        (!all.is_empty()).then(|| format!("[{}]", all.join(",")))
    };
    let generation = pod.generation().unwrap_or_default();
    let text = Ordered(vec![
        ("initContainers", all(pod.init_containers())),
        ("containers", all(pod.main_containers())),
        ("generation", Some(generation.to_string())),
        ("error", error.filter(|error| !error.is_empty()).map(quoted)),
    ]);
    format!("Pod resize {what}: {}", text.text())
}

/// Fields of a JSON object with their values as JSON, in order; those without one are left out.
struct Ordered(Vec<(&'static str, Option<String>)>);

impl Ordered {
    fn text(&self) -> String {
        let fields = self.0.iter();
        let fields = fields.filter_map(|(name, value)| Some(format!("\"{name}\":{}", value.as_ref()?)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }
}

fn json_of(list: Option<BTreeMap<String, ApiQuantity>>) -> Option<String> {
    let list = list?;
    let all = list
        .iter()
        .map(|(name, amount)| format!("{}:{}", quoted(name), quoted(&amount.0)));
    Some(format!("{{{}}}", all.collect::<Vec<_>>().join(",")))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
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
    fn an_event_says_what_is_wanted_as_upstream_writes_it() {
        let mut pod = pod("80m", "1Gi");
        pod.metadata.generation = Some(2);
        assert_eq!(
            message("started", &pod, None),
            r#"Pod resize started: {"containers":[{"name":"c","resources":{"requests":{"cpu":"80m","memory":"1Gi"}}}],"generation":2}"#
        );
        assert!(
            message("Deferred", &pod, Some("no \"room\""))
                .ends_with(r#","generation":2,"error":"no \"room\""}"#)
        );
    }

    #[test]
    fn what_a_pod_has_as_a_whole_is_a_wish_too() {
        let whole = |cpu: &str| -> Pod {
            let mut pod = pod("100m", "1Gi");
            let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
            pod.spec.get_or_insert_default().resources = serde_json::from_value(resources).unwrap();
            pod
        };
        let (old, new) = (whole("1"), whole("2"));
        assert!(same(&old, &whole("1000m")) && !same(&old, &new));
        assert!(same(&with_resources(&new, &old), &old));
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
