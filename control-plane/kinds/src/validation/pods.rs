//! Pods and pod templates.
use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::containers::Scope;
use super::{Errors, containers, diff, name_rule, one_of, resources, tolerations, volumes};
use crate::value::{elements, flag, list, map, text};

/// What a pod update says when it changes more than it may.
const ONLY_MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(crate) fn create(pod: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    spec(&mut errors, pod.get("spec").unwrap_or(&Value::Null), &path);
    if !list(pod, "/spec/ephemeralContainers").is_empty() {
        let words = "cannot be set on create";
        errors.push(FieldError::forbidden(path.child("ephemeralContainers"), words));
    }
    errors
}

/// A pod spec, of a pod or of a template.
pub(crate) fn spec(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let volumes = volumes::all(errors, spec, &path.child("volumes"));
    let scope = Scope {
        volumes,
        host_network: flag(spec, "/hostNetwork"),
        grace_seconds: spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64),
    };
    containers::main(errors, spec, &path.child("containers"), &scope);
    containers::init(errors, spec, &path.child("initContainers"), &scope);
    containers::ephemeral(errors, spec, &path.child("ephemeralContainers"), &scope);
    env_files(errors, spec, path);
    one_of(
        errors,
        spec,
        path,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
        true,
    );
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(errors, spec, path, "dnsPolicy", &policies, true);
    crate::rows::meta::labels(errors, map(spec, "/nodeSelector"), &path.child("nodeSelector"));
    if spec.get("resources").is_some_and(Value::is_object) {
        resources::requirements(errors, spec, &path.child("resources"));
    }
    security(errors, spec, path);
    pull_secrets(errors, spec, path);
    dns(errors, spec, path);
    gates(errors, spec, path);
    named(errors, spec, path);
    tolerations::all(errors, spec, &path.child("tolerations"));
    aliases(errors, spec, path);
}

fn security(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let at = path.child("securityContext");
    for id in ["runAsUser", "runAsGroup", "fsGroup"] {
        let value = spec
            .pointer("/securityContext")
            .and_then(|c| c.get(id))
            .and_then(Value::as_i64);
        if let Some(n) = value.filter(|n| !(0..=i64::from(i32::MAX)).contains(n)) {
            let words = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(at.child(id), n, words));
        }
    }
    if flag(spec, "/shareProcessNamespace") && flag(spec, "/hostPID") {
        let words = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(
            path.child("shareProcessNamespace"),
            true,
            words,
        ));
    }
}

fn pull_secrets(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let at = path.child("imagePullSecrets");
    for (i, secret) in list(spec, "/imagePullSecrets").iter().enumerate() {
        if text(secret, "/name").is_empty() {
            errors.push(FieldError::required(at.index(i).child("name"), ""));
        }
    }
}

fn dns(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let at = path.child("dnsConfig");
    let servers = list(spec, "/dnsConfig/nameservers");
    if text(spec, "/dnsPolicy") == "None" && servers.is_empty() {
        let words = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(at.child("nameservers"), words));
    }
    if servers.len() > 3 {
        errors.push(FieldError::too_many(at.child("nameservers"), servers.len(), 3));
    }
    let list_at = at.child("nameservers");
    for (i, server) in servers.iter().enumerate() {
        ip(errors, server.as_str().unwrap_or_default(), &list_at.index(i));
    }
}

/// An address of either family.
pub(crate) fn ip(errors: &mut Errors, value: &str, at: &Path<'_>) {
    if value.parse::<std::net::IpAddr>().is_err() {
        let words = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.push(FieldError::invalid(at, value, words));
    }
}

fn gates(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let at = path.child("readinessGates");
    for (i, gate) in list(spec, "/readinessGates").iter().enumerate() {
        name_rule(
            errors,
            &at.index(i).child("conditionType"),
            text(gate, "/conditionType"),
            names::qualified_name,
        );
    }
    let at = path.child("schedulingGates");
    let mut seen: Vec<&str> = Vec::new();
    for (i, gate) in list(spec, "/schedulingGates").iter().enumerate() {
        let name = text(gate, "/name");
        name_rule(errors, &at.index(i), name, names::qualified_name);
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(at.index(i), name));
        }
        seen.push(name);
    }
}

/// Files that environments are taken from lie in volumes of type emptyDir.
fn env_files(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let volumes = list(spec, "/volumes");
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        let of_kind = spec.get(kind).and_then(Value::as_array);
        for (i, container) in of_kind.into_iter().flatten().enumerate() {
            for (j, variable) in list(container, "/env").iter().enumerate() {
                let name = text(variable, "/valueFrom/fileKeyRef/volumeName");
                if name.is_empty() {
                    continue;
                }
                let all = path.child(kind);
                let one = all.index(i);
                let env = one.child("env");
                let variable = env.index(j);
                let from = variable.child("valueFrom");
                let file = from.child("fileKeyRef");
                match volumes.iter().find(|volume| text(volume, "/name") == name) {
                    None => errors.push(FieldError::not_found(file.child("volumeName"), name)),
                    Some(volume) if volume.get("emptyDir").is_none() => {
                        let words = "referenced volume must be of type emptyDir";
                        errors.push(FieldError::invalid(file.child("volumeName"), name, words));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

/// Fields whose value is a name.
fn named(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    type Rule = fn(&str) -> Vec<String>;
    let rules: [(&str, Rule); 6] = [
        ("serviceAccountName", names::dns1123_subdomain),
        ("nodeName", names::dns1123_subdomain),
        ("hostname", names::dns1123_label),
        ("subdomain", names::dns1123_label),
        ("priorityClassName", names::dns1123_subdomain),
        ("runtimeClassName", names::dns1123_subdomain),
    ];
    for (field, rule) in rules {
        let value = spec.get(field).and_then(Value::as_str).unwrap_or_default();
        if !value.is_empty() {
            name_rule(errors, &path.child(field), value, rule);
        }
        if field == "nodeName"
            && let Some(n) = spec.get("activeDeadlineSeconds").and_then(Value::as_i64)
            && !(1..=i64::from(i32::MAX)).contains(&n)
        {
            let words = "must be between 1 and 2147483647, inclusive";
            errors.push(FieldError::invalid(path.child("activeDeadlineSeconds"), n, words));
        }
    }
    other_hostname(errors, spec, path);
    one_of(
        errors,
        spec,
        path,
        "preemptionPolicy",
        &["Never", "PreemptLowerPriority"],
        false,
    );
}

/// A host name beside which others do not count.
fn other_hostname(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    const LONGEST: usize = 64;
    let at = path.child("hostnameOverride");
    let name = text(spec, "/hostnameOverride");
    if name.is_empty() {
        return;
    }
    name_rule(errors, &at, name, names::dns1123_subdomain);
    if name.len() > LONGEST {
        errors.push(FieldError::too_long(at, LONGEST));
    }
    for (field, words) in [
        (
            "setHostnameAsFQDN",
            "may not be set when `setHostnameAsFQDN` is true",
        ),
        ("hostNetwork", "may not be set when `hostNetwork` is true"),
    ] {
        if spec.get(field).and_then(Value::as_bool) == Some(true) {
            errors.push(FieldError::forbidden(at, words));
        }
    }
}

fn aliases(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let at = path.child("hostAliases");
    for (i, alias) in list(spec, "/hostAliases").iter().enumerate() {
        ip(errors, text(alias, "/ip"), &at.index(i).child("ip"));
    }
}

pub(crate) fn update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    for (field, words) in [
        ("containers", "pod updates may not add or remove containers"),
        ("initContainers", "pod updates may not add or remove containers"),
    ] {
        let count = |pod: &Value| {
            pod["spec"]
                .get(field)
                .and_then(Value::as_array)
                .map_or(0, Vec::len)
        };
        if count(new) != count(old) {
            errors.push(FieldError::forbidden(path.child(field), words));
            return errors;
        }
        images(&mut errors, new, field, &path);
    }
    deadline(&mut errors, new, old, &path);
    tolerations_only_grow(&mut errors, new, old, &path);
    gates_only_go(&mut errors, new, old, &path);
    if !errors.is_empty() {
        return errors;
    }
    let frozen = with_mutable_fields_of(new, old);
    if frozen != new["spec"] {
        let detail = format!("{ONLY_MUTABLE}\n{}", diff::unified(&old["spec"], &new["spec"]));
        errors.push(FieldError::forbidden(path, detail));
    }
    errors
}

fn images(errors: &mut Errors, pod: &Value, field: &str, path: &Path<'_>) {
    let at = path.child(field);
    let all = pod["spec"].get(field).and_then(Value::as_array);
    for (i, container) in all.into_iter().flatten().enumerate() {
        let image = text(container, "/image");
        if image.is_empty() {
            errors.push(FieldError::required(at.index(i).child("image"), ""));
        } else if image.trim() != image {
            let words = "must not have leading or trailing whitespace";
            errors.push(FieldError::invalid(at.index(i).child("image"), image, words));
        }
    }
}

fn deadline(errors: &mut Errors, new: &Value, old: &Value, path: &Path<'_>) {
    let at = path.child("activeDeadlineSeconds");
    let get = |pod: &Value| pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64);
    match (get(new), get(old)) {
        (Some(n), _) if !(0..=i64::from(i32::MAX)).contains(&n) => {
            errors.push(FieldError::invalid(
                at,
                n,
                "must be between 0 and 2147483647, inclusive",
            ));
        }
        (Some(n), Some(o)) if n > o => {
            errors.push(FieldError::invalid(
                at,
                n,
                "must be less than or equal to previous value",
            ));
        }
        (None, Some(_)) => {
            let words = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(at, Value::Null, words));
        }
        _ => {}
    }
}

fn tolerations_only_grow(errors: &mut Errors, new: &Value, old: &Value, path: &Path<'_>) {
    let kept = list(new, "/spec/tolerations");
    let same_but_seconds = |a: &Value, b: &Value| {
        ["key", "operator", "value", "effect"]
            .iter()
            .all(|f| a.get(f) == b.get(f))
    };
    if list(old, "/spec/tolerations")
        .iter()
        .any(|o| !kept.iter().any(|n| same_but_seconds(n, o)))
    {
        let words = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(path.child("tolerations"), words));
    }
}

fn gates_only_go(errors: &mut Errors, new: &Value, old: &Value, path: &Path<'_>) {
    let before = list(old, "/spec/schedulingGates");
    if let Some(added) = list(new, "/spec/schedulingGates")
        .iter()
        .find(|g| !before.contains(g))
    {
        let words = format!(
            "only deletion is allowed, but found new scheduling gate '{}'",
            text(added, "/name")
        );
        errors.push(FieldError::forbidden(path.child("schedulingGates"), words));
    }
}

/// The old spec with what may change taken from the new one.
fn with_mutable_fields_of(new: &Value, old: &Value) -> Value {
    let mut spec = old["spec"].clone();
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        crate::value::keep(&mut spec, &new["spec"], field);
    }
    if crate::value::number(old, "/spec/terminationGracePeriodSeconds") < 0
        && new["spec"]["terminationGracePeriodSeconds"] == 1
    {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
    for field in ["containers", "initContainers"] {
        let images = new["spec"]
            .get(field)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for (container, from) in elements(&mut spec, field).zip(&images) {
            crate::value::keep(container, from, "image");
        }
    }
    if !list(old, "/spec/schedulingGates").is_empty() {
        for field in ["nodeSelector", "affinity"] {
            crate::value::keep(&mut spec, &new["spec"], field);
        }
    }
    spec
}

pub(crate) fn status_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let (new_node, old_node) = (
        text(new, "/status/nominatedNodeName"),
        text(old, "/status/nominatedNodeName"),
    );
    let path = Path::new("status");
    if !new_node.is_empty() && new_node != old_node {
        name_rule(
            &mut errors,
            &path.child("nominatedNodeName"),
            new_node,
            names::dns1123_subdomain,
        );
    }
    let at = path.child("containerStatuses");
    if matches!(text(new, "/spec/restartPolicy"), "Always" | "OnFailure") {
        running_again(&mut errors, new, old, &at);
    }
    errors
}

/// A container that ended and is restarted may not go back to ended-less states by a mere status write.
fn running_again(errors: &mut Errors, new: &Value, old: &Value, at: &Path<'_>) {
    if text(new, "/spec/restartPolicy") == "Always" {
        return;
    }
    for (i, was) in list(old, "/status/containerStatuses").iter().enumerate() {
        let code = was.pointer("/state/terminated/exitCode").and_then(Value::as_i64);
        let Some(code) = code.filter(|c| *c == 0) else {
            continue;
        };
        let now = list(new, "/status/containerStatuses")
            .iter()
            .find(|n| n["name"] == was["name"]);
        if now.is_some_and(|n| n.pointer("/state/terminated").is_none()) && code == 0 {
            let words = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(at.index(i).child("state"), words));
        }
    }
}

pub(crate) fn ephemeral_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    let at = path.child("ephemeralContainers");
    let names = list(new, "/spec/volumes")
        .iter()
        .map(|v| text(v, "/name"))
        .collect();
    let scope = Scope {
        volumes: names,
        host_network: false,
        grace_seconds: None,
    };
    containers::ephemeral(&mut errors, new.get("spec").unwrap_or(&Value::Null), &at, &scope);
    let kept = list(new, "/spec/ephemeralContainers");
    for was in list(old, "/spec/ephemeralContainers") {
        match kept.iter().find(|n| n["name"] == was["name"]) {
            None => {
                let name = text(was, "/name");
                let words = format!("existing ephemeral containers \"{name}\" may not be removed\n");
                errors.push(FieldError::forbidden(at, words));
            }
            Some(now) if now != was => {
                let name = text(was, "/name");
                let words = format!("existing ephemeral containers \"{name}\" may not be changed\n");
                errors.push(FieldError::forbidden(at, words));
            }
            Some(_) => {}
        }
    }
    errors
}

pub(crate) fn resize_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    if crate::qos::class(new) != text(old, "/status/qosClass") {
        let words = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(
            Path::new("metadata").child("qosClass"),
            crate::qos::class(new),
            words,
        ));
    }
    let mut frozen = old["spec"].clone();
    crate::value::keep(&mut frozen, &new["spec"], "resources");
    super::resources::requirements(&mut errors, &new["spec"], &path.child("resources"));
    for field in ["containers", "initContainers"] {
        let resources = new["spec"]
            .get(field)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for (container, from) in elements(&mut frozen, field).zip(&resources) {
            crate::value::keep(container, from, "resources");
        }
        let at = path.child(field);
        for (i, container) in resources.iter().enumerate() {
            super::resources::requirements(&mut errors, container, &at.index(i).child("resources"));
        }
    }
    if frozen != new["spec"] {
        let words = format!(
            "only cpu and memory resources are mutable\n{}",
            diff::unified(&frozen, &new["spec"])
        );
        errors.push(FieldError::forbidden(path, words));
    }
    errors
}
