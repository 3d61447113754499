//! Replaces what is another each time: times, ids, addresses, generated names.

use serde_json::{Map, Value};

/// What stands for a value that is another each time.
const ANY: &str = "…";

/// Fields whose texts are another each time.
const VARYING: [&str; 26] = [
    "uid",
    "resourceVersion",
    "continue",
    "creationTimestamp",
    "deletionTimestamp",
    "lastProbeTime",
    "lastTransitionTime",
    "startTime",
    "startedAt",
    "finishedAt",
    "containerID",
    "imageID",
    "hostIP",
    "podIP",
    "ip",
    "clusterIP",
    "pod-template-hash",
    "controller-revision-hash",
    "lastUpdateTime",
    "lastHeartbeatTime",
    "renewTime",
    "acquireTime",
    "ca.crt",
    "kubernetes.io/config.hash",
    "kubernetes.io/config.mirror",
    "kubernetes.io/config.seen",
];

/// The value without what varies. Absent and empty stay distinct from present.
pub fn value(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(field, value)| !(field.as_str() == "lastProbeTime" && value.is_null()))
            .map(|(field, value)| (field.clone(), named(field, value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(self::value).collect(),
        Value::String(text) => Value::String(self::text(text)),
        other => other.clone(),
    }
}

fn named(field: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if !text.is_empty() && VARYING.contains(&field) => ANY.into(),
        Value::Array(list) if field == "cells" => list.iter().map(cell).collect(),
        Value::Array(list) if field == "clusterIPs" => list.iter().map(|_| Value::from(ANY)).collect(),
        Value::String(text) if field == "image" => image(text).into(),
        other => self::value(other),
    }
}

/// A table's cell; ages vary.
fn cell(value: &Value) -> Value {
    let is_age = |text: &str| {
        let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
        digits.len() + 1 == text.len() && digits.chars().all(|c| c.is_ascii_digit())
    };
    match value.as_str().filter(|text| is_age(text)) {
        Some(_) => ANY.into(),
        None => self::value(value),
    }
}

/// The runtime answers one of the names of an image: the recorded one had `busybox:latest` as `busybox:1.36` too.
fn image(name: &str) -> String {
    let known = ["busybox", "nginx"].iter().find_map(|repository| {
        let short = name.strip_prefix("docker.io/library/")?;
        let rest = short.strip_prefix(repository)?;
        rest.starts_with(':')
            .then(|| format!("docker.io/library/{repository}:{ANY}"))
    });
    known.unwrap_or_else(|| name.to_owned())
}

/// A text without addresses and generated suffixes.
pub fn text(text: &str) -> String {
    let text = used(&refused(&suffixes(&addresses(text))));
    // After this comes a difference of Go structs.
    let text = text.split("\n@@ ").next().unwrap_or_default();
    match text.split_once(", current: ") {
        Some((before, _)) => before.to_owned(),
        None => text.to_owned(),
    }
}

/// What the network said of a registry.
fn refused(text: &str) -> String {
    match text.split_once(": failed to do request: ") {
        Some((before, _)) => format!("{before}: failed to do request: {ANY}"),
        None => text.to_owned(),
    }
}

/// How much of a resource other pods had at the time.
fn used(text: &str) -> String {
    let Some((before, after)) = text.split_once(", used: ") else {
        return text.to_owned();
    };
    let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}, used: {ANY}{rest}")
}

/// `kube-api-access-x2b4z` becomes `kube-api-access-…`.
fn suffixes(text: &str) -> String {
    const PREFIX: &str = "kube-api-access-";
    let mut parts = text.split(PREFIX);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        format!("{text}{PREFIX}{ANY}{rest}")
    })
}

/// Addresses out of the pods' network become `<ip>`.
fn addresses(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        out.push_str(&rest[..start]);
        let tail = &rest[start..];
        let end = tail
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        let is_pods = word
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|a| a.octets().starts_with(&[10, 244]) || a.octets().starts_with(&[172, 30]));
        out.push_str(if is_pods { "<ip>" } else { word });
        rest = after;
    }
    out + rest
}

/// The fields of a value, by path; the entries of a list count as one, and so do the keys of maps of texts.
pub fn paths(value: &Value) -> std::collections::BTreeSet<String> {
    let mut out = std::collections::BTreeSet::new();
    collect("", value, &mut out);
    out
}

fn collect(path: &str, value: &Value, out: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (field, value) in map {
                let is_free = path.ends_with("labels") || path.ends_with("annotations");
                let field = if is_free { "*" } else { field };
                collect(&format!("{path}.{field}"), value, out);
            }
        }
        Value::Array(list) => list
            .iter()
            .for_each(|item| collect(&format!("{path}[]"), item, out)),
        _ => _ = out.insert(path.to_owned()),
    }
}

/// Where two values differ, as `path: found instead of wanted`. Cut lists and removed texts of a recording equal
/// everything.
pub fn differences(wanted: &Value, found: &Value) -> Vec<String> {
    let mut out = Vec::new();
    difference("", wanted, found, &mut out);
    out
}

fn difference(path: &str, wanted: &Value, found: &Value, out: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let at = |map: &Map<String, Value>| map.get(key.as_str()).cloned().unwrap_or(Value::Null);
                difference(&format!("{path}.{key}"), &at(a), &at(b), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                difference(&format!("{path}[{index}]"), a, b, out);
            }
        }
        (Value::Array(a), Value::Array(_)) if a.iter().any(is_cut) => {}
        (Value::String(a), _) if a.contains("<…>") => {}
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: {b} instead of {a}")),
    }
}

fn is_cut(item: &Value) -> bool {
    item.as_str().is_some_and(|t| t.ends_with("more>"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_varies_goes_and_the_rest_stays() {
        let found = value(
            &json!({"uid": "1", "imageID": "", "message": "Get \"http://10.244.0.7:80/x\": 404, v1.36.2",
            "volume": "kube-api-access-abc12", "image": "docker.io/library/busybox:1.36"}),
        );
        let wanted = json!({"uid": "…", "imageID": "", "message": "Get \"http://<ip>:80/x\": 404, v1.36.2",
            "volume": "kube-api-access-…", "image": "docker.io/library/busybox:…"});
        assert_eq!(found, wanted);
    }
}
