//! What nodes may do (`plugin/pkg/auth/authorizer/node`): fixed rules, and reading what the pods on them use.

use std::sync::Arc;

use knode_kinds::Kind;
use serde_json::Value;

use super::authorize::Decision;
use super::policy::node_rules;
use super::{Attributes, Rule};
use crate::admission::node::references;
use crate::cache::{Cache, Object};

pub(super) struct NodeRules {
    cache: Arc<Cache>,
    rules: Vec<Rule>,
}

fn no(why: impl Into<String>) -> Decision {
    Decision::NoOpinion(why.into())
}

const READS: [&str; 3] = ["get", "list", "watch"];

impl NodeRules {
    pub fn new(cache: Arc<Cache>) -> Self {
        Self {
            cache,
            rules: node_rules(),
        }
    }

    pub fn decide(&self, ask: &Attributes) -> Decision {
        let Some(node) = ask.user.node_name() else {
            return no("");
        };
        if !ask.is_resource {
            return self.by_rules(ask);
        }
        match (
            ask.group.as_str(),
            ask.resource.as_str(),
            ask.subresource.as_str(),
        ) {
            ("", "secrets", _) => self.reads_used(ask, node, "secret"),
            ("", "configmaps", _) => self.reads_used(ask, node, "configMap"),
            ("", "persistentvolumeclaims", "") => self.reads_used(ask, node, "claim"),
            ("", "persistentvolumeclaims", "status") => self.claim_status(ask, node),
            ("", "persistentvolumes", "") => self.volume(ask, node),
            ("storage.k8s.io", "volumeattachments", "") => self.attachment(ask, node),
            ("", "serviceaccounts", "token") => self.account(
                ask,
                node,
                "create",
                "create tokens for individual service accounts",
            ),
            ("", "serviceaccounts", "") => {
                self.account(ask, node, "get", "get individual resources of this type")
            }
            ("", "pods", "") => self.pod(ask, node),
            ("", "nodes", "") => self.node(ask, node),
            ("coordination.k8s.io", "leases", _) => self.lease(ask, node),
            ("storage.k8s.io", "csinodes", _) => self.csi_node(ask, node),
            _ => self.by_rules(ask),
        }
    }

    fn by_rules(&self, ask: &Attributes) -> Decision {
        if self.rules.iter().any(|rule| rule.allows(ask)) {
            Decision::Allowed
        } else {
            no("")
        }
    }

    /// Objects that a pod on the node refers to.
    fn reads_used(&self, ask: &Attributes, node: &str, kind: &'static str) -> Decision {
        if !READS.contains(&ask.verb.as_str()) {
            return no("can only read resources of this type");
        }
        if !ask.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if ask.name.is_empty() {
            return no("No Object name found");
        }
        if ask.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        let used = match kind {
            "claim" => self.uses(node, &ask.namespace, |pod| {
                claims(pod).any(|name| name == ask.name)
            }),
            _ => self.uses(node, &ask.namespace, |pod| {
                references(pod, kind).any(|name| name == ask.name)
            }),
        };
        self.related(
            node,
            used || (kind == "secret" && self.is_volumes_secret(ask, node)),
        )
    }

    fn claim_status(&self, ask: &Attributes, node: &str) -> Decision {
        if !matches!(ask.verb.as_str(), "get" | "update" | "patch") {
            return no("can only get/update/patch this type");
        }
        let claim = |pod: &Value| claims(pod).any(|name| name == ask.name);
        self.related(node, self.uses(node, &ask.namespace, claim))
    }

    fn volume(&self, ask: &Attributes, node: &str) -> Decision {
        if ask.verb != "get" || ask.name.is_empty() {
            return no("can only get individual resources of this type");
        }
        let Some(volume) = self.object("", "persistentvolumes", &ask.name) else {
            return self.related(node, false);
        };
        self.related(node, self.uses_volume(node, &volume))
    }

    /// Whether a pod on the node uses the claim that the volume is bound to.
    fn uses_volume(&self, node: &str, volume: &Value) -> bool {
        let claim = &volume["spec"]["claimRef"];
        let namespace = claim["namespace"].as_str().unwrap_or_default();
        let used = |pod: &Value| claims(pod).any(|name| claim["name"] == name);
        !namespace.is_empty() && self.uses(node, namespace, used)
    }

    /// Whether a volume that a pod on the node uses needs the secret.
    fn is_volumes_secret(&self, ask: &Attributes, node: &str) -> bool {
        let kind = knode_kinds::find("", "v1", "persistentvolumes");
        let Some(table) = kind.and_then(|kind| self.cache.table(kind)) else {
            return false;
        };
        let names = |volume: &Value| {
            let driver = &volume["spec"]["csi"];
            let secrets = [
                "nodeStageSecretRef",
                "nodePublishSecretRef",
                "nodeExpandSecretRef",
            ];
            let mut secrets = secrets.iter().map(|field| &driver[field]);
            secrets.any(|secret| secret["name"] == *ask.name && secret["namespace"] == *ask.namespace)
        };
        let volumes = table.all("");
        let mut volumes = volumes.iter().map(|volume| volume.value());
        volumes.any(|volume| names(&volume) && self.uses_volume(node, &volume))
    }

    fn attachment(&self, ask: &Attributes, node: &str) -> Decision {
        if ask.verb != "get" || ask.name.is_empty() {
            return no("can only get individual resources of this type");
        }
        let found = self.object("storage.k8s.io", "volumeattachments", &ask.name);
        self.related(node, found.is_some_and(|found| found["spec"]["nodeName"] == node))
    }

    /// An object of a kind that lives in no namespace.
    fn object(&self, group: &str, plural: &str, name: &str) -> Option<Value> {
        let kind = knode_kinds::find(group, "v1", plural)?;
        let found = self.cache.table(kind)?.get(name)?;
        Some(found.value())
    }

    fn related(&self, node: &str, related: bool) -> Decision {
        match related {
            true => Decision::Allowed,
            false => no(format!(
                "no relationship found between node '{node}' and this object"
            )),
        }
    }

    /// The service account of a pod on the node: what credential plugins need of it, and tokens.
    fn account(&self, ask: &Attributes, node: &str, verb: &str, may: &str) -> Decision {
        if ask.verb != verb || ask.name.is_empty() {
            return no(format!("can only {may}"));
        }
        let account = |pod: &Value| pod["spec"]["serviceAccountName"] == *ask.name;
        self.related(node, self.uses(node, &ask.namespace, account))
    }

    fn pod(&self, ask: &Attributes, node: &str) -> Decision {
        match ask.verb.as_str() {
            "get" => {
                let key = format!("{}/{}", ask.namespace, ask.name);
                let pod = self
                    .pods()
                    .and_then(|(kind, table)| Some((kind, table.get(&key)?)));
                self.related(
                    node,
                    pod.is_some_and(|(kind, pod)| pod.field(kind, "spec.nodeName") == node),
                )
            }
            "list" | "watch" if ask.fields.exact("spec.nodeName") == Some(node) => Decision::Allowed,
            "list" | "watch" => no("can only list/watch pods with spec.nodeName field selector"),
            _ => self.by_rules(ask),
        }
    }

    fn node(&self, ask: &Attributes, node: &str) -> Decision {
        let reads = READS.contains(&ask.verb.as_str());
        match reads && ask.name != node {
            true => no(format!(
                "node '{node}' cannot read '{}', only its own Node object",
                ask.name
            )),
            false => self.by_rules(ask),
        }
    }

    fn lease(&self, ask: &Attributes, node: &str) -> Decision {
        if !matches!(
            ask.verb.as_str(),
            "get" | "create" | "update" | "patch" | "delete"
        ) {
            return no("can only get, create, update, patch, or delete a node lease");
        }
        if ask.namespace != "kube-node-lease" {
            return no("can only access leases in the \"kube-node-lease\" system namespace");
        }
        // The name of a new one is known to admission only.
        if ask.verb != "create" && ask.name != node {
            return no("can only access node lease with the same name as the requesting node");
        }
        Decision::Allowed
    }

    fn csi_node(&self, ask: &Attributes, node: &str) -> Decision {
        if !matches!(
            ask.verb.as_str(),
            "get" | "create" | "update" | "patch" | "delete"
        ) {
            return no("can only get, create, update, patch, or delete a CSINode");
        }
        if !ask.subresource.is_empty() {
            return no("cannot authorize CSINode subresources");
        }
        if ask.verb != "create" && ask.name != node {
            return no("can only access CSINode with the same name as the requesting node");
        }
        Decision::Allowed
    }

    fn pods(&self) -> Option<(&'static Kind, &Arc<crate::cache::Table>)> {
        let kind = knode_kinds::find("", "v1", "pods")?;
        Some((kind, self.cache.table(kind)?))
    }

    /// Whether a pod in the namespace that is placed on the node fulfils the condition.
    fn uses(&self, node: &str, namespace: &str, condition: impl Fn(&Value) -> bool) -> bool {
        let Some((kind, table)) = self.pods() else {
            return false;
        };
        let pods: Vec<Arc<Object>> = table.all(namespace);
        let on_node = pods.iter().filter(|pod| pod.field(kind, "spec.nodeName") == node);
        on_node.map(|pod| pod.value()).any(|pod| condition(&pod))
    }
}

/// The claims of a pod's volumes, those that are made for it among them.
fn claims(pod: &Value) -> impl Iterator<Item = String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(move |volume| knode_api::volume::claim_of(name, volume).map(|(claim, _)| claim))
}
