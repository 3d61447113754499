//! What is used is not deleted (upstream: `pkg/controller/volume/pvcprotection`, `pvprotection`). Pure.

use std::collections::BTreeSet;

use knode_client::{AnyKind, AnyObjects};
use serde_json::{Value, json};

use super::plan::{CLAIMS, Plan, Step, VOLUMES, World, claims_of, is_going, text};

/// Claims that pods on nodes use.
pub(super) fn claims(world: &World) -> Plan {
    let placed = world.pods.iter().filter(|pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        node.is_some_and(|node| !node.is_empty())
    });
    let used: BTreeSet<(&str, String)> = placed
        .flat_map(|pod| {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            claims_of(pod).into_iter().map(move |(name, _)| (namespace, name))
        })
        .collect();
    let is_used = |claim: &Value| {
        let name = text(claim, "/metadata/name").to_owned();
        used.contains(&(text(claim, "/metadata/namespace"), name))
    };
    guard(&world.claims, CLAIMS, "kubernetes.io/pvc-protection", is_used)
}

/// Volumes that are bound.
pub(super) fn volumes(world: &World) -> Plan {
    let is_bound = |volume: &Value| volume["status"]["phase"] == "Bound";
    guard(&world.volumes, VOLUMES, "kubernetes.io/pv-protection", is_bound)
}

fn guard(objects: &AnyObjects, kind: AnyKind, finalizer: &str, is_used: impl Fn(&Value) -> bool) -> Plan {
    let mut plan = Plan::default();
    for object in objects.values() {
        let mut finalizers = object["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let guarded = finalizers.iter().any(|one| one == finalizer);
        match is_going(object) {
            true if guarded && !is_used(object) => finalizers.retain(|one| one != finalizer),
            false if !guarded => finalizers.push(finalizer.into()),
            _ => continue,
        }
        let mut object = object.as_ref().clone();
        object["metadata"]["finalizers"] = json!(finalizers);
        plan.write(Step::Update, kind, object);
    }
    plan
}
