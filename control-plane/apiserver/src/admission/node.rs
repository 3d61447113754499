//! NodeRestriction (`plugin/pkg/admission/noderestriction`): a node changes itself and its own pods.

use knode_kinds::admission::is_mirror_pod;
use serde_json::Value;

use super::Operation;
use super::node_labels::forbidden_changes;
use crate::core::Core;
use crate::http::Failure;
use crate::registry::Ask;

/// Refuses what a node may not do.
pub(super) fn check(
    core: &Core,
    ask: &Ask,
    node: &str,
    operation: Operation,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Failure> {
    let subresource = ask.subresource.map_or("", |s| s.name);
    match (ask.kind.group, ask.kind.plural, subresource) {
        ("", "pods", "") => check_pod(ask, node, operation, new, old),
        ("", "pods", "status") => check_own_pod(ask, node, old, "can only update pod status for pods"),
        ("", "pods", "eviction") => check_own_pod(ask, node, old, "can only evict pods"),
        ("", "nodes", _) => check_node(ask, node, operation, new, old),
        ("", "serviceaccounts", "token") => check_token(core, ask, node, new),
        ("coordination.k8s.io", "leases", _) => check_lease(ask, node, new),
        ("storage.k8s.io", "csinodes", _) => check_csi_node(ask, node, new),
        _ => Ok(()),
    }
}

fn name_of<'a>(ask: &'a Ask, object: Option<&'a Value>) -> &'a str {
    match ask.info.name.as_str() {
        "" => object
            .and_then(|o| o["metadata"]["name"].as_str())
            .unwrap_or_default(),
        name => name,
    }
}

fn refuse(ask: &Ask, object: Option<&Value>, why: &str) -> Result<(), Failure> {
    Err(ask.forbidden(name_of(ask, object), why))
}

fn is_on(pod: Option<&Value>, node: &str) -> bool {
    pod.is_some_and(|pod| pod["spec"]["nodeName"] == node)
}

fn check_own_pod(ask: &Ask, node: &str, pod: Option<&Value>, what: &str) -> Result<(), Failure> {
    match is_on(pod, node) {
        true => Ok(()),
        false => refuse(
            ask,
            pod,
            &format!("node {node:?} {what} with spec.nodeName set to itself"),
        ),
    }
}

fn check_pod(
    ask: &Ask,
    node: &str,
    operation: Operation,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Failure> {
    match operation {
        Operation::Delete => check_own_pod(ask, node, old, "can only delete pods"),
        Operation::Update => refuse(ask, new, &format!("node {node:?} may not update pods")),
        Operation::Create => {
            let Some(pod) = new else { return Ok(()) };
            check_new_pod(ask, node, pod)
        }
    }
}

fn check_new_pod(ask: &Ask, node: &str, pod: &Value) -> Result<(), Failure> {
    if !is_mirror_pod(pod) {
        let why = format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        );
        return refuse(ask, Some(pod), &why);
    }
    check_own_pod(ask, node, Some(pod), "can only create pods")?;
    for (kind, what) in [
        ("secret", "secrets"),
        ("configMap", "configmaps"),
        ("claim", "persistentvolumeclaims"),
    ] {
        if references(pod, kind).next().is_some() {
            return refuse(
                ask,
                Some(pod),
                &format!("node {node:?} can not create pods that reference {what}"),
            );
        }
    }
    Ok(())
}

fn check_node(
    ask: &Ask,
    node: &str,
    operation: Operation,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Failure> {
    let name = name_of(ask, new);
    if name != node {
        return refuse(
            ask,
            new,
            &format!("node {node:?} is not allowed to modify node {name:?}"),
        );
    }
    let nothing = Value::Null;
    let new_value = new.unwrap_or(&nothing);
    let labels = forbidden_changes(new_value, old.unwrap_or(&nothing));
    match operation {
        Operation::Create if !labels.is_empty() => {
            let labels = labels.join(", ");
            refuse(
                ask,
                new,
                &format!("node {node:?} is not allowed to set the following labels: {labels}"),
            )
        }
        Operation::Update if old.is_some_and(|old| old["spec"]["taints"] != new_value["spec"]["taints"]) => {
            refuse(
                ask,
                new,
                &format!("node {node:?} is not allowed to modify taints"),
            )
        }
        Operation::Update if !labels.is_empty() => refuse(
            ask,
            new,
            &format!("is not allowed to modify labels: {}", labels.join(", ")),
        ),
        _ => Ok(()),
    }
}

/// A node gets tokens for pods that it runs.
fn check_token(core: &Core, ask: &Ask, node: &str, request: Option<&Value>) -> Result<(), Failure> {
    let bound = request
        .map(|r| &r["spec"]["boundObjectRef"])
        .filter(|r| r["kind"] == "Pod" && r["name"].is_string());
    let Some(bound) = bound else {
        return refuse(ask, None, "node requested token not bound to a pod");
    };
    let uid = bound["uid"].as_str().unwrap_or_default();
    if uid.is_empty() {
        return refuse(ask, None, "node requested token with a pod binding without a uid");
    }
    let name = bound["name"].as_str().unwrap_or_default();
    let pod = core
        .cached("", "pods", &format!("{}/{name}", ask.info.namespace))
        .map(|object| object.value());
    let Some(pod) = pod else {
        return refuse(ask, None, &format!("pod {name:?} not found"));
    };
    if pod["metadata"]["uid"] != uid {
        let found = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
             have been deleted and then recreated ({found})"
        );
        return refuse(ask, None, &why);
    }
    if !is_on(Some(&pod), node) {
        return refuse(
            ask,
            None,
            "node requested token bound to a pod scheduled on a different node",
        );
    }
    super::audience::check(core, ask, &pod, request.unwrap_or(&Value::Null))
}

fn check_lease(ask: &Ask, node: &str, lease: Option<&Value>) -> Result<(), Failure> {
    if ask.info.namespace != "kube-node-lease" {
        return refuse(
            ask,
            lease,
            "can only access leases in the \"kube-node-lease\" system namespace",
        );
    }
    match name_of(ask, lease) == node {
        true => Ok(()),
        false => refuse(
            ask,
            lease,
            "can only access node lease with the same name as the requesting node",
        ),
    }
}

fn check_csi_node(ask: &Ask, node: &str, object: Option<&Value>) -> Result<(), Failure> {
    match name_of(ask, object) == node {
        true => Ok(()),
        false => refuse(
            ask,
            object,
            "can only access CSINode with the same name as the requesting node",
        ),
    }
}

/// Names of objects that a pod refers to: `secret`, `configMap` or `claim`.
pub(crate) fn references<'a>(pod: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a str> {
    let spec = &pod["spec"];
    let list = |value: &'a Value| value.as_array().into_iter().flatten();
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    let in_environment = containers
        .into_iter()
        .flat_map(move |field| list(&spec[field]))
        .flat_map(move |container| {
            let from = list(&container["envFrom"]).map(move |from| &from[format!("{kind}Ref")]["name"]);
            let values =
                list(&container["env"]).map(move |env| &env["valueFrom"][format!("{kind}KeyRef")]["name"]);
            from.chain(values)
        });
    let in_volumes = list(&spec["volumes"]).flat_map(move |volume| volume_references(volume, kind));
    let pulls = list(&spec["imagePullSecrets"])
        .filter(move |_| kind == "secret")
        .map(|pull| &pull["name"]);
    in_environment
        .chain(in_volumes)
        .chain(pulls)
        .filter_map(Value::as_str)
}

fn volume_references<'a>(volume: &'a Value, kind: &str) -> Vec<&'a Value> {
    let projected = volume["projected"]["sources"].as_array().into_iter().flatten();
    match kind {
        "secret" => {
            let mut found: Vec<&Value> = projected.map(|source| &source["secret"]["name"]).collect();
            found.push(&volume["secret"]["secretName"]);
            for plugin in [
                "azureFile",
                "cephfs",
                "cinder",
                "flexVolume",
                "iscsi",
                "rbd",
                "scaleIO",
                "storageos",
            ] {
                found.push(&volume[plugin]["secretRef"]["name"]);
            }
            found.push(&volume["csi"]["nodePublishSecretRef"]["name"]);
            found
        }
        "configMap" => {
            let mut found: Vec<&Value> = projected.map(|source| &source["configMap"]["name"]).collect();
            found.push(&volume["configMap"]["name"]);
            found
        }
        "claim" => vec![&volume["persistentVolumeClaim"]["claimName"]],
        _ => Vec::new(),
    }
}
