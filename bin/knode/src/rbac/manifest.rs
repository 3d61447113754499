use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde_json::{Value, json};

use crate::server::objects::typed;

/// Name of the role and of its binding.
pub const NAME: &str = "knode:node";

/// What the parts of a node read, besides what the node authorizer lets it: group, resources, verbs.
const RULES: &[(&str, &[&str], &[&str])] = &[
    ("", &["services", "endpoints", "nodes"], &["get", "list", "watch"]),
    ("discovery.k8s.io", &["endpointslices"], &["get", "list", "watch"]),
    ("networking.k8s.io", &["servicecidrs"], &["get", "list", "watch"]),
];
/// What network policies are made of.
const POLICY_RULES: &[(&str, &[&str], &[&str])] = &[
    ("networking.k8s.io", &["networkpolicies"], &["list", "watch"]),
    ("", &["namespaces", "pods"], &["list", "watch"]),
];
/// What all of them write.
const EVENT_VERBS: &[&str] = &["create", "patch", "update"];

/// The role (see CONTRACTS.md, identities); `policies` says whether network policies are enforced by its holders.
pub fn role(policies: bool) -> ClusterRole {
    let more = if policies { POLICY_RULES } else { &[] };
    let rule = |(group, resources, verbs): &(&str, &[&str], &[&str])| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let mut rules: Vec<Value> = RULES.iter().chain(more).map(rule).collect();
    rules.push(json!({"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": EVENT_VERBS}));
    typed(json!({"metadata": {"name": NAME}, "rules": rules}))
}

/// Gives the role to every node.
pub fn binding() -> ClusterRoleBinding {
    typed(json!({
        "metadata": {"name": NAME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
    }))
}

/// Both as YAML.
pub fn text(policies: bool) -> anyhow::Result<String> {
    let (role, binding) = (
        serde_norway::to_string(&role(policies))?,
        serde_norway::to_string(&binding())?,
    );
    Ok(format!("{role}---\n{binding}"))
}

/// The resources whose listing shows whether the role is held: group and name.
pub fn listed(policies: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let more = if policies { POLICY_RULES } else { &[] };
    let all = RULES.iter().chain(more);
    all.flat_map(|(group, resources, _)| resources.iter().map(|resource| (*group, *resource)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_two_objects_of_their_types() {
        let text = text(true).unwrap();
        let (role, binding) = text.split_once("---\n").unwrap();
        let role: ClusterRole = serde_norway::from_str(role).unwrap();
        let binding: ClusterRoleBinding = serde_norway::from_str(binding).unwrap();
        assert_eq!(role.metadata.name.as_deref(), Some(NAME));
        assert_eq!(binding.subjects.unwrap()[0].name, "system:nodes");
        assert!(
            text.contains("kind: ClusterRole\n") && text.contains("kind: ClusterRoleBinding\n"),
            "{text}"
        );
        // Nothing is written but events, and no secrets are read.
        for rule in role.rules.unwrap() {
            let events = rule.resources.as_ref().is_some_and(|r| r == &["events"]);
            let reads = rule
                .verbs
                .iter()
                .all(|verb| ["get", "list", "watch"].contains(&verb.as_str()));
            assert!(events || reads, "{rule:?}");
            assert!(!rule.resources.unwrap_or_default().contains(&"secrets".to_owned()));
        }
    }

    #[test]
    fn without_policies_less_is_asked_for() {
        assert!(!super::text(false).unwrap().contains("networkpolicies"));
        assert!(listed(true).any(|one| one == ("networking.k8s.io", "networkpolicies")));
        assert!(!listed(false).any(|(_, resource)| resource == "pods"));
    }
}
