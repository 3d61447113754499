//! Which nodes a DaemonSet's pods belong on; pure.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint};
use knode_api::taints::tolerates;

use super::pod::tolerations;

/// What a node is to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// A new pod belongs there.
    pub run: bool,
    /// A pod that is there may stay.
    pub stay: bool,
}

/// Whether a change of a node can change where daemon pods belong.
pub(super) fn differs(old: &Node, new: &Node) -> bool {
    let view = |n: &Node| {
        (
            n.metadata.labels.clone(),
            n.spec.clone(),
            n.metadata.deletion_timestamp.is_some(),
        )
    };
    view(old) != view(new)
}

/// Judges a node by the template's node name, selector, affinity and tolerations.
pub(super) fn fit(spec: &PodSpec, node: &Node) -> Fit {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let named = spec
        .node_name
        .as_deref()
        .is_none_or(|n| n.is_empty() || n == name);
    if !named || !selected(spec, node) || !required(spec, node) {
        return Fit {
            run: false,
            stay: false,
        };
    }
    let taints = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.clone())
        .unwrap_or_default();
    let tolerations = tolerations(spec);
    let bad = |t: &Taint| !tolerations.iter().any(|toleration| tolerates(toleration, t));
    let has = |effect: &str| taints.iter().any(|t| t.effect == effect && bad(t));
    Fit {
        run: !has("NoSchedule") && !has("NoExecute"),
        stay: !has("NoExecute"),
    }
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn selected(spec: &PodSpec, node: &Node) -> bool {
    spec.node_selector
        .iter()
        .flatten()
        .all(|(k, v)| label(node, k) == Some(v))
}

/// Required node affinity: any term, all of its expressions.
fn required(spec: &PodSpec, node: &Node) -> bool {
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let Some(selector) =
        affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
    else {
        return true;
    };
    selector.node_selector_terms.iter().any(|t| term(t, node))
}

fn term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = node.metadata.name.as_deref();
    let by_field = |r: &NodeSelectorRequirement| matches(r, name.filter(|_| r.key == "metadata.name"));
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| matches(r, label(node, &r.key)))
        && fields.iter().all(by_field)
}

fn matches(r: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = r.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|x| x == v));
    let compare = |f: fn(&i64, &i64) -> bool| {
        let bound = values.first().and_then(|v| v.parse().ok());
        value
            .and_then(|v| v.parse().ok())
            .zip(bound)
            .is_some_and(|(v, b)| f(&v, &b))
    };
    match r.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(taints: serde_json::Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "a", "labels": {"disk": "ssd", "n": "5"}}, "spec": {"taints": taints}}))
            .unwrap()
    }

    fn spec(extra: serde_json::Value) -> PodSpec {
        let mut spec = json!({"containers": []});
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn taints_keep_new_pods_away_or_drive_old_ones_out() {
        let plain = spec(json!({}));
        assert_eq!(
            fit(&plain, &node(json!([]))),
            Fit {
                run: true,
                stay: true
            }
        );
        let schedule = json!([{"key": "x", "effect": "NoSchedule"}]);
        assert_eq!(
            fit(&plain, &node(schedule)),
            Fit {
                run: false,
                stay: true
            }
        );
        let execute = json!([{"key": "x", "effect": "NoExecute"}]);
        assert_eq!(
            fit(&plain, &node(execute)),
            Fit {
                run: false,
                stay: false
            }
        );
        let unready = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]);
        assert!(fit(&plain, &node(unready)).stay);
    }

    #[test]
    fn selectors_and_affinity_are_asked() {
        let n = node(json!([]));
        assert!(fit(&spec(json!({"nodeSelector": {"disk": "ssd"}})), &n).run);
        assert!(!fit(&spec(json!({"nodeSelector": {"disk": "hdd"}})), &n).run);
        let affinity = |key: &str, op: &str, values: serde_json::Value| {
            spec(
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": op, "values": values}]}]}}}}),
            )
        };
        assert!(fit(&affinity("n", "Gt", json!(["4"])), &n).run);
        assert!(!fit(&affinity("n", "Lt", json!(["4"])), &n).run);
        assert!(!fit(&affinity("disk", "NotIn", json!(["ssd"])), &n).run);
        assert!(fit(&affinity("none", "DoesNotExist", json!(null)), &n).run);
    }
}
