//! Claims of pods' own (upstream: `pkg/controller/volume/ephemeral`). Pure.

use k8s_openapi::api::core::v1::Pod;
use knode_client::EventKind;
use serde_json::{Value, json};

use super::plan::{CLAIMS, Plan, Step, World};

/// Makes the claims that pods bring along.
pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::default();
    for pod in &world.pods {
        if pod.metadata.deletion_timestamp.is_none() {
            of_pod(pod, world, &mut plan);
        }
    }
    plan
}

fn of_pod(pod: &Pod, world: &World, plan: &mut Plan) {
    let (name, namespace) = (
        pod.metadata.name.as_deref().unwrap_or_default(),
        pod.metadata.namespace.as_deref().unwrap_or_default(),
    );
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let template = volume
            .ephemeral
            .as_ref()
            .and_then(|own| own.volume_claim_template.as_ref());
        let Some(template) = template else { continue };
        let claim_name = format!("{name}-{}", volume.name);
        match World::find(&world.claims, namespace, &claim_name) {
            None => {
                let template = json!(template);
                let claim = claim(pod, namespace, &claim_name, &template);
                plan.write(Step::Create, CLAIMS, claim);
            }
            Some(claim) if !is_owned(claim, pod) => {
                let message = format!(
                    "PVC {namespace}/{claim_name} was not created for pod {namespace}/{name} (pod is not owner)"
                );
                let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": pod.metadata});
                plan.note(EventKind::Warning, &pod, "FailedBinding", message);
            }
            Some(_) => {}
        }
    }
}

fn is_owned(claim: &Value, pod: &Pod) -> bool {
    let owners = claim["metadata"]["ownerReferences"].as_array();
    let mut owners = owners.into_iter().flatten();
    owners.any(|owner| owner["controller"] == true && owner["uid"].as_str() == pod.metadata.uid.as_deref())
}

fn claim(pod: &Pod, namespace: &str, name: &str, template: &Value) -> Value {
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid,
        "controller": true, "blockOwnerDeletion": true});
    let mut metadata = json!({"name": name, "namespace": namespace, "ownerReferences": [owner]});
    for field in ["labels", "annotations"] {
        if let Some(value) = template["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]})
}
