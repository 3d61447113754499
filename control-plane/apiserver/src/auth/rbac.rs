//! Role-based access control (`plugin/pkg/auth/authorizer/rbac`), evaluated from the cache. The parsed roles
//! and bindings are kept until one of them changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use knode_api::selector::LabelSelector;
use knode_store::Revision;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Attributes;
use crate::cache::{Cache, Table};
use crate::user::UserInfo;

const GROUP: &str = "rbac.authorization.k8s.io";

/// One rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// Whether the rule allows it.
    pub fn allows(&self, ask: &Attributes) -> bool {
        let verb = has(&self.verbs, &ask.verb);
        if !ask.is_resource {
            return verb && self.non_resource_urls.iter().any(|url| covers(url, &ask.path));
        }
        let named = self.resource_names.is_empty() || self.resource_names.contains(&ask.name);
        verb && has(&self.api_groups, &ask.group) && self.has_resource(ask) && named
    }

    /// Whether the rule gives every right over resources.
    pub fn is_everything(&self) -> bool {
        let all = |list: &[String]| list.iter().any(|item| item == "*");
        all(&self.verbs) && all(&self.api_groups) && all(&self.resources) && self.resource_names.is_empty()
    }

    /// The rule taken apart into rights of one verb on one thing.
    pub fn single(&self) -> Vec<Rule> {
        let one = |text: &String| vec![text.clone()];
        let mut rights = Vec::new();
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                rights.push(Rule {
                    verbs: one(verb),
                    non_resource_urls: one(url),
                    ..Rule::default()
                });
            }
            for (group, resource) in self
                .api_groups
                .iter()
                .flat_map(|g| self.resources.iter().map(move |r| (g, r)))
            {
                let right = Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                match self.resource_names.is_empty() {
                    true => rights.push(right),
                    false => rights.extend(self.resource_names.iter().map(|name| Rule {
                        resource_names: one(name),
                        ..right.clone()
                    })),
                }
            }
        }
        rights
    }

    /// Whether the rule gives all of a single right.
    pub fn covers(&self, right: &Rule) -> bool {
        let all = |own: &[String], wanted: &[String]| wanted.iter().all(|wanted| has(own, wanted));
        let names = self.resource_names.is_empty()
            || (!right.resource_names.is_empty() && all(&self.resource_names, &right.resource_names));
        let resources = right.resources.iter().all(|wanted| {
            let below = wanted
                .split_once('/')
                .map(|(_, subresource)| format!("*/{subresource}"));
            has(&self.resources, wanted) || below.is_some_and(|below| self.resources.contains(&below))
        });
        let urls = right
            .non_resource_urls
            .iter()
            .all(|wanted| self.non_resource_urls.iter().any(|url| covers(url, wanted)));
        all(&self.verbs, &right.verbs)
            && all(&self.api_groups, &right.api_groups)
            && names
            && resources
            && urls
    }

    /// A single right as upstream prints it.
    pub fn print(&self) -> String {
        let list = |name: &str, list: &[String]| -> Option<String> {
            let quoted: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
            (!list.is_empty()).then(|| format!("{name}:[{}]", quoted.join(" ")))
        };
        let parts = [
            list("APIGroups", &self.api_groups),
            list("Resources", &self.resources),
            list("ResourceNames", &self.resource_names),
            list("NonResourceURLs", &self.non_resource_urls),
            list("Verbs", &self.verbs),
        ];
        format!(
            "{{{}}}",
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        )
    }

    fn has_resource(&self, ask: &Attributes) -> bool {
        let path = ask.resource_path();
        let any_with_subresource = |given: &str| {
            !ask.subresource.is_empty() && given.strip_prefix("*/").is_some_and(|sub| sub == ask.subresource)
        };
        self.resources
            .iter()
            .any(|given| given == "*" || *given == path || any_with_subresource(given))
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn covers(url: &str, path: &str) -> bool {
    url == "*"
        || url == path
        || url
            .strip_suffix('*')
            .is_some_and(|prefix| path.starts_with(prefix))
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

impl Subject {
    fn is(&self, user: &UserInfo, binding_namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() {
                    binding_namespace
                } else {
                    &self.namespace
                };
                !namespace.is_empty()
                    && user.name == format!("system:serviceaccount:{namespace}:{}", self.name)
            }
            _ => false,
        }
    }
}

struct Binding {
    namespace: String,
    subjects: Vec<Subject>,
    cluster_role: bool,
    role: String,
}

/// Everything parsed.
#[derive(Default)]
struct Parsed {
    revisions: [Revision; 4],
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    roles: HashMap<(String, String), Arc<[Rule]>>,
    bindings: Vec<Binding>,
}

/// The evaluator.
pub(super) struct Rbac {
    cache: Arc<Cache>,
    parsed: Mutex<Arc<Parsed>>,
}

const KINDS: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

impl Rbac {
    pub fn new(cache: Arc<Cache>) -> Self {
        Self {
            cache,
            parsed: Mutex::default(),
        }
    }

    /// Whether some binding allows it.
    pub fn allows(&self, ask: &Attributes) -> bool {
        let mut allowed = false;
        self.visit(&ask.user, &ask.namespace, |rule| {
            allowed = rule.allows(ask);
            !allowed
        });
        allowed
    }

    /// All rules that apply to a user in a namespace.
    pub fn rules(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let mut rules = Vec::new();
        self.visit(user, namespace, |rule| {
            rules.push(rule.clone());
            true
        });
        rules
    }

    /// The rules of a role, with those that it aggregates.
    pub fn role_rules(&self, cluster: bool, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        let parsed = self.parsed();
        match cluster {
            true => parsed.cluster_roles.get(name).cloned(),
            false => parsed
                .roles
                .get(&(namespace.to_owned(), name.to_owned()))
                .cloned(),
        }
    }

    /// Shows the user's rules one by one until the visitor has seen enough.
    fn visit(&self, user: &UserInfo, namespace: &str, mut more: impl FnMut(&Rule) -> bool) {
        let parsed = self.parsed();
        let applying = parsed.bindings.iter().filter(|binding| {
            (binding.namespace.is_empty() || binding.namespace == namespace)
                && binding
                    .subjects
                    .iter()
                    .any(|subject| subject.is(user, &binding.namespace))
        });
        for binding in applying {
            let rules = match binding.cluster_role {
                true => parsed.cluster_roles.get(&binding.role),
                false => parsed
                    .roles
                    .get(&(binding.namespace.clone(), binding.role.clone())),
            };
            if rules.is_some_and(|rules| !rules.iter().all(&mut more)) {
                return;
            }
        }
    }

    fn tables(&self) -> [Option<&Arc<Table>>; 4] {
        KINDS.map(|plural| knode_kinds::find(GROUP, "v1", plural).and_then(|kind| self.cache.table(kind)))
    }

    fn parsed(&self) -> Arc<Parsed> {
        let tables = self.tables();
        let revisions = tables.map(|table| table.map_or(0, |table| table.latest()));
        // The value is replaced as a whole: a panic can't leave a part of it.
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if parsed.revisions != revisions || parsed.cluster_roles.is_empty() {
            *parsed = Arc::new(parse(tables, revisions));
        }
        parsed.clone()
    }
}

fn parse(tables: [Option<&Arc<Table>>; 4], revisions: [Revision; 4]) -> Parsed {
    let [cluster_roles, roles, cluster_bindings, bindings] =
        tables.map(|table| table.map(|table| table.all("")).unwrap_or_default());
    let cluster_roles: Vec<Value> = cluster_roles.iter().map(|object| object.value()).collect();
    let plain =
        |role: &Value| -> Vec<Rule> { serde_json::from_value(role["rules"].clone()).unwrap_or_default() };
    let mut parsed = Parsed {
        revisions,
        ..Parsed::default()
    };
    for role in &cluster_roles {
        let mut seen = Vec::new();
        let rules = aggregated(role, &cluster_roles, &mut seen);
        parsed
            .cluster_roles
            .insert(text(&role["metadata"]["name"]), rules.into());
    }
    for object in &roles {
        let rules = plain(&object.value());
        parsed.roles.insert(
            (object.namespace().to_owned(), object.name().to_owned()),
            rules.into(),
        );
    }
    parsed.bindings = cluster_bindings
        .iter()
        .chain(&bindings)
        .map(|object| binding(&object.value()))
        .collect();
    parsed
}

/// A role's own rules and those of the roles that its aggregation rule selects.
fn aggregated(role: &Value, all: &[Value], seen: &mut Vec<String>) -> Vec<Rule> {
    let name = text(&role["metadata"]["name"]);
    if seen.contains(&name) {
        return Vec::new();
    }
    seen.push(name);
    let mut rules: Vec<Rule> = serde_json::from_value(role["rules"].clone()).unwrap_or_default();
    let selectors = role["aggregationRule"]["clusterRoleSelectors"]
        .as_array()
        .into_iter()
        .flatten();
    for selector in selectors.filter_map(|selector| LabelSelector::from_object(Some(selector)).ok()) {
        for other in all.iter().filter(|other| selector.matches_object(other)) {
            for rule in aggregated(other, all, seen) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    rules
}

fn binding(value: &Value) -> Binding {
    Binding {
        namespace: text(&value["metadata"]["namespace"]),
        subjects: serde_json::from_value(value["subjects"].clone()).unwrap_or_default(),
        cluster_role: value["roleRef"]["kind"] == "ClusterRole",
        role: text(&value["roleRef"]["name"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Attributes, Rule, aggregated, covers};
    use serde_json::json;

    fn rule(value: serde_json::Value) -> Rule {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rules_match_as_upstream() {
        let ask = |resource: &str, sub: &str, name: &str| Attributes {
            verb: "get".into(),
            is_resource: true,
            resource: resource.into(),
            subresource: sub.into(),
            name: name.into(),
            ..Attributes::default()
        };
        let pods = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        assert!(pods.allows(&ask("pods", "", "a")));
        assert!(!pods.allows(&ask("pods", "log", "a")));
        let logs = rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/log"]}));
        assert!(logs.allows(&ask("pods", "log", "a")));
        let named =
            rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["b"]}));
        assert!(!named.allows(&ask("pods", "", "a")) && named.allows(&ask("pods", "", "b")));
        assert!(
            covers("/healthz/*", "/healthz/etcd")
                && covers("*", "/x")
                && !covers("/healthz", "/healthz/etcd")
        );
    }

    #[test]
    fn aggregation_goes_through_and_ends() {
        let role = |name: &str, label: &str, select: &str, resource: &str| {
            json!({"metadata": {"name": name, "labels": {label: "true"}},
                "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}],
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {select: "true"}}]}})
        };
        let all = [
            role("admin", "x", "to-admin", "a"),
            role("edit", "to-admin", "to-edit", "b"),
            role("own", "to-edit", "to-admin", "c"),
        ];
        let rules = aggregated(&all[0], &all, &mut Vec::new());
        let resources: Vec<&str> = rules.iter().map(|rule| rule.resources[0].as_str()).collect();
        assert_eq!(resources, ["a", "b", "c"]);
    }
}
