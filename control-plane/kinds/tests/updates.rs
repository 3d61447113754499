//! Recorded updates and patches, of objects and of their subresources: the same old object and request must
//! give the same new object.
#![allow(clippy::unwrap_used, reason = "a test may")]

use knode_api::{decode, patch};
use knode_kinds::Kind;
use knode_kinds::ip_families::{self, IpFamily};
use serde_json::Value;

fn kind_of(path: &str) -> &'static Kind {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = if parts[0] == "api" {
        ("", parts[1], &parts[2..])
    } else {
        (parts[1], parts[2], &parts[3..])
    };
    let namespaced = rest[0] == "namespaces" && rest.len() > 2 && rest[2] != "finalize";
    let plural = if namespaced { rest[2] } else { rest[0] };
    knode_kinds::find(group, version, plural).unwrap_or_else(|| panic!("no kind for {path}"))
}

fn requested(kind: &Kind, row: &Value) -> Value {
    let (schema, body, old) = (kind.schema().unwrap(), row["request"].clone(), row["old"].clone());
    let content_type = row["contentType"].as_str().unwrap();
    let new = match (row["method"].as_str().unwrap(), content_type) {
        ("PUT", _) => body,
        (_, "application/json-patch+json") => patch::json_patch(old, body.to_string().as_bytes()).unwrap(),
        (_, "application/merge-patch+json") => {
            let mut new = old;
            patch::merge_patch(&mut new, &body);
            new
        }
        _ => patch::strategic_merge_patch(old, body, schema).unwrap(),
    };
    decode::value(new, schema).unwrap().value
}

/// As the registry does it: identity from the old object, defaults, preparation, time.
fn update(kind: &Kind, row: &Value) -> Value {
    let (mut new, old) = (requested(kind, row), &row["old"]);
    for field in ["uid", "creationTimestamp", "namespace", "name", "generateName"] {
        if let Some(value) = old["metadata"].get(field) {
            new["metadata"][field] = value.clone();
        }
    }
    for field in ["kind", "apiVersion"] {
        new[field] = old[field].clone();
    }
    kind.strategy.default(&mut new);
    match row["subresource"].as_str().unwrap() {
        "" => kind.strategy.prepare_for_update(&mut new, old),
        "status" => kind.strategy.prepare_for_status_update(&mut new, old),
        other => kind.strategy.prepare_for_subresource_update(other, &mut new, old),
    }
    if kind.kind == "Service" {
        ip_families::settle(&mut new, old, &[IpFamily::V4]).unwrap();
    }
    let now = row["response"]
        .pointer("/status/conditions/0/lastUpdateTime")
        .and_then(Value::as_str);
    let now = now.unwrap_or("2026-11-22T15:00:00Z").parse().unwrap();
    kind.strategy.stamp(&mut new, old, now);
    new["metadata"]["resourceVersion"] = row["response"]["metadata"]["resourceVersion"].clone();
    new
}

#[test]
fn updated_objects_are_what_upstream_makes_of_them() {
    let rows = include_str!("data/updates.jsonl")
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    let (mut failures, mut seen) = (Vec::new(), 0);
    for row in rows {
        let kind = kind_of(row["path"].as_str().unwrap());
        let got = update(kind, &row);
        seen += 1;
        if got != row["response"] {
            let differing = differences("", &got, &row["response"]);
            failures.push(format!(
                "{} {} {}\n  {}",
                row["source"],
                row["method"],
                row["path"],
                differing.join("\n  ")
            ));
        }
        let errors = match row["subresource"].as_str().unwrap() {
            "" => kind.strategy.validate_update(&got, &row["old"]),
            _ => kind.strategy.validate_status_update(&got, &row["old"]),
        };
        assert!(errors.is_empty(), "{}: {errors:?}", row["path"]);
    }
    assert!(
        failures.is_empty(),
        "{} of {seen} differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Paths at which two values differ.
fn differences(path: &str, got: &Value, want: &Value) -> Vec<String> {
    match (got, want) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let null = Value::Null;
            keys.into_iter()
                .flat_map(|k| {
                    let (x, y) = (a.get(k).unwrap_or(&null), b.get(k).unwrap_or(&null));
                    differences(&format!("{path}.{k}"), x, y)
                })
                .collect()
        }
        _ if got == want => Vec::new(),
        _ => vec![format!("{path}: got {got}, want {want}")],
    }
}

/// `Ready=False ContainersNotReady`, as the recording shortens a condition.
fn shortened(condition: &Value) -> String {
    let text = |k: &str| condition[k].as_str().unwrap_or_default();
    let reason = if text("reason").is_empty() {
        String::new()
    } else {
        format!(" {}", text("reason"))
    };
    format!("{}={}{reason}", text("type"), text("status"))
}

fn condition(short: &str) -> Value {
    let (kind, rest) = short.split_once('=').unwrap();
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    serde_json::json!({"type": kind, "status": status, "reason": reason})
}

#[test]
fn conditions_merge_in_the_order_that_the_kubelet_gives() {
    let schema = knode_kinds::find("", "v1", "pods").unwrap().schema().unwrap();
    let mut seen = 0;
    for line in include_str!("data/statuses.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let texts = |k: &str| -> Vec<String> {
            row[k]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| c.as_str().unwrap().to_string())
                .collect()
        };
        let old: Vec<Value> = texts("old").iter().map(|c| condition(c)).collect();
        let pod = serde_json::json!({"metadata": {"name": "p"}, "status": {"conditions": old}});
        let patch = serde_json::json!({"status": row["patch"]});
        let merged = patch::strategic_merge_patch(pod, patch, schema).unwrap();
        let new = patch::restore(merged, schema).unwrap().value;
        let got: Vec<String> = new["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(shortened)
            .collect();
        assert_eq!(got, texts("new"), "{}", row["source"]);
        seen += 1;
    }
    assert!(seen > 20, "only {seen} patches");
}
