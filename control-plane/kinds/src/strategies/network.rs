//! Endpoints and EndpointSlices.
use knode_api::field::FieldError;
use serde_json::Value;

use super::generation;
use crate::strategy::Strategy;
use crate::validation;
use crate::value::{elements, set_default};

pub(crate) struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, endpoints: &mut Value) {
        for subset in elements(endpoints, "subsets") {
            for port in elements(subset, "ports") {
                set_default(port, "protocol", "TCP");
            }
        }
    }
}

pub(crate) struct EndpointSlices;

impl Strategy for EndpointSlices {
    fn default(&self, slice: &mut Value) {
        for port in elements(slice, "ports") {
            set_default(port, "name", "");
            set_default(port, "protocol", "TCP");
        }
    }

    fn prepare_for_create(&self, slice: &mut Value) {
        generation::begin(slice);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        let parts = ["endpoints", "ports", "addressType"];
        let labels = |o: &Value| o.pointer("/metadata/labels").cloned();
        let changed = parts.iter().any(|p| new.get(p) != old.get(p)) || labels(new) != labels(old);
        generation::carry(new, old, changed);
    }

    fn validate(&self, slice: &Value) -> Vec<FieldError> {
        validation::network::slice(slice)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::network::slice_update(new, old)
    }

    fn delete_returns_object(&self) -> bool {
        false
    }
}
