//! Pods and pod templates.
use serde_json::{Value, json};

use super::{containers, volumes};
use crate::value::{child, elements, flag, set_default};

/// Fills in a pod spec, of a pod or of a template.
pub(crate) fn spec(spec: &mut Value) {
    set_default(spec, "dnsPolicy", "ClusterFirst");
    set_default(spec, "restartPolicy", "Always");
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default(spec, "schedulerName", "default-scheduler");
    set_default(spec, "securityContext", json!({}));
    account_alias(spec);
    let host_network = flag(spec, "/hostNetwork");
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in elements(spec, list) {
            containers::container(container, host_network && list != "ephemeralContainers");
        }
    }
    for volume in elements(spec, "volumes") {
        volumes::volume(volume);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`: both are always the same.
pub(crate) fn account_alias(spec: &mut Value) {
    let current = spec
        .get("serviceAccountName")
        .or_else(|| spec.get("serviceAccount"))
        .cloned();
    if let Some(name) = current {
        spec["serviceAccount"] = name.clone();
        spec["serviceAccountName"] = name;
    }
}

/// Fills in a whole pod.
pub(crate) fn pod(pod: &mut Value) {
    let spec = child(pod, "spec");
    self::spec(spec);
    for list in ["containers", "initContainers"] {
        for container in elements(spec, list) {
            containers::requests_from_limits(child(container, "resources"));
        }
    }
    if let Some(resources) = spec.get_mut("resources").filter(|r| r.is_object()) {
        containers::requests_from_limits(resources);
    }
    set_default(spec, "enableServiceLinks", true);
}
