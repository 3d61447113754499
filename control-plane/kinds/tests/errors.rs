//! What upstream objects to, recorded: the same requests must earn the same causes, paths and words.
#![allow(clippy::unwrap_used, clippy::result_large_err, reason = "a test may")]

use knode_api::field::FieldError;
use knode_api::status::{GroupResource, Status};
use knode_api::{decode, patch};
use knode_kinds::ip_families::{self, IpFamily};
use knode_kinds::{Kind, admission, rows};
use serde_json::{Value, json};

/// Refused by parts of the API server that are not tried here: allocators, options, negotiation, names in
/// the path.
const ELSEWHERE: [&str; 13] = [
    "not JSON",
    "empty body",
    "wrong kind for the path",
    "unknown apiVersion",
    "namespace of object differs from path",
    "name in body differs from path",
    "apply without fieldManager",
    "invalid dryRun",
    "NodePort taken",
    "NodePort out of range",
    "ClusterIP out of range",
    "ClusterIP taken",
    "duplicate field, Strict",
];

fn recorded() -> impl Iterator<Item = Value> {
    let rows = include_str!("data/errors.jsonl")
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    rows.filter(|r| !ELSEWHERE.contains(&r["note"].as_str().unwrap()))
}

fn kind_of(path: &str) -> Option<&'static Kind> {
    let path = path.split('?').next().unwrap();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = if parts[0] == "api" {
        ("", parts[1], &parts[2..])
    } else {
        (parts[1], parts[2], &parts[3..])
    };
    knode_kinds::find(group, version, rest[2])
}

/// The object that the recorded updates start from.
fn stored(kind: &Kind) -> Value {
    let wanted = if kind.kind == "Pod" { "e1" } else { "s1" };
    if kind.kind == "Service" {
        return json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s1", "namespace": "err"},
            "spec": {"clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"], "type": "NodePort",
                     "sessionAffinity": "None", "externalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
                     "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "selector": {"a": "b"},
                     "ports": [{"port": 80, "nodePort": 30999, "protocol": "TCP", "targetPort": 80}]},
            "status": {"loadBalancer": {}}});
    }
    let lines = include_str!("data/creates.jsonl").lines();
    let objects = lines.map(|l| {
        let row: Value = serde_json::from_str(l).unwrap();
        serde_json::from_str::<Value>(row["response_text"].as_str().unwrap()).unwrap()
    });
    objects
        .into_iter()
        .find(|o| o["metadata"]["name"] == wanted && o["kind"] == kind.kind)
        .unwrap()
}

/// The request to the point where the answer is known, as the registry goes about it.
fn refused(kind: &Kind, row: &Value) -> Status {
    let schema = kind.schema().unwrap();
    let strict = row["path"].as_str().unwrap().contains("fieldValidation=Strict");
    let read = || match decode::json(row["request"].to_string().as_bytes(), schema) {
        Ok(d) if strict && !d.strict.is_empty() => Err(unreadable(kind, &decode::strict_error(&d.strict))),
        Ok(d) => Ok(d.value),
        Err(e) => Err(unreadable(kind, &e.to_string())),
    };
    let outcome = match row["method"].as_str().unwrap() {
        "POST" => read().map(|object| created(kind, object)),
        "PUT" => read().map(|new| updated(kind, new)),
        _ => patched(kind, row).map(|new| updated(kind, new)),
    };
    let errors = match outcome {
        Ok(errors) => errors,
        Err(status) => return status,
    };
    let name = row["request"]["metadata"]["name"]
        .as_str()
        .unwrap_or(row["response"]["details"]["name"].as_str().unwrap_or(""));
    Status::invalid(GroupResource::new(kind.group, kind.kind), name, &errors)
}

fn unreadable(kind: &Kind, why: &str) -> Status {
    let (kind, version) = (kind.kind, kind.version);
    Status::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
    ))
}

fn created(kind: &Kind, mut object: Value) -> Vec<FieldError> {
    object["metadata"]["namespace"] = "err".into();
    kind.strategy.default(&mut object);
    kind.strategy.prepare_for_create(&mut object);
    if kind.kind == "Pod" {
        admission::service_account_name(&mut object);
        admission::default_tolerations(&mut object);
    }
    if kind.kind == "Service"
        && let Err(errors) = ip_families::settle(&mut object, &Value::Null, &[IpFamily::V4])
    {
        return errors;
    }
    let mut errors = rows::meta::validate(kind, &object);
    errors.extend(kind.strategy.validate(&object));
    errors
}

fn updated(kind: &Kind, mut new: Value) -> Vec<FieldError> {
    let old = stored(kind);
    kind.strategy.default(&mut new);
    kind.strategy.prepare_for_update(&mut new, &old);
    if kind.kind == "Service"
        && let Err(errors) = ip_families::settle(&mut new, &old, &[IpFamily::V4])
    {
        return errors;
    }
    kind.strategy.validate_update(&new, &old)
}

fn patched(kind: &Kind, row: &Value) -> Result<Value, Status> {
    let (body, schema) = (&row["request"], kind.schema().unwrap());
    let mut object = stored(kind);
    match row["contentType"].as_str().unwrap() {
        "application/merge-patch+json" => {
            patch::merge_patch(&mut object, body);
            Ok(decode::value(object, schema).unwrap().value)
        }
        "application/json-patch+json" => {
            patch::json_patch(object, body.to_string().as_bytes()).map_err(|e| match e {
                patch::PatchError::Malformed(words) => Status::bad_request(words),
                _ => Status::rejected(),
            })
        }
        _ => {
            let merged = patch::strategic_merge_patch(object, body.clone(), schema).unwrap();
            patch::restore(merged, schema).map(|d| d.value).map_err(|e| {
                let error = FieldError::invalid("patch", knode_api::goname::plain(body), e.to_string());
                Status::invalid(GroupResource::new("", ""), "", &[error])
            })
        }
    }
}

/// The diff of a refused pod update names Go's internal fields upstream and JSON's here; up to it all is one.
fn without_diff(mut status: Value) -> Value {
    let cut = |v: &mut Value| {
        if let Some((head, _)) = v.as_str().and_then(|s| s.split_once("\n@@")) {
            *v = head.into();
        }
    };
    cut(&mut status["message"]);
    let causes = status
        .pointer_mut("/details/causes")
        .and_then(Value::as_array_mut);
    for cause in causes.into_iter().flatten() {
        cut(&mut cause["message"]);
    }
    status
}

#[test]
fn refusals_read_as_upstreams() {
    let mut failures = Vec::new();
    let mut seen = 0;
    for row in recorded() {
        let Some(kind) = kind_of(row["path"].as_str().unwrap()) else {
            continue;
        };
        let (got, want) = (
            without_diff(refused(kind, &row).to_value()),
            without_diff(row["response"].clone()),
        );
        seen += 1;
        if got != want {
            failures.push(format!("{}\n got {got}\nwant {want}", row["note"]));
        }
    }
    assert!(seen >= 15, "only {seen} tried");
    assert!(
        failures.is_empty(),
        "{} of {seen} differ:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}
