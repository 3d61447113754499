//! Events of either API group as one form.

use serde_json::{Value, json};

use super::{Recorded, normal};

/// The Events that a recording's requests create, in order, without what varies.
pub fn recorded(lines: &[Recorded], uid: &str) -> Vec<Value> {
    let posts = lines
        .iter()
        .filter(|l| l.method == "POST" && l.bare_path().ends_with("/events"));
    posts.map(|l| normalised(&l.request, uid)).collect()
}

/// The Events that a watch saw added, in order.
pub fn live(events: &[Value], uid: &str) -> Vec<Value> {
    let added = events.iter().filter(|e| e["type"] == "ADDED");
    added.map(|e| normalised(&e["object"], uid)).collect()
}

fn normalised(event: &Value, uid: &str) -> Value {
    let first = |fields: [&str; 2]| {
        let found = fields
            .iter()
            .map(|f| &event[*f])
            .find(|v| !v.is_null() && **v != json!({}));
        found.cloned().unwrap_or_default()
    };
    let object = first(["involvedObject", "regarding"]);
    let text = first(["message", "note"]);
    let text = text.as_str().unwrap_or_default().replace(uid, "<uid>");
    json!({
        "type": event["type"], "reason": event["reason"], "message": normal::text(&text),
        "kind": object["kind"], "name": object["name"], "fieldPath": object["fieldPath"],
        "source": first(["source", "deprecatedSource"]), "action": event["action"],
        "reporter": first(["reportingComponent", "reportingController"]), "instance": event["reportingInstance"],
        "eventTime": event["eventTime"].is_string(),
    })
}
