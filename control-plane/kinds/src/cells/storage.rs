//! Volumes, claims, their classes and attachments.
use jiff::Timestamp;
use serde_json::Value;

use crate::value::{flag, list, text};

fn at(object: &Value, pointer: &str) -> Value {
    text(object, pointer).into()
}

/// `RWO,ROX,RWX,RWOP`, each once, in this order.
fn short_modes(object: &Value, pointer: &str) -> Value {
    let modes = list(object, pointer);
    let all = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let shown = all
        .iter()
        .filter(|(name, _)| modes.iter().any(|mode| mode == name))
        .map(|(_, short)| *short);
    shown.collect::<Vec<_>>().join(",").into()
}

pub(crate) fn volume_capacity(volume: &Value, _now: Timestamp) -> Value {
    at(volume, "/spec/capacity/storage")
}

pub(crate) fn volume_modes(volume: &Value, _now: Timestamp) -> Value {
    short_modes(volume, "/spec/accessModes")
}

pub(crate) fn reclaim(volume: &Value, _now: Timestamp) -> Value {
    at(volume, "/spec/persistentVolumeReclaimPolicy")
}

pub(crate) fn status(object: &Value, _now: Timestamp) -> Value {
    match text(object, "/metadata/deletionTimestamp") {
        "" => at(object, "/status/phase"),
        _ => "Terminating".into(),
    }
}

pub(crate) fn claim(volume: &Value, _now: Timestamp) -> Value {
    match volume.pointer("/spec/claimRef") {
        Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")).into(),
        None => "".into(),
    }
}

/// The annotation of old is older than the field.
pub(crate) fn class(object: &Value, _now: Timestamp) -> Value {
    match text(
        object,
        "/metadata/annotations/volume.beta.kubernetes.io~1storage-class",
    ) {
        "" => at(object, "/spec/storageClassName"),
        old => old.into(),
    }
}

pub(crate) fn attributes_class(object: &Value, _now: Timestamp) -> Value {
    match text(object, "/spec/volumeAttributesClassName") {
        "" => "<unset>".into(),
        name => name.into(),
    }
}

pub(crate) fn reason(volume: &Value, _now: Timestamp) -> Value {
    at(volume, "/status/reason")
}

pub(crate) fn mode(object: &Value, _now: Timestamp) -> Value {
    match text(object, "/spec/volumeMode") {
        "" => "<unset>".into(),
        mode => mode.into(),
    }
}

pub(crate) fn volume(claim: &Value, _now: Timestamp) -> Value {
    at(claim, "/spec/volumeName")
}

pub(crate) fn claim_capacity(claim: &Value, _now: Timestamp) -> Value {
    match text(claim, "/spec/volumeName") {
        "" => "".into(),
        _ => at(claim, "/status/capacity/storage"),
    }
}

pub(crate) fn claim_modes(claim: &Value, _now: Timestamp) -> Value {
    match text(claim, "/spec/volumeName") {
        "" => "".into(),
        _ => short_modes(claim, "/status/accessModes"),
    }
}

pub(crate) fn class_name(class: &Value, _now: Timestamp) -> Value {
    let name = text(class, "/metadata/name");
    let annotation = |key: &str| {
        text(
            class,
            &format!("/metadata/annotations/storageclass.{key}~1is-default-class"),
        )
    };
    match annotation("kubernetes.io") == "true" || annotation("beta.kubernetes.io") == "true" {
        true => format!("{name} (default)").into(),
        false => name.into(),
    }
}

pub(crate) fn provisioner(class: &Value, _now: Timestamp) -> Value {
    at(class, "/provisioner")
}

pub(crate) fn class_reclaim(class: &Value, _now: Timestamp) -> Value {
    at(class, "/reclaimPolicy")
}

pub(crate) fn binding(class: &Value, _now: Timestamp) -> Value {
    at(class, "/volumeBindingMode")
}

pub(crate) fn expansion(class: &Value, _now: Timestamp) -> Value {
    flag(class, "/allowVolumeExpansion").into()
}

pub(crate) fn attacher(attachment: &Value, _now: Timestamp) -> Value {
    at(attachment, "/spec/attacher")
}

pub(crate) fn attached_volume(attachment: &Value, _now: Timestamp) -> Value {
    at(attachment, "/spec/source/persistentVolumeName")
}

pub(crate) fn attached_node(attachment: &Value, _now: Timestamp) -> Value {
    at(attachment, "/spec/nodeName")
}

pub(crate) fn attached(attachment: &Value, _now: Timestamp) -> Value {
    flag(attachment, "/status/attached").into()
}
