//! DaemonSets and their revisions.
use knode_api::field::FieldError;
use serde_json::{Value, json};

use super::generation;
use crate::defaults;
use crate::strategy::Strategy;
use crate::validation;
use crate::value::{child, keep, set_default, text};

/// Where upstream shows the count of template changes.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) struct DaemonSets;

impl Strategy for DaemonSets {
    fn default(&self, set: &mut Value) {
        let spec = child(set, "spec");
        let strategy = child(spec, "updateStrategy");
        set_default(strategy, "type", "RollingUpdate");
        if text(strategy, "/type") == "RollingUpdate" {
            let rolling = child(strategy, "rollingUpdate");
            set_default(rolling, "maxUnavailable", 1);
            set_default(rolling, "maxSurge", 0);
        }
        set_default(spec, "revisionHistoryLimit", 10);
        let template = child(spec, "template");
        child(template, "metadata");
        defaults::pods::spec(child(template, "spec"));
    }

    fn prepare_for_create(&self, set: &mut Value) {
        set["status"] = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0,
                               "desiredNumberScheduled": 0, "numberReady": 0});
        generation::begin(set);
        set_template_generation(set, 1);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        let changed = new["spec"]["template"] != old["spec"]["template"];
        let count = map_number(old).max(1);
        set_template_generation(new, count + i64::from(changed));
        generation::by_spec(new, old);
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        set_template_generation(new, map_number(old).max(1));
        generation::carry(new, old, false);
    }

    fn validate(&self, set: &Value) -> Vec<FieldError> {
        validation::daemon_sets::create(set)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::daemon_sets::update(new, old)
    }
}

fn map_number(set: &Value) -> i64 {
    let annotations = crate::value::map(set, "/metadata/annotations");
    let text = annotations
        .and_then(|a| a.get(TEMPLATE_GENERATION))
        .and_then(Value::as_str);
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

fn set_template_generation(set: &mut Value, count: i64) {
    let annotations = child(child(set, "metadata"), "annotations");
    annotations[TEMPLATE_GENERATION] = count.to_string().into();
}

pub(crate) struct ControllerRevisions;

impl Strategy for ControllerRevisions {
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::daemon_sets::revision_update(new, old)
    }
}
