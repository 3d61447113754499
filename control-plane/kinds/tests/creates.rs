//! What upstream made of new objects, recorded: decoding, defaults, preparation and admission must give the
//! same, to the order of the fields.
#![allow(clippy::unwrap_used, reason = "a test may")]

use knode_api::{decode, encode};
use knode_kinds::ip_families::{self, IpFamily};
use knode_kinds::{Kind, admission};
use serde_json::{Value, json};

struct Recorded {
    source: String,
    path: String,
    request: Value,
    response_text: String,
}

fn recorded() -> Vec<Recorded> {
    let lines = include_str!("data/creates.jsonl").lines();
    lines
        .map(|l| {
            let v: Value = serde_json::from_str(l).unwrap();
            let text = |k: &str| v[k].as_str().unwrap().to_string();
            Recorded {
                source: text("source"),
                path: text("path"),
                request: v["request"].clone(),
                response_text: text("response_text"),
            }
        })
        .collect()
}

fn kind_of(path: &str) -> &'static Kind {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = if parts[0] == "api" {
        ("", parts[1], &parts[2..])
    } else {
        (parts[1], parts[2], &parts[3..])
    };
    let plural = if rest[0] == "namespaces" && rest.len() > 2 {
        rest[2]
    } else {
        rest[0]
    };
    knode_kinds::find(group, version, plural).unwrap_or_else(|| panic!("no kind for {path}"))
}

fn namespace_of(path: &str) -> Option<&str> {
    let mut parts = path.split('/').skip_while(|p| *p != "namespaces").skip(1);
    let namespace = parts.next()?;
    parts.next().map(|_| namespace)
}

/// As the registry does it, with what it would look up or draw taken from the response.
fn create(kind: &Kind, recorded: &Recorded, response: &Value) -> Value {
    let decoded = decode::value(recorded.request.clone(), kind.schema().unwrap()).unwrap();
    let mut object = decoded.value;
    object["kind"] = kind.kind.into();
    object["apiVersion"] = kind.api_version().into();
    if let Some(namespace) = namespace_of(&recorded.path) {
        object["metadata"]["namespace"] = namespace.into();
    }
    object["metadata"]["name"] = response["metadata"]["name"].clone();
    kind.strategy.default(&mut object);
    kind.strategy.prepare_for_create(&mut object);
    match kind.kind {
        "Pod" => admit_pod(&mut object, response),
        "Node" => admission::new_node_taint(&mut object),
        "Service" => {
            ip_families::settle(&mut object, &Value::Null, &[IpFamily::V4]).unwrap();
            for field in ["clusterIP", "clusterIPs"] {
                object["spec"][field] = response["spec"][field].clone();
            }
        }
        "CertificateSigningRequest" => {
            for field in ["username", "uid", "groups", "extra"] {
                if let Some(value) = response["spec"].get(field) {
                    object["spec"][field] = value.clone();
                }
            }
        }
        _ => {}
    }
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = response["metadata"].get(field) {
            object["metadata"][field] = value.clone();
        }
    }
    let now = response["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    kind.strategy.stamp(&mut object, &Value::Null, now);
    object
}

fn admit_pod(pod: &mut Value, response: &Value) {
    admission::service_account_name(pod);
    let volumes = response["spec"]["volumes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut names = volumes.iter().filter_map(|v| v["name"].as_str());
    let name = names
        .rfind(|n| n.starts_with(admission::TOKEN_VOLUME_PREFIX))
        .unwrap_or("none");
    admission::service_account_volume(pod, name, None);
    admission::default_tolerations(pod);
    admission::priority(pod, None).unwrap();
}

#[test]
fn new_objects_are_what_upstream_makes_of_them() {
    let mut failures = Vec::new();
    for r in recorded() {
        let response: Value = serde_json::from_str(&r.response_text).unwrap();
        if response["spec"]["priorityClassName"].is_string() {
            continue;
        }
        let kind = kind_of(&r.path);
        let got = create(kind, &r, &response);
        if got != response {
            failures.push(format!("{} {}\n got {got}\nwant {response}", r.source, r.path));
        }
        let errors = kind.strategy.validate(&got);
        assert!(errors.is_empty(), "{} {}: {errors:?}", r.source, r.path);
        let errors = knode_kinds::rows::meta::validate(kind, &got);
        assert!(errors.is_empty(), "{} {}: {errors:?}", r.source, r.path);
    }
    assert!(
        failures.is_empty(),
        "{} differ:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

#[test]
fn upstreams_objects_are_canonical_and_print_in_its_order() {
    for r in recorded() {
        let response: Value = serde_json::from_str(&r.response_text).unwrap();
        let kind = kind_of(&r.path);
        let decoded = decode::value(response.clone(), kind.schema().unwrap()).unwrap();
        assert_eq!(decoded.strict, Vec::<String>::new(), "{}", r.source);
        assert_eq!(decoded.value, response, "{} {}", r.source, r.path);
        let printed = String::from_utf8(encode::object(&decoded.value)).unwrap();
        assert_eq!(printed, r.response_text, "{} {}", r.source, r.path);
    }
}

#[test]
fn events_have_two_forms_and_one_store() {
    let new = knode_kinds::find("events.k8s.io", "v1", "events").unwrap();
    let event =
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"kind": "Pod"}, "note": "n"});
    let stored = new.strategy.stored_form(event.clone());
    assert_eq!(
        stored,
        json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"kind": "Pod"}, "message": "n"})
    );
    assert_eq!(new.strategy.served_form(stored), event);
}
