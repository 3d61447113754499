//! Roles and bindings that every cluster has, as objects.

use serde_json::{Value, json};

use super::Rule;

const POLICY: &str = include_str!("policy.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
const VERSION: &str = "rbac.authorization.k8s.io/v1";
/// Controllers run under this name as well as under service accounts of their own.
const MANAGER: &str = "system:kube-controller-manager";
const CONTROLLER: &str = "system:controller:";

/// A role of the table.
#[derive(Debug, Clone, Default)]
struct Role<'a> {
    name: &'a str,
    labels: Vec<&'a str>,
    aggregates: Vec<&'a str>,
    rules: Vec<Rule>,
}

/// All ClusterRoles.
pub(crate) fn cluster_roles() -> Vec<Value> {
    roles().into_iter().map(role_object).collect()
}

/// All ClusterRoleBindings: those of the table, and one for each controller.
pub(crate) fn cluster_role_bindings() -> Vec<Value> {
    let named = POLICY
        .lines()
        .filter_map(|line| line.strip_prefix("bind "))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, role) = (words.next()?, words.next()?);
            Some(binding_object(name, role, words.map(subject).collect()))
        });
    let controllers = roles().into_iter().filter_map(|role| {
        let account = role.name.strip_prefix(CONTROLLER)?;
        let subjects = vec![subject(&format!("s:{account}")), subject(&format!("u:{MANAGER}"))];
        Some(binding_object(role.name, role.name, subjects))
    });
    named.chain(controllers).collect()
}

/// The rules of nodes.
pub(super) fn node_rules() -> Vec<Rule> {
    roles()
        .into_iter()
        .find(|role| role.name == "system:node")
        .map(|role| role.rules)
        .unwrap_or_default()
}

fn roles() -> Vec<Role<'static>> {
    let mut roles: Vec<Role<'static>> = Vec::new();
    for line in POLICY.lines().filter(|line| !line.starts_with('#')) {
        if let Some(line) = line.strip_prefix("role ") {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let (aggregates, labels) = words.partition(|word| word.starts_with('+'));
            roles.push(Role {
                name,
                labels,
                aggregates,
                rules: Vec::new(),
            });
        } else if let (Some(line), Some(role)) = (line.strip_prefix("  "), roles.last_mut()) {
            role.rules.push(rule(line));
        }
    }
    roles
}

fn rule(line: &str) -> Rule {
    let words: Vec<&str> = line.split_whitespace().collect();
    let list = |text: &str| -> Vec<String> {
        text.split(',')
            .map(|word| {
                if word == "-" {
                    String::new()
                } else {
                    word.to_owned()
                }
            })
            .collect()
    };
    match words.as_slice() {
        [verbs, "@", urls] => Rule {
            verbs: list(verbs),
            non_resource_urls: list(urls),
            ..Rule::default()
        },
        [verbs, groups, resources, names @ ..] => Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: names.first().map(|names| list(names)).unwrap_or_default(),
            ..Rule::default()
        },
        _ => Rule::default(),
    }
}

fn role_object(role: Role<'_>) -> Value {
    let mut labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    for label in role.labels {
        labels[label] = "true".into();
    }
    let mut object = json!({
        "kind": "ClusterRole", "apiVersion": VERSION, "rules": role.rules,
        "metadata": {"name": role.name, "labels": labels,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
    });
    if !role.aggregates.is_empty() {
        let selector = |label: &&str| json!({"matchLabels": {label.trim_start_matches('+'): "true"}});
        let selectors: Vec<Value> = role.aggregates.iter().map(selector).collect();
        object["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
    }
    object
}

fn binding_object(name: &str, role: &str, subjects: Vec<Value>) -> Value {
    let mut object = json!({
        "kind": "ClusterRoleBinding", "apiVersion": VERSION,
        "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
    });
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    object
}

fn subject(word: &str) -> Value {
    match word.split_once(':') {
        Some(("s", name)) => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        Some(("g", name)) => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
        Some((_, name)) => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
        None => json!({"kind": "User", "apiGroup": GROUP, "name": word}),
    }
}

#[cfg(test)]
mod tests {
    use super::{cluster_role_bindings, cluster_roles, roles};

    #[test]
    fn every_binding_names_a_role_and_every_rule_is_whole() {
        let roles_by_name: Vec<String> = cluster_roles()
            .iter()
            .map(|r| r["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        for binding in cluster_role_bindings() {
            let role = binding["roleRef"]["name"].as_str().unwrap();
            assert!(roles_by_name.iter().any(|name| name == role), "{role}");
        }
        for role in roles() {
            for rule in &role.rules {
                assert!(!rule.verbs.is_empty(), "{}", role.name);
                assert!(
                    !rule.resources.is_empty() || !rule.non_resource_urls.is_empty(),
                    "{}",
                    role.name
                );
            }
        }
    }
}
