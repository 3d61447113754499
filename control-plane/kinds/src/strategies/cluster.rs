//! Leases, storage drivers, classes.
use knode_api::field::FieldError;
use serde_json::{Value, json};

use super::generation;
use crate::strategy::Strategy;
use crate::validation;
use crate::value::{child, set_default};

pub(crate) struct Leases;

impl Strategy for Leases {
    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate(&self, lease: &Value) -> Vec<FieldError> {
        validation::cluster::lease(lease)
    }
}

pub(crate) struct CsiNodes;

impl Strategy for CsiNodes {
    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

pub(crate) struct CsiDrivers;

impl Strategy for CsiDrivers {
    fn default(&self, driver: &mut Value) {
        let spec = child(driver, "spec");
        set_default(spec, "attachRequired", true);
        set_default(spec, "podInfoOnMount", false);
        set_default(spec, "storageCapacity", false);
        set_default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        set_default(spec, "requiresRepublish", false);
        set_default(spec, "seLinuxMount", false);
        set_default(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }

    fn prepare_for_create(&self, driver: &mut Value) {
        generation::begin(driver);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        generation::by_spec(new, old);
    }
}

pub(crate) struct PriorityClasses;

impl Strategy for PriorityClasses {
    fn default(&self, class: &mut Value) {
        set_default(class, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn prepare_for_create(&self, class: &mut Value) {
        generation::begin(class);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        generation::carry(new, old, false);
    }
}

pub(crate) struct RuntimeClasses;

impl Strategy for RuntimeClasses {
    fn validate(&self, class: &Value) -> Vec<FieldError> {
        validation::cluster::runtime_class(class)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::cluster::runtime_class_update(new, old)
    }
}

pub(crate) struct ResourceSlices;

impl Strategy for ResourceSlices {
    fn prepare_for_create(&self, slice: &mut Value) {
        generation::begin(slice);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        generation::by_spec(new, old);
    }
}
