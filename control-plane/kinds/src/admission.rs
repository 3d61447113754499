//! Changes to new objects that upstream's admission plugins make. Pure: what must be looked up (service
//! account, priority class) comes as a parameter.
use knode_api::quantity::Quantity;
use serde_json::{Value, json};

use crate::defaults::pods::account_alias;
use crate::value::{child, elements, list, map, set_default, text};

/// Where containers find the API token.
pub const TOKEN_MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What names of token volumes start with.
pub const TOKEN_VOLUME_PREFIX: &str = "kube-api-access-";
/// Tokens in pods live an hour, and seven seconds by which the kubelet knows the default.
const TOKEN_SECONDS: i64 = 3607;

/// Whether the pod mirrors a static one.
pub fn is_mirror_pod(pod: &Value) -> bool {
    map(pod, "/metadata/annotations").is_some_and(|a| a.contains_key("kubernetes.io/config.mirror"))
}

/// Names the service account `default` where the pod names none (mirror pods stay without). Returns the
/// name whose account is to be looked up, empty for a mirror pod.
pub fn service_account_name(pod: &mut Value) -> String {
    let mirror = is_mirror_pod(pod);
    let spec = child(pod, "spec");
    if !mirror {
        set_default(spec, "serviceAccountName", "default");
    }
    account_alias(spec);
    text(spec, "/serviceAccountName").to_string()
}

/// Mounts the service account's token into every container: a projected volume named by `volume_name`
/// ([`TOKEN_VOLUME_PREFIX`] and a random suffix). Does nothing where the pod, or its service account by
/// `account_automount`, asks for none, or the pod is a mirror pod.
pub fn service_account_volume(pod: &mut Value, volume_name: &str, account_automount: Option<bool>) {
    let own = pod
        .pointer("/spec/automountServiceAccountToken")
        .and_then(Value::as_bool);
    if is_mirror_pod(pod) || !own.or(account_automount).unwrap_or(true) {
        return;
    }
    let volumes = list(pod, "/spec/volumes").iter().map(|v| text(v, "/name"));
    let existing = volumes
        .into_iter()
        .find(|n| n.starts_with(TOKEN_VOLUME_PREFIX))
        .map(String::from);
    let name = existing.as_deref().unwrap_or(volume_name);
    let spec = child(pod, "spec");
    let mut needed = false;
    for containers in ["initContainers", "containers"] {
        for container in elements(spec, containers) {
            needed |= mount_token(container, name);
        }
    }
    if needed && existing.is_none() {
        push(spec, "volumes", token_volume(name));
    }
}

fn mount_token(container: &mut Value, volume: &str) -> bool {
    let mounted = list(container, "/volumeMounts")
        .iter()
        .any(|m| text(m, "/mountPath") == TOKEN_MOUNT_PATH);
    if !mounted {
        let mount = json!({"name": volume, "readOnly": true, "mountPath": TOKEN_MOUNT_PATH});
        push(container, "volumeMounts", mount);
    }
    !mounted
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}
    ]}})
}

/// Gives the pod its service account's pull secrets where it has none of its own.
pub fn image_pull_secrets(pod: &mut Value, account: &Value) {
    let secrets = list(account, "/imagePullSecrets");
    if list(pod, "/spec/imagePullSecrets").is_empty() && !secrets.is_empty() && !is_mirror_pod(pod) {
        child(pod, "spec")["imagePullSecrets"] = secrets.to_vec().into();
    }
}

fn push(object: &mut Value, key: &str, value: Value) {
    match object.get_mut(key).and_then(Value::as_array_mut) {
        Some(list) => list.push(value),
        None => object[key] = json!([value]),
    }
}

/// Adds the tolerations for not-ready and unreachable nodes, 300 s each, unless the pod has its own.
pub fn default_tolerations(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = list(pod, "/spec/tolerations").iter().any(|t| {
            matches!(text(t, "/effect"), "" | "NoExecute")
                && (text(t, "/key") == key || text(t, "/key").is_empty())
        });
        if !tolerated {
            let toleration =
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            push(child(pod, "spec"), "tolerations", toleration);
        }
    }
}

/// Sets priority and preemption policy from the pod's priority class; `class` is the PriorityClass that the
/// pod names, or the cluster's default.
///
/// # Errors
/// Upstream's words where the pod sets another priority than its class.
pub fn priority(pod: &mut Value, class: Option<&Value>) -> Result<(), String> {
    let value = class.map_or(0, |c| crate::value::number(c, "/value"));
    let given = pod.pointer("/spec/priority").and_then(Value::as_i64);
    if let Some(given) = given.filter(|g| *g != value) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name"
        ));
    }
    let policy = class
        .map(|c| text(c, "/preemptionPolicy"))
        .filter(|p| !p.is_empty());
    let policy = policy.unwrap_or("PreemptLowerPriority");
    let spec = child(pod, "spec");
    let own = text(spec, "/preemptionPolicy");
    if !own.is_empty() && own != policy {
        return Err(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        ));
    }
    spec["priority"] = value.into();
    spec["preemptionPolicy"] = policy.into();
    if let Some(name) = class.map(|c| text(c, "/metadata/name")) {
        spec["priorityClassName"] = name.into();
    }
    Ok(())
}

/// Gives a pod what its runtime class says: overhead, and where it may run. `class` is the RuntimeClass that the pod names
/// (upstream: `plugin/pkg/admission/runtimeclass`).
///
/// # Errors
/// Upstream's words where the pod says otherwise.
pub fn runtime_class(pod: &mut Value, class: Option<&Value>) -> Result<(), String> {
    let fixed = class
        .and_then(|class| class.pointer("/overhead/podFixed"))
        .filter(|fixed| fixed.is_object());
    let given = pod
        .pointer("/spec/overhead")
        .filter(|overhead| overhead.is_object());
    match (fixed, given) {
        (None, Some(_)) => {
            return Err(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".into(),
            );
        }
        (Some(fixed), Some(given)) if !same_amounts(fixed, given) => {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
        }
        (Some(fixed), None) => child(pod, "spec")["overhead"] = fixed.clone(),
        _ => {}
    }
    match class.and_then(|class| class.get("scheduling")) {
        Some(scheduling) => schedule(child(pod, "spec"), scheduling),
        None => Ok(()),
    }
}

fn same_amounts(one: &Value, other: &Value) -> bool {
    let amounts = |of: &Value| -> Vec<(String, Option<Quantity>)> {
        let all = of.as_object().into_iter().flatten();
        all.map(|(name, text)| {
            (
                name.clone(),
                Quantity::parse(text.as_str().unwrap_or_default()).ok(),
            )
        })
        .collect()
    };
    amounts(one) == amounts(other)
}

fn schedule(spec: &mut Value, scheduling: &Value) -> Result<(), String> {
    for (key, value) in map(scheduling, "/nodeSelector").into_iter().flatten() {
        let selector = child(spec, "nodeSelector");
        let wanted = value.as_str().unwrap_or_default();
        let own = selector.get(key).and_then(Value::as_str);
        if let Some(own) = own.filter(|own| *own != wanted) {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
        selector[key.as_str()] = value.clone();
    }
    for toleration in list(scheduling, "/tolerations") {
        if !list(spec, "/tolerations").contains(toleration) {
            push(spec, "tolerations", toleration.clone());
        }
    }
    Ok(())
}

/// Taints a new node not ready, so that nothing is placed there before it reports.
pub fn new_node_taint(node: &mut Value) {
    const KEY: &str = "node.kubernetes.io/not-ready";
    let tainted = |t: &Value| text(t, "/key") == KEY && text(t, "/effect") == "NoSchedule";
    if !list(node, "/spec/taints").iter().any(tainted) {
        push(
            child(node, "spec"),
            "taints",
            json!({"key": KEY, "effect": "NoSchedule"}),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_mounted_once() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [
            {"name": "own", "mountPath": TOKEN_MOUNT_PATH}]}]}});
        service_account_volume(&mut pod, "kube-api-access-x", None);
        assert_eq!(pod["spec"]["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(
            pod["spec"]["containers"][0]["volumeMounts"][0]["name"],
            "kube-api-access-x"
        );
        assert_eq!(
            pod["spec"]["containers"][1]["volumeMounts"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        let once = pod.clone();
        service_account_volume(&mut pod, "kube-api-access-y", None);
        assert_eq!(pod, once);
    }

    #[test]
    fn tokens_can_be_declined() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}]}});
        service_account_volume(&mut pod, "v", Some(false));
        assert!(pod["spec"].get("volumes").is_none());
        pod["spec"]["automountServiceAccountToken"] = true.into();
        service_account_volume(&mut pod, "v", Some(false));
        assert_eq!(pod["spec"]["volumes"][0]["name"], "v");
    }

    #[test]
    fn tolerations_keep_what_the_pod_says() {
        let mut pod = json!({"spec": {"tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]}});
        default_tolerations(&mut pod);
        let all = pod["spec"]["tolerations"].as_array().unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1]["key"], "node.kubernetes.io/unreachable");
        let mut tolerant = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        default_tolerations(&mut tolerant);
        assert_eq!(tolerant["spec"]["tolerations"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn priorities() {
        let mut pod = json!({"spec": {}});
        priority(&mut pod, None).unwrap();
        assert_eq!(
            pod["spec"],
            json!({"priority": 0, "preemptionPolicy": "PreemptLowerPriority"})
        );
        let class = json!({"metadata": {"name": "high"}, "value": 10});
        assert!(priority(&mut pod, Some(&class)).is_err());
    }

    #[test]
    fn a_runtime_class_gives_overhead_and_place() {
        let class = json!({"overhead": {"podFixed": {"cpu": "250m", "memory": "1024Mi"}}, "scheduling": {
            "nodeSelector": {"runtime": "vm"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
        let mut pod = json!({"spec": {"nodeSelector": {"disk": "ssd"}}});
        runtime_class(&mut pod, Some(&class)).unwrap();
        let spec = json!({"nodeSelector": {"disk": "ssd", "runtime": "vm"}, "tolerations": [
            {"key": "vm", "operator": "Exists"}], "overhead": {"cpu": "250m", "memory": "1024Mi"}});
        assert_eq!(pod["spec"], spec);
        pod["spec"]["overhead"]["memory"] = "1Gi".into();
        runtime_class(&mut pod, Some(&class)).unwrap();
        assert_eq!(
            pod["spec"]["tolerations"].as_array().unwrap().len(),
            1,
            "given twice"
        );
        for (spec, class, words) in [
            (json!({"overhead": {"cpu": "1"}}), Some(&class), "doesn't match"),
            (json!({"overhead": {"cpu": "1"}}), None, "without corresponding"),
            (
                json!({"nodeSelector": {"runtime": "x"}}),
                Some(&class),
                "conflict: ",
            ),
        ] {
            let error = runtime_class(&mut json!({"spec": spec}), class).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
