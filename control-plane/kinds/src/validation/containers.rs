//! Containers.
use std::collections::BTreeSet;

use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::{Errors, name_rule, one_of, probes, required_text, resources};
use crate::value::{flag, list, map, number, text};

/// A container has no more rules for restarts.
const MAX_RULES: usize = 20;

/// What containers of a pod see of it.
pub(crate) struct Scope<'a> {
    pub volumes: BTreeSet<&'a str>,
    pub host_network: bool,
    pub grace_seconds: Option<i64>,
}

/// Main containers: at least one, names unlike each other.
pub(crate) fn main<'a>(errors: &mut Errors, spec: &'a Value, path: &Path<'_>, scope: &Scope<'a>) {
    let all = list(spec, "/containers");
    if all.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, container) in all.iter().enumerate() {
        let at = path.index(i);
        common(errors, container, &at, scope);
        unique_name(errors, container, &at, &mut seen);
        restarts(errors, container, &at);
        lifecycle(errors, container, &at, scope);
        probes::all(errors, container, &at, scope.grace_seconds);
    }
    host_ports(errors, all, path);
}

/// Init containers, sidecars among them.
pub(crate) fn init<'a>(errors: &mut Errors, spec: &'a Value, path: &Path<'_>, scope: &Scope<'a>) {
    let mut seen: BTreeSet<&str> = list(spec, "/containers")
        .iter()
        .map(|c| text(c, "/name"))
        .collect();
    for (i, container) in list(spec, "/initContainers").iter().enumerate() {
        let at = path.index(i);
        common(errors, container, &at, scope);
        restarts(errors, container, &at);
        unique_name(errors, container, &at, &mut seen);
        if text(container, "/restartPolicy") == "Always" {
            lifecycle(errors, container, &at, scope);
            probes::all(errors, container, &at, scope.grace_seconds);
        } else {
            let forbidden = "may not be set for init containers without restartPolicy=Always";
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.get(field).is_some() {
                    errors.push(FieldError::forbidden(at.child(field), forbidden));
                }
            }
        }
    }
}

/// A container's own policy of restarts, and rules by exit codes.
fn restarts(errors: &mut Errors, container: &Value, at: &Path<'_>) {
    let policies = ["Always", "Never", "OnFailure"];
    one_of(errors, container, at, "restartPolicy", &policies, false);
    let rules = list(container, "/restartPolicyRules");
    if !rules.is_empty() && text(container, "/restartPolicy").is_empty() {
        let words = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(at.child("restartPolicy"), words));
    }
    let path = at.child("restartPolicyRules");
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(path, rules.len(), MAX_RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = path.index(i);
        one_of(
            errors,
            rule,
            &at,
            "action",
            &["Restart", "RestartAllContainers"],
            true,
        );
        let codes = at.child("exitCodes");
        match rule.get("exitCodes") {
            None => errors.push(FieldError::required(codes, "must be specified")),
            Some(found) => one_of(errors, found, &codes, "operator", &["In", "NotIn"], true),
        }
    }
}

/// Ephemeral containers: what an ordinary one may have, but ports, probes and limits.
pub(crate) fn ephemeral<'a>(errors: &mut Errors, spec: &'a Value, path: &Path<'_>, scope: &Scope<'a>) {
    let others = list(spec, "/containers")
        .iter()
        .chain(list(spec, "/initContainers"));
    let mut seen: BTreeSet<&str> = others.clone().map(|c| text(c, "/name")).collect();
    let targets: BTreeSet<&str> = seen.clone();
    for (i, container) in list(spec, "/ephemeralContainers").iter().enumerate() {
        let at = path.index(i);
        common(errors, container, &at, scope);
        unique_name(errors, container, &at, &mut seen);
        let target = text(container, "/targetContainerName");
        if !target.is_empty() && !targets.contains(target) {
            errors.push(FieldError::not_found(at.child("targetContainerName"), target));
        }
        for field in [
            "ports",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ] {
            if container.get(field).is_some() {
                errors.push(FieldError::forbidden(
                    at.child(field),
                    "cannot be set for an Ephemeral Container",
                ));
            }
        }
    }
}

fn unique_name<'a>(errors: &mut Errors, container: &'a Value, at: &Path<'_>, seen: &mut BTreeSet<&'a str>) {
    let name = text(container, "/name");
    if !name.is_empty() && !seen.insert(name) {
        errors.push(FieldError::duplicate(at.child("name"), name));
    }
}

fn common(errors: &mut Errors, container: &Value, at: &Path<'_>, scope: &Scope<'_>) {
    let name = text(container, "/name");
    if name.is_empty() {
        errors.push(FieldError::required(at.child("name"), ""));
    } else {
        name_rule(errors, &at.child("name"), name, names::dns1123_label);
    }
    let image = text(container, "/image");
    if image.is_empty() {
        errors.push(FieldError::required(at.child("image"), ""));
    } else if image.trim() != image {
        let words = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(at.child("image"), image, words));
    }
    one_of(
        errors,
        container,
        at,
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
        true,
    );
    ports(errors, container, at, scope.host_network);
    environment(errors, container, at);
    mounts(errors, container, at, scope);
    one_of(
        errors,
        container,
        at,
        "imagePullPolicy",
        &["Always", "IfNotPresent", "Never"],
        true,
    );
    resources::requirements(errors, container, &at.child("resources"));
    security(errors, container, at);
}

fn ports(errors: &mut Errors, container: &Value, at: &Path<'_>, host_network: bool) {
    let path = at.child("ports");
    let mut seen = BTreeSet::new();
    for (i, port) in list(container, "/ports").iter().enumerate() {
        let at = path.index(i);
        let name = text(port, "/name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            let fine = messages.is_empty();
            errors.extend(
                messages
                    .into_iter()
                    .map(|m| FieldError::invalid(at.child("name"), name, m)),
            );
            if fine && !seen.insert(name) {
                errors.push(FieldError::duplicate(at.child("name"), name));
            }
        }
        let number_path = at.child("containerPort");
        match number(port, "/containerPort") {
            0 => errors.push(FieldError::required(number_path, "")),
            n => port_number(errors, &number_path, n),
        }
        let host = number(port, "/hostPort");
        if host != 0 {
            port_number(errors, &at.child("hostPort"), host);
            if host_network && host != number(port, "/containerPort") {
                let words = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(at.child("hostPort"), host, words));
            }
        }
        one_of(errors, port, &at, "protocol", &["SCTP", "TCP", "UDP"], true);
    }
}

fn port_number(errors: &mut Errors, path: &Path<'_>, n: i64) {
    errors.extend(
        names::port_number(n)
            .into_iter()
            .map(|m| FieldError::invalid(path, n, m)),
    );
}

fn host_ports(errors: &mut Errors, containers: &[Value], path: &Path<'_>) {
    let mut taken = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let (at, pointer) = (path.index(i), "/ports");
        let ports = at.child("ports");
        for (j, port) in list(container, pointer).iter().enumerate() {
            let host = number(port, "/hostPort");
            let key = format!("{}/{}/{host}", text(port, "/protocol"), text(port, "/hostIP"));
            if host != 0 && !taken.insert(key.clone()) {
                errors.push(FieldError::duplicate(ports.index(j).child("hostPort"), key));
            }
        }
    }
}

fn environment(errors: &mut Errors, container: &Value, at: &Path<'_>) {
    let path = at.child("env");
    for (i, variable) in list(container, "/env").iter().enumerate() {
        let at = path.index(i);
        let name = text(variable, "/name");
        if name.is_empty() {
            errors.push(FieldError::required(at.child("name"), ""));
        } else {
            name_rule(errors, &at.child("name"), name, names::env_var_name);
        }
        if let Some(from) = variable.get("valueFrom") {
            env_source(errors, variable, from, &at.child("valueFrom"));
        }
    }
    let path = at.child("envFrom");
    for (i, source) in list(container, "/envFrom").iter().enumerate() {
        let at = path.index(i);
        let kinds: Vec<&str> = ["configMapRef", "secretRef"]
            .into_iter()
            .filter(|k| source.get(*k).is_some())
            .collect();
        match kinds.as_slice() {
            [] => errors.push(FieldError::invalid(
                at,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            [kind] => required_text(errors, &source[*kind], &at.child(kind), "name"),
            _ => errors.push(FieldError::invalid(
                at,
                "",
                "may not have more than one field specified at a time",
            )),
        }
    }
}

/// Fields of a pod that a variable may show.
const POD_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn env_source(errors: &mut Errors, variable: &Value, from: &Value, at: &Path<'_>) {
    if let Some(field) = from.get("fieldRef") {
        let at = at.child("fieldRef");
        required_text(errors, field, &at, "apiVersion");
        field_path(errors, field, &at, &POD_FIELDS);
    }
    if let Some(resource) = from.get("resourceFieldRef") {
        let at = at.child("resourceFieldRef");
        required_text(errors, resource, &at, "resource");
    }
    if let Some(file) = from.get("fileKeyRef") {
        let at = at.child("fileKeyRef");
        for field in ["volumeName", "path", "key"] {
            required_text(errors, file, &at, field);
        }
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = from.get(kind) {
            let at = at.child(kind);
            required_text(errors, reference, &at, "name");
            let key = text(reference, "/key");
            if key.is_empty() {
                errors.push(FieldError::required(at.child("key"), ""));
            } else {
                name_rule(errors, &at.child("key"), key, names::config_map_key);
            }
        }
    }
    let sources = from.as_object().map_or(0, serde_json::Map::len);
    if sources == 0 {
        let words =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        errors.push(FieldError::invalid(at, "", words));
    } else if !text(variable, "/value").is_empty() {
        errors.push(FieldError::invalid(
            at,
            "",
            "may not be specified when `value` is not empty",
        ));
    } else if sources > 1 {
        errors.push(FieldError::invalid(
            at,
            "",
            "may not have more than one field specified at a time",
        ));
    }
}

/// A `fieldPath` must be one of `known`, or a label or annotation by key.
pub(crate) fn field_path(errors: &mut Errors, field: &Value, at: &Path<'_>, known: &[&str]) {
    let path = text(field, "/fieldPath");
    if path.is_empty() {
        errors.push(FieldError::required(at.child("fieldPath"), ""));
        return;
    }
    let by_key = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|p| path.starts_with(p));
    let keyed = by_key && path.ends_with("']");
    if !known.contains(&path) && !keyed {
        errors.push(FieldError::not_supported(at.child("fieldPath"), path, known));
    }
}

fn mounts(errors: &mut Errors, container: &Value, at: &Path<'_>, scope: &Scope<'_>) {
    let path = at.child("volumeMounts");
    let mut points = BTreeSet::new();
    for (i, mount) in list(container, "/volumeMounts").iter().enumerate() {
        let at = path.index(i);
        let (name, point) = (text(mount, "/name"), text(mount, "/mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(at.child("name"), ""));
        }
        if point.is_empty() {
            errors.push(FieldError::required(at.child("mountPath"), ""));
        }
        if !points.insert(point) {
            errors.push(FieldError::invalid(
                at.child("mountPath"),
                point,
                "must be unique",
            ));
        }
        if !scope.volumes.contains(name) {
            errors.push(FieldError::not_found(at.child("name"), name));
        }
        for field in ["subPath", "subPathExpr"] {
            let value = text(
                mount,
                if field == "subPath" {
                    "/subPath"
                } else {
                    "/subPathExpr"
                },
            );
            relative_path(errors, &at.child(field), value);
        }
        let modes = ["Bidirectional", "HostToContainer", "None"];
        one_of(errors, mount, &at, "mountPropagation", &modes, false);
        let privileged = flag(container, "/securityContext/privileged");
        if text(mount, "/mountPropagation") == "Bidirectional" && !privileged {
            let words = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(at.child("mountPropagation"), words));
        }
    }
}

/// A path that stays below its start.
pub(crate) fn relative_path(errors: &mut Errors, path: &Path<'_>, value: &str) {
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    if value.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}

fn lifecycle(errors: &mut Errors, container: &Value, at: &Path<'_>, scope: &Scope<'_>) {
    let path = at.child("lifecycle");
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = container.pointer("/lifecycle").and_then(|l| l.get(hook)) {
            probes::handler(errors, handler, &path.child(hook), true, scope.grace_seconds);
        }
    }
}

fn security(errors: &mut Errors, container: &Value, at: &Path<'_>) {
    let Some(context) = map(container, "/securityContext") else {
        return;
    };
    let path = at.child("securityContext");
    for id in ["runAsUser", "runAsGroup"] {
        if let Some(n) = context
            .get(id)
            .and_then(Value::as_i64)
            .filter(|n| !(0..=i64::from(i32::MAX)).contains(n))
        {
            let words = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(path.child(id), n, words));
        }
    }
    let is = |key: &str, want: bool| context.get(key).and_then(Value::as_bool) == Some(want);
    if is("allowPrivilegeEscalation", false) && is("privileged", true) {
        let words = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.push(FieldError::invalid(path, Value::Object(context.clone()), words));
    }
    one_of(
        errors,
        &container["securityContext"],
        &path,
        "procMount",
        &["Default", "Unmasked"],
        false,
    );
}
