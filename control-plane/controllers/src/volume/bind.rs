//! Claims and volumes find each other (upstream: `pkg/controller/volume/persistentvolume`). Pure: one step of each
//! pair at a time.

use knode_api::volume::{
    BOUND_BY_CONTROLLER, NO_PROVISIONER, SELECTED_NODE, annotation, best, class, is_for, mismatch,
    waits_for_consumer,
};
use knode_client::EventKind::{Normal, Warning};
use serde_json::{Value, json};

use super::plan::{CLAIMS, Plan, Step, VOLUMES, World, annotate, is_going, text};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const PROVISIONERS: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// One step for every claim and volume that needs one.
pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::default();
    let mut taken: Vec<String> = Vec::new();
    // The older first: both may want the same volume.
    let mut claims: Vec<&Value> = world.claims.values().map(AsRef::as_ref).collect();
    claims.sort_by_key(|claim| text(claim, "/metadata/creationTimestamp"));
    for claim in claims {
        if annotation(claim, BIND_COMPLETED).is_empty() {
            unbound_claim(world, claim, &mut taken, &mut plan);
        } else {
            bound_claim(world, claim, &mut plan);
        }
    }
    for volume in world.volumes.values() {
        self::volume(world, volume, &taken, &mut plan);
    }
    plan
}

fn phase(object: &Value) -> &str {
    text(object, "/status/phase")
}

fn set_phase(plan: &mut Plan, kind: knode_client::AnyKind, object: &Value, phase: &str, message: &str) {
    if self::phase(object) == phase && text(object, "/status/message") == message {
        return;
    }
    let mut object = object.clone();
    object["status"]["phase"] = phase.into();
    if let Some(status) = object["status"].as_object_mut() {
        status.remove("reason");
        match message {
            "" => drop(status.remove("message")),
            message => drop(status.insert("message".to_owned(), message.into())),
        }
    }
    plan.write(Step::Status, kind, object);
}

fn pending(plan: &mut Plan, claim: &Value) {
    set_phase(plan, CLAIMS, claim, "Pending", "");
}

fn unbound_claim(world: &World, claim: &Value, taken: &mut Vec<String>, plan: &mut Plan) {
    if is_going(claim) {
        return;
    }
    let wanted = text(claim, "/spec/volumeName");
    if !wanted.is_empty() {
        return named_volume(world, claim, wanted, plan);
    }
    let class_name = match class(claim) {
        Some(name) => name,
        None if give_default(world, claim, plan) => return,
        None => "",
    };
    let class = World::find(&world.classes, "", class_name);
    let waits = class.is_some_and(waits_for_consumer) && annotation(claim, SELECTED_NODE).is_empty();
    let volumes = world.volumes.values().map(AsRef::as_ref);
    let free = volumes.filter(|volume| !taken.iter().any(|name| volume["metadata"]["name"] == **name));
    if let Some(volume) = best(claim, free, None, waits) {
        taken.push(text(volume, "/metadata/name").to_owned());
        return bind(claim, volume, plan);
    }
    pending(plan, claim);
    if waits {
        let message = match pod_of(world, claim) {
            Some(pod) => format!("waiting for pod {pod} to be scheduled"),
            None => "waiting for first consumer to be created before binding".to_owned(),
        };
        let reason = if message.contains("pod ") {
            "WaitForPodScheduled"
        } else {
            "WaitForFirstConsumer"
        };
        return plan.note(Normal, claim, reason, message);
    }
    match class {
        Some(class) => provision(claim, class, plan),
        None if class_name.is_empty() => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            plan.note(Normal, claim, "FailedBinding", message);
        }
        None => {
            let message = format!("storageclass.storage.k8s.io {class_name:?} not found");
            plan.note(Warning, claim, "ProvisioningFailed", message);
        }
    }
}

/// A pod that waits for the claim.
fn pod_of(world: &World, claim: &Value) -> Option<String> {
    let (namespace, name) = (text(claim, "/metadata/namespace"), text(claim, "/metadata/name"));
    let pod = world.pods.iter().find(|pod| {
        pod.metadata.namespace.as_deref() == Some(namespace)
            && super::plan::claims_of(pod).iter().any(|(claim, _)| claim == name)
    });
    pod.and_then(|pod| pod.metadata.name.clone())
}

/// Gives a claim that says nothing of its class the default one, if there is any.
fn give_default(world: &World, claim: &Value, plan: &mut Plan) -> bool {
    let mut defaults: Vec<&Value> = world
        .classes
        .values()
        .map(AsRef::as_ref)
        .filter(|class| annotation(class, DEFAULT_CLASS) == "true")
        .collect();
    // The newest counts, of those the first by name.
    defaults.sort_by_key(|class| text(class, "/metadata/name"));
    let newest = defaults
        .iter()
        .map(|class| text(class, "/metadata/creationTimestamp"))
        .max();
    let chosen = defaults
        .iter()
        .find(|class| Some(text(class, "/metadata/creationTimestamp")) == newest);
    let Some(chosen) = chosen else { return false };
    let mut claim = claim.clone();
    claim["spec"]["storageClassName"] = chosen["metadata"]["name"].clone();
    plan.write(Step::Update, CLAIMS, claim);
    true
}

/// Asks the provisioner of the class for a volume; it sees its name on the claim.
fn provision(claim: &Value, class: &Value, plan: &mut Plan) {
    let provisioner = text(class, "/provisioner");
    if provisioner == NO_PROVISIONER {
        let message = format!("no volume plugin matched name: {NO_PROVISIONER}");
        return plan.note(Warning, claim, "ProvisioningFailed", message);
    }
    if PROVISIONERS
        .iter()
        .any(|key| annotation(claim, key) != provisioner)
    {
        let mut claim = claim.clone();
        for key in PROVISIONERS {
            annotate(&mut claim, key, provisioner);
        }
        return plan.write(Step::Update, CLAIMS, claim);
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
         system administrator. If volume creation is delayed, please verify that the provisioner is running and \
         correctly registered."
    );
    plan.note(Normal, claim, "ExternalProvisioning", message);
}

/// The claim asks for this very volume.
fn named_volume(world: &World, claim: &Value, name: &str, plan: &mut Plan) {
    let Some(volume) = World::find(&world.volumes, "", name) else {
        return pending(plan, claim);
    };
    let free = !volume["spec"]["claimRef"].is_object();
    if free && let Some(why) = mismatch(volume, claim) {
        let message = format!("Cannot bind to requested volume {name:?}: {why}");
        plan.note(Warning, claim, "VolumeMismatch", message);
        return pending(plan, claim);
    }
    if free || is_for(volume, claim) {
        return bind(claim, volume, plan);
    }
    plan.note(
        Warning,
        claim,
        "FailedBinding",
        format!("volume {name:?} already bound to a different claim."),
    );
    pending(plan, claim);
}

fn bound_claim(world: &World, claim: &Value, plan: &mut Plan) {
    let name = text(claim, "/spec/volumeName");
    let volume = World::find(&world.volumes, "", name);
    let lost = match volume {
        _ if name.is_empty() => {
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
        }
        None => "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        Some(volume) if !volume["spec"]["claimRef"].is_object() || is_for(volume, claim) => {
            return bind(claim, volume, plan);
        }
        Some(_) => {
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            set_phase(plan, CLAIMS, claim, "Lost", "");
            return plan.note(Warning, claim, "ClaimMisbound", message);
        }
    };
    set_phase(plan, CLAIMS, claim, "Lost", "");
    plan.note(Warning, claim, "ClaimLost", lost);
}

/// The next of the steps that bind both: the volume names the claim, is bound, the claim names the volume, is bound.
fn bind(claim: &Value, volume: &Value, plan: &mut Plan) {
    let uid = &claim["metadata"]["uid"];
    let kept = &volume["spec"]["claimRef"];
    if kept["uid"] != *uid {
        let mut volume = volume.clone();
        if !kept.is_object() {
            annotate(&mut volume, BOUND_BY_CONTROLLER, "yes");
        }
        volume["spec"]["claimRef"] = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": claim["metadata"]["namespace"], "name": claim["metadata"]["name"], "uid": uid,
            "resourceVersion": claim["metadata"]["resourceVersion"]});
        return plan.write(Step::Update, VOLUMES, volume);
    }
    if phase(volume) != "Bound" {
        return set_phase(plan, VOLUMES, volume, "Bound", "");
    }
    let name = &volume["metadata"]["name"];
    if claim["spec"]["volumeName"] != *name || annotation(claim, BIND_COMPLETED).is_empty() {
        let mut claim = claim.clone();
        if claim["spec"]["volumeName"] != *name {
            claim["spec"]["volumeName"] = name.clone();
            annotate(&mut claim, BOUND_BY_CONTROLLER, "yes");
        }
        annotate(&mut claim, BIND_COMPLETED, "yes");
        return plan.write(Step::Update, CLAIMS, claim);
    }
    if phase(claim) != "Bound" {
        let mut claim = claim.clone();
        claim["status"]["phase"] = "Bound".into();
        claim["status"]["accessModes"] = volume["spec"]["accessModes"].clone();
        claim["status"]["capacity"] = volume["spec"]["capacity"].clone();
        plan.write(Step::Status, CLAIMS, claim);
    }
}

/// What becomes of a volume that no claim has just been given.
fn volume(world: &World, volume: &Value, taken: &[String], plan: &mut Plan) {
    let name = text(volume, "/metadata/name");
    if taken.iter().any(|one| one == name) {
        return;
    }
    let kept = &volume["spec"]["claimRef"];
    if !kept.is_object() || text(kept, "/uid").is_empty() {
        // One that is kept for a claim to come is available to that one.
        let wanted = world
            .claims
            .values()
            .any(|claim| claim["spec"]["volumeName"] == name);
        if !wanted || !kept.is_object() || phase(volume).is_empty() || phase(volume) == "Pending" {
            set_phase(plan, VOLUMES, volume, "Available", "");
        }
        return;
    }
    let claim = World::find(&world.claims, text(kept, "/namespace"), text(kept, "/name"));
    let Some(claim) = claim.filter(|claim| is_for(volume, claim)) else {
        return released(volume, plan);
    };
    let has = text(claim, "/spec/volumeName");
    if !has.is_empty() && has != name {
        unbind(volume, plan);
    }
}

/// The claim has another volume.
fn unbind(volume: &Value, plan: &mut Plan) {
    let mut volume = volume.clone();
    if annotation(&volume, BOUND_BY_CONTROLLER).is_empty() {
        let kept = volume["spec"]["claimRef"].as_object_mut();
        kept.map(|kept| kept.remove("uid"));
    } else {
        let spec = volume["spec"].as_object_mut();
        spec.map(|spec| spec.remove("claimRef"));
        let annotations = volume["metadata"]["annotations"].as_object_mut();
        annotations.map(|annotations| annotations.remove(BOUND_BY_CONTROLLER));
    }
    plan.write(Step::Update, VOLUMES, volume);
}

/// The claim is gone: whoever made the volume deletes it, if that is wanted.
fn released(volume: &Value, plan: &mut Plan) {
    let external = !annotation(volume, PROVISIONED_BY).is_empty() || volume["spec"]["csi"].is_object();
    let (reason, words) = match text(volume, "/spec/persistentVolumeReclaimPolicy") {
        "Delete" if !external => ("VolumeFailedDelete", "no deletable volume plugin matched"),
        "Recycle" => ("VolumeFailedRecycle", "no recyclable volume plugin matched"),
        _ => return set_phase(plan, VOLUMES, volume, "Released", ""),
    };
    if phase(volume) != "Released" && phase(volume) != "Failed" {
        return set_phase(plan, VOLUMES, volume, "Released", "");
    }
    let what = if reason == "VolumeFailedDelete" {
        "deleter"
    } else {
        "recycler"
    };
    let name = text(volume, "/metadata/name");
    let message = format!("error getting {what} volume plugin for volume {name:?}: {words}");
    set_phase(plan, VOLUMES, volume, "Failed", &message);
    plan.note(Warning, volume, reason, message);
}
