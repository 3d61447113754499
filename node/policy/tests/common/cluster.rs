//! A cluster in a few words: objects as the API has them, and the planner that follows from them.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use knode_policy::convert;
use knode_policy::model::{Key, Name};
use knode_policy::plan::Planner;
use serde_json::{Value, json};

/// The node whose pods are enforced.
pub const NODE: &str = "node1";

/// Objects by namespace and name.
#[derive(Default)]
pub struct Cluster {
    pub namespaces: BTreeMap<String, Value>,
    pub pods: BTreeMap<(String, String), Value>,
    pub policies: BTreeMap<(String, String), Value>,
    pub planner: Planner,
}

fn split(name: &str) -> (String, String) {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    (namespace.to_owned(), name.to_owned())
}

fn key(name: &str) -> Key {
    let (namespace, name) = split(name);
    Key::new(&namespace, &name)
}

/// A pod of a node with labels, addresses and container ports.
pub fn pod(name: &str, node: &str, labels: Value, ips: &[&str], ports: Value) -> Value {
    let (namespace, name) = split(name);
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": node, "containers": [{"ports": ports}]},
        "status": {"phase": "Running", "podIPs": ips}
    })
}

impl Cluster {
    pub fn namespace(&mut self, name: &str, labels: Option<Value>) {
        let own: Option<BTreeMap<String, String>> = labels
            .clone()
            .map(|labels| serde_json::from_value(labels).expect("labels"));
        self.planner
            .set_namespace(&Name::from(name), own.map(|own| convert::labels(Some(&own))));
        match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels),
            None => self.namespaces.remove(name),
        };
    }

    pub fn pod(&mut self, name: &str, object: Option<Value>) {
        let reduced = object
            .clone()
            .and_then(|object| convert::pod(&serde_json::from_value(object).expect("a pod"), NODE));
        self.planner.set_pod(&key(name), reduced);
        match object {
            Some(object) => self.pods.insert(split(name), object),
            None => self.pods.remove(&split(name)),
        };
    }

    pub fn policy(&mut self, name: &str, spec: Option<Value>) {
        let object = spec.clone().map(|spec| policy_object(name, spec));
        let policy = object.map(|object| convert::policy(&object));
        self.planner.set_policy(&key(name), policy);
        match spec {
            Some(spec) => self.policies.insert(split(name), spec),
            None => self.policies.remove(&split(name)),
        };
    }

    /// The same cluster, told of in one go.
    pub fn afresh(&self) -> Planner {
        let mut cluster = Self::default();
        for ((namespace, name), object) in self.pods.iter().rev() {
            cluster.pod(&format!("{namespace}/{name}"), Some(object.clone()));
        }
        for (name, labels) in &self.namespaces {
            cluster.namespace(name, Some(labels.clone()));
        }
        for ((namespace, name), spec) in self.policies.iter().rev() {
            cluster.policy(&format!("{namespace}/{name}"), Some(spec.clone()));
        }
        cluster.planner.take();
        cluster.planner
    }
}

fn policy_object(name: &str, spec: Value) -> NetworkPolicy {
    let (namespace, name) = split(name);
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    serde_json::from_value(object).expect("a policy")
}
