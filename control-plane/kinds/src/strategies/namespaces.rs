//! Namespaces.
use knode_api::names;
use serde_json::{Value, json};

use crate::rows::meta::stem;
use crate::strategy::Strategy;
use crate::value::{child, keep, list};

/// The finalizer that stands until the namespace's content is gone.
const FINALIZER: &str = "kubernetes";
/// The label that repeats the name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(crate) struct Namespaces;

impl Strategy for Namespaces {
    fn default(&self, namespace: &mut Value) {
        if let Some(name) = namespace
            .pointer("/metadata/name")
            .filter(|n| n.is_string())
            .cloned()
        {
            let labels = child(child(namespace, "metadata"), "labels");
            labels[NAME_LABEL] = name;
        }
        let status = child(namespace, "status");
        crate::value::set_default(status, "phase", "Active");
    }

    fn prepare_for_create(&self, namespace: &mut Value) {
        namespace["status"] = json!({"phase": "Active"});
        let mut finalizers = list(namespace, "/spec/finalizers").to_vec();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        child(namespace, "spec")["finalizers"] = finalizers.into();
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        keep(child(new, "spec"), &old["spec"], "finalizers");
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn prepare_for_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        match subresource {
            "finalize" => keep(new, old, "status"),
            _ => self.prepare_for_status_update(new, old),
        }
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns1123_label(stem(name, prefix))
    }

    fn delete_returns_object(&self) -> bool {
        true
    }
}
