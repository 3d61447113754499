//! Whether this node takes a pod (upstream: `pkg/kubelet/lifecycle/predicate.go`). Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use knode_api::quantity::Quantity;

use crate::model::Rejection;
use crate::pod::{PodExt, RESTART_ALL};
use crate::qos::{Amounts, Qos, add, class, pod_total};
use crate::spec::security::unenforceable_apparmor;
use crate::status::EVICTED;

/// What admission looks at beside the pod.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionNode<'a> {
    /// The node's name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What pods may use of it.
    pub allocatable: &'a BTreeMap<String, ApiQuantity>,
    /// Its conditions that say that something is scarce, such as `MemoryPressure`.
    pub pressures: &'a [String],
    /// The machine shuts down.
    pub shutting_down: bool,
    /// The machine has AppArmor.
    pub apparmor: bool,
}

/// Why the node does not take `pod` beside `others`, the pods that it has taken; `None` if it does.
pub fn reject<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod>,
    node: AdmissionNode<'_>,
) -> Option<Rejection> {
    unfit(pod, others, node).or_else(|| unconfined(pod, node.apparmor))
}

fn unfit<'a>(pod: &Pod, others: impl Iterator<Item = &'a Pod>, node: AdmissionNode<'_>) -> Option<Rejection> {
    if node.shutting_down {
        return Some(Rejection {
            reason: "NodeShutdown".to_owned(),
            message: "Pod was rejected as the node is shutting down.".to_owned(),
        });
    }
    if let Some(what) = unsupported(pod) {
        return Some(Rejection {
            reason: "Unsupported".to_owned(),
            message: format!("unsupported: {what}"),
        });
    }
    if let Some(rejection) = under_pressure(pod, node.pressures) {
        return Some(rejection);
    }
    // Before the node's object is known there is nothing to compare with; the scheduler has compared.
    if node.allocatable.is_empty() {
        return None;
    }
    if !matches_node(pod, node) {
        let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return Some(Rejection {
            reason: "NodeAffinity".to_owned(),
            message: message.to_owned(),
        });
    }
    out_of_resource(pod, others, node.allocatable)
}

fn unconfined(pod: &Pod, apparmor: bool) -> Option<Rejection> {
    unenforceable_apparmor(pod, apparmor).map(|message| Rejection {
        reason: "AppArmor".to_owned(),
        message,
    })
}

/// Where memory is scarce no pod without requests begins, where anything else is none at all
/// (upstream: `pkg/kubelet/eviction`, `Admit`).
fn under_pressure(pod: &Pod, pressures: &[String]) -> Option<Rejection> {
    let memory_only = pressures == ["MemoryPressure"];
    let spared = memory_only && (class(pod) != Qos::BestEffort || tolerates_memory_pressure(pod));
    if pressures.is_empty() || pod.is_critical() || spared {
        return None;
    }
    Some(Rejection {
        reason: EVICTED.to_owned(),
        message: format!("The node had condition: [{}]. ", pressures.join(" ")),
    })
}

fn tolerates_memory_pressure(pod: &Pod) -> bool {
    let tolerations = pod.spec().and_then(|spec| spec.tolerations.as_deref());
    tolerations.unwrap_or_default().iter().any(|one| {
        let key = one.key.as_deref().unwrap_or_default();
        let effect = one.effect.as_deref().unwrap_or_default();
        let exists = one.operator.as_deref() == Some("Exists");
        let named = key == "node.kubernetes.io/memory-pressure" || (key.is_empty() && exists);
        let value = exists || one.value.as_deref().unwrap_or_default().is_empty();
        named && value && matches!(effect, "" | "NoSchedule")
    })
}

/// Features that would be silently missing.
fn unsupported(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec()?;
    let windows = spec.os.as_ref().is_some_and(|os| os.name == "windows");
    let rules = pod.all_containers().any(|(_, container)| {
        let mut rules = container.restart_policy_rules.iter().flatten();
        rules.any(|rule| !matches!(rule.action.as_str(), "Restart" | RESTART_ALL))
    });
    match () {
        () if windows => Some("os: windows"),
        () if rules => Some("restartPolicyRules with an unknown action"),
        () => None,
    }
}

fn out_of_resource<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod>,
    allocatable: &BTreeMap<String, ApiQuantity>,
) -> Option<Rejection> {
    let wanted = pod_total(pod, false);
    let (mut used, mut count) = (Amounts::new(), 0_i64);
    for other in others {
        count += 1;
        add(&mut used, &pod_total(other, false));
    }
    let capacity = |name: &str| {
        allocatable
            .get(name)
            .and_then(|text| Quantity::parse(&text.0).ok())
    };
    if let Some(most) = capacity("pods")
        .map(|most| most.value())
        .filter(|most| count + 1 > *most)
    {
        return Some(out_of("pods", 1, count, most));
    }
    let number = |name: &str, amount: Option<&Quantity>| match (name, amount) {
        (_, None) => 0,
        ("cpu", Some(amount)) => amount.milli_value(),
        (_, Some(amount)) => amount.value(),
    };
    // What is not counted here is of the whole cluster (upstream: `removeMissingExtendedResources`), or a device.
    let elsewhere = |name: &str| {
        name.contains('/') && !name.contains("kubernetes.io/") && !allocatable.contains_key(name)
    };
    let wanted = wanted.iter().filter(|(name, _)| !elsewhere(name));
    for (name, amount) in wanted.filter(|(_, amount)| !amount.is_zero()) {
        let asked = number(name, Some(amount));
        let have = number(name, used.get(name));
        let all = number(name, capacity(name).as_ref());
        if asked > all - have {
            return Some(out_of(name, asked, have, all));
        }
    }
    None
}

fn out_of(name: &str, asked: i64, used: i64, all: i64) -> Rejection {
    Rejection {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {all}"
        ),
    }
}

fn matches_node(pod: &Pod, node: AdmissionNode<'_>) -> bool {
    let Some(spec) = pod.spec() else { return true };
    let selector = spec.node_selector.iter().flatten();
    if !selector
        .into_iter()
        .all(|(key, value)| node.labels.get(key) == Some(value))
    {
        return false;
    }
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| {
        required
            .node_selector_terms
            .iter()
            .any(|term| matches_term(term, node))
    })
}

fn matches_term(term: &NodeSelectorTerm, node: AdmissionNode<'_>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let by_field =
        |one: &NodeSelectorRequirement| one.key == "metadata.name" && matches_value(one, Some(node.name));
    (!expressions.is_empty() || !fields.is_empty())
        && expressions
            .iter()
            .all(|one| matches_value(one, node.labels.get(&one.key).map(String::as_str)))
        && fields.iter().all(by_field)
}

fn matches_value(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let compare = |test: fn(i64, i64) -> bool| {
        let have = value.and_then(|value| value.parse().ok());
        let bound = values.first().and_then(|bound| bound.parse().ok());
        matches!((have, bound), (Some(have), Some(bound)) if test(have, bound))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|have, bound| have > bound),
        "Lt" => compare(|have, bound| have < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn verdict(spec: Value, others: &[Pod]) -> Option<String> {
        let labels = BTreeMap::from([
            ("disk".to_owned(), "ssd".to_owned()),
            ("n".to_owned(), "5".to_owned()),
        ]);
        let allocatable = [("cpu", "2"), ("memory", "1Gi"), ("pods", "3")];
        let allocatable = allocatable
            .map(|(name, text)| (name.to_owned(), ApiQuantity(text.to_owned())))
            .into();
        let node = AdmissionNode {
            name: "node1",
            labels: &labels,
            allocatable: &allocatable,
            pressures: &[],
            shutting_down: false,
            apparmor: false,
        };
        reject(&pod(spec), others.iter(), node).map(|one| format!("{}: {}", one.reason, one.message))
    }

    #[test]
    fn a_pod_that_asks_for_apparmor_needs_it() {
        let asking = json!({"containers": [{"name": "c"}],
            "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
        let refused = verdict(asking, &[]).unwrap();
        assert_eq!(
            refused,
            "AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host"
        );
    }

    #[test]
    fn resources_that_the_node_does_not_count_are_not_looked_at() {
        let asking =
            |name: &str| json!({"containers": [{"name": "c", "resources": {"limits": {name: "3"}}}]});
        assert_eq!(verdict(asking("example.com/gpu"), &[]), None);
        let native = verdict(asking("kubernetes.io/odd"), &[]).unwrap();
        assert!(native.starts_with("OutOfkubernetes.io/odd: "), "{native}");
    }

    fn asking(cpu: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
    }

    #[test]
    fn too_much_is_refused_with_upstreams_words() {
        let others = [pod(asking("50m"))];
        assert_eq!(
            verdict(asking("1k"), &others).unwrap(),
            "OutOfcpu: Node didn't have enough resource: cpu, requested: 1000000, used: 50, capacity: 2000"
        );
        assert_eq!(verdict(asking("1950m"), &others), None);
        let three = [pod(asking("0")), pod(asking("0")), pod(asking("0"))];
        assert!(verdict(asking("0"), &three).unwrap().starts_with("OutOfpods: "));
    }

    #[test]
    fn selectors_and_affinity_must_match() {
        let refused =
            "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        assert_eq!(
            verdict(json!({"containers": [], "nodeSelector": {"disk": "none"}}), &[]).as_deref(),
            Some(refused)
        );
        assert_eq!(
            verdict(json!({"containers": [], "nodeSelector": {"disk": "ssd"}}), &[]),
            None
        );
        let affinity = |expression: Value| {
            let terms = json!([{"matchExpressions": [expression]}]);
            json!({"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
        };
        for (expression, good) in [
            (
                json!({"key": "disk", "operator": "In", "values": ["ssd", "hdd"]}),
                true,
            ),
            (
                json!({"key": "disk", "operator": "NotIn", "values": ["ssd"]}),
                false,
            ),
            (json!({"key": "none", "operator": "DoesNotExist"}), true),
            (json!({"key": "n", "operator": "Gt", "values": ["4"]}), true),
            (json!({"key": "n", "operator": "Lt", "values": ["4"]}), false),
        ] {
            assert_eq!(
                verdict(affinity(expression.clone()), &[]).is_none(),
                good,
                "{expression}"
            );
        }
    }

    #[test]
    fn a_node_short_of_something_takes_few_pods() {
        let (labels, allocatable) = (BTreeMap::new(), BTreeMap::new());
        let verdict = |spec: Value, pressures: &[&str]| {
            let pressures: Vec<String> = pressures.iter().map(|one| (*one).to_owned()).collect();
            let node = AdmissionNode {
                name: "node1",
                labels: &labels,
                allocatable: &allocatable,
                pressures: &pressures,
                shutting_down: false,
                apparmor: false,
            };
            let pod = pod(spec);
            reject(&pod, std::iter::empty(), node).map(|one| format!("{}: {}", one.reason, one.message))
        };
        let modest = json!({"containers": [{"name": "c"}]});
        let asking = json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]});
        let critical = json!({"containers": [{"name": "c"}], "priority": 2_000_000_000});
        let tolerant = json!({"containers": [{"name": "c"}], "tolerations": [
            {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}]});
        let memory = "Evicted: The node had condition: [MemoryPressure]. ";
        assert_eq!(
            verdict(modest.clone(), &["MemoryPressure"]).as_deref(),
            Some(memory)
        );
        for spared in [&asking, &critical, &tolerant] {
            assert_eq!(verdict(spared.clone(), &["MemoryPressure"]), None, "{spared}");
        }
        let both = ["MemoryPressure", "DiskPressure"];
        let text = "Evicted: The node had condition: [MemoryPressure DiskPressure]. ";
        assert_eq!(verdict(asking.clone(), &both).as_deref(), Some(text));
        assert_eq!(verdict(critical, &both), None);
        assert_eq!(verdict(modest, &[]), None);
    }
}
