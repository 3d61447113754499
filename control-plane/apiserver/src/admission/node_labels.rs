//! Labels that a node may set on itself (`k8s.io/kubelet/pkg/apis/well_known_labels.go`).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

const OWN: [&str; 15] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "kubelet.kubernetes.io",
    "node.kubernetes.io",
    "topology.k8s.aws/zone-id",
];
const OWN_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Labels that differ and that a node may not touch, sorted.
pub(super) fn forbidden_changes(new: &Value, old: &Value) -> Vec<String> {
    let empty = Map::new();
    let new = new["metadata"]["labels"].as_object().unwrap_or(&empty);
    let old = old["metadata"]["labels"].as_object().unwrap_or(&empty);
    let names: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = names.into_iter().filter(|name| new.get(*name) != old.get(*name));
    changed.filter(|name| is_forbidden(name)).cloned().collect()
}

fn is_forbidden(label: &str) -> bool {
    let namespace = label.split_once('/').map_or("", |(namespace, _)| namespace);
    let within = |domain: &str| namespace == domain || namespace.ends_with(&format!(".{domain}"));
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    let ours = OWN.contains(&label) || OWN_NAMESPACES.iter().any(|own| within(own));
    (within("kubernetes.io") || within("k8s.io")) && !ours
}

#[cfg(test)]
mod tests {
    use super::forbidden_changes;
    use serde_json::json;

    #[test]
    fn only_changes_of_reserved_labels_are_forbidden() {
        let old = json!({"metadata": {"labels": {"node-role.kubernetes.io/x": "", "a": "b"}}});
        let same =
            json!({"metadata": {"labels": {"node-role.kubernetes.io/x": "", "kubernetes.io/os": "linux"}}});
        assert!(forbidden_changes(&same, &old).is_empty());
        let more = json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y", "k8s.io/z": ""}}});
        let wanted = [
            "k8s.io/z",
            "node-restriction.kubernetes.io/x",
            "node-role.kubernetes.io/x",
        ];
        assert_eq!(forbidden_changes(&more, &old), wanted);
    }
}
