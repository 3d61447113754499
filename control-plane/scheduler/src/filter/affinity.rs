//! Node selectors and node affinity.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use crate::model::{Node, Pod};

/// The node has the labels that the pod selects, and fits one of its required terms.
pub(super) fn matches(pod: &Pod, node: &Node) -> bool {
    let selected = pod
        .node_selector
        .iter()
        .all(|(key, value)| node.labels.get(key) == Some(value));
    let affinity = pod.affinity.as_ref();
    let required = affinity.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    selected
        && required.is_none_or(|required| {
            required
                .node_selector_terms
                .iter()
                .any(|term| matches_term(term, node))
        })
}

/// All requirements of a term; a term without any fits nothing.
pub(crate) fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |requirement: &NodeSelectorRequirement| {
        meets(requirement, node.labels.get(&requirement.key).map(String::as_str))
    };
    let field = |requirement: &NodeSelectorRequirement| {
        requirement.key == "metadata.name" && meets(requirement, Some(node.name.as_str()))
    };
    expressions.iter().all(label) && fields.iter().all(field)
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = value.is_some_and(|value| values.iter().any(|other| other == value));
    let number = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => among,
        "NotIn" => !among,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().is_some_and(|(own, bound)| own > bound),
        "Lt" => number().is_some_and(|(own, bound)| own < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fits(term: Value) -> bool {
        let labels = [("zone", "a"), ("cores", "8")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let node = Node {
            name: "n1".into(),
            labels: labels.into(),
            ..Node::default()
        };
        matches_term(&serde_json::from_value(term).unwrap(), &node)
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    #[test]
    fn every_operator_means_what_it_says() {
        assert!(fits(expression("zone", "In", &["a", "b"])) && !fits(expression("zone", "In", &["b"])));
        assert!(fits(expression("zone", "NotIn", &["b"])) && fits(expression("none", "NotIn", &["b"])));
        assert!(fits(expression("zone", "Exists", &[])) && !fits(expression("none", "Exists", &[])));
        assert!(
            fits(expression("none", "DoesNotExist", &[])) && !fits(expression("zone", "DoesNotExist", &[]))
        );
        assert!(fits(expression("cores", "Gt", &["7"])) && !fits(expression("cores", "Gt", &["8"])));
        assert!(fits(expression("cores", "Lt", &["9"])) && !fits(expression("zone", "Lt", &["9"])));
        assert!(!fits(json!({})));
    }

    #[test]
    fn fields_are_the_node_s_name_alone() {
        let name =
            |value| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [value]}]});
        assert!(fits(name("n1")) && !fits(name("n2")));
        assert!(!fits(
            json!({"matchFields": [{"key": "spec.x", "operator": "Exists"}]})
        ));
    }
}
