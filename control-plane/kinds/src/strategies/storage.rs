//! Volumes, claims, their classes and attachments (upstream: `pkg/registry/core/persistentvolume*`,
//! `pkg/registry/storage`).
use knode_api::field::FieldError;
use serde_json::{Value, json};

use super::generation;
use crate::strategy::Strategy;
use crate::validation::storage as validation;
use crate::value::{child, keep, set_default};

/// All but status, and metadata as it is.
fn only_status(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    let kept = old["metadata"].clone();
    let version = new["metadata"]["resourceVersion"].clone();
    new["metadata"] = kept;
    if !version.is_null() {
        new["metadata"]["resourceVersion"] = version;
    }
}

/// Objects that are used are kept until they are not (upstream: the admission plugin
/// `StorageObjectInUseProtection`).
fn protect(object: &mut Value, finalizer: &str) {
    let finalizers = &mut child(object, "metadata")["finalizers"];
    match finalizers.as_array_mut() {
        Some(all) if all.iter().any(|one| one == finalizer) => {}
        Some(all) => all.push(finalizer.into()),
        None => *finalizers = json!([finalizer]),
    }
}

pub(crate) struct Volumes;

impl Strategy for Volumes {
    fn default(&self, volume: &mut Value) {
        let spec = child(volume, "spec");
        set_default(spec, "persistentVolumeReclaimPolicy", "Retain");
        set_default(spec, "volumeMode", "Filesystem");
        if let Some(path) = spec.get_mut("hostPath").filter(|path| path.is_object()) {
            set_default(path, "type", "");
        }
    }

    fn prepare_for_create(&self, volume: &mut Value) {
        volume["status"] = json!({"phase": "Pending"});
        protect(volume, "kubernetes.io/pv-protection");
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        only_status(new, old);
    }

    fn validate(&self, volume: &Value) -> Vec<FieldError> {
        validation::volume(volume)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::volume_update(new, old)
    }

    fn delete_returns_object(&self) -> bool {
        true
    }
}

pub(crate) struct Claims;

impl Strategy for Claims {
    fn default(&self, claim: &mut Value) {
        set_default(child(claim, "spec"), "volumeMode", "Filesystem");
    }

    fn prepare_for_create(&self, claim: &mut Value) {
        claim["status"] = json!({"phase": "Pending"});
        protect(claim, "kubernetes.io/pvc-protection");
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        only_status(new, old);
    }

    fn validate(&self, claim: &Value) -> Vec<FieldError> {
        validation::claim(claim)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::claim_update(new, old)
    }

    fn delete_returns_object(&self) -> bool {
        true
    }
}

pub(crate) struct Classes;

impl Strategy for Classes {
    fn default(&self, class: &mut Value) {
        set_default(class, "reclaimPolicy", "Delete");
        set_default(class, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, class: &Value) -> Vec<FieldError> {
        validation::class(class)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::class_update(new, old)
    }

    fn delete_returns_object(&self) -> bool {
        true
    }
}

pub(crate) struct Attachments;

impl Strategy for Attachments {
    fn default(&self, attachment: &mut Value) {
        set_default(child(attachment, "status"), "attached", false);
    }

    fn prepare_for_create(&self, attachment: &mut Value) {
        attachment["status"] = json!({"attached": false});
        generation::begin(attachment);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        generation::by_spec(new, old);
    }

    /// Attachers set annotations together with the status.
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    fn validate(&self, attachment: &Value) -> Vec<FieldError> {
        validation::attachment(attachment)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::attachment_update(new, old)
    }

    fn delete_returns_object(&self) -> bool {
        true
    }
}
