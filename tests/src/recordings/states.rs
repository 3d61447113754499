//! The states that a pod's status went through.

use serde_json::{Value, json};

use super::{Recorded, merge, normal};

/// A normalised status, and whether the pod was being deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The status without what varies.
    pub status: Value,
    /// Seconds since the scenario's start, of recorded ones.
    pub t: f64,
}

/// The states in a recording: the created pod's, then one for each status patch.
///
/// # Panics
/// When the recording has no pod.
#[track_caller]
pub fn recorded(lines: &[Recorded]) -> Vec<State> {
    let created = lines
        .iter()
        .find(|l| l.user == "admin" && l.method == "POST")
        .expect("the request that created the pod");
    let uid = created.response["metadata"]["uid"].as_str().unwrap_or_default();
    let mut status = created.response["status"].clone();
    let mut states = vec![State::of(&status, uid, created.t)];
    let is_rejected = created.response["spec"]["nodeName"].is_string();
    let writes = |l: &&Recorded| l.method == "PATCH" && l.bare_path().contains("/pods/") && l.code == 200;
    for line in lines.iter().filter(writes) {
        if !line.user.contains("scheduler") && !is_rejected && states.len() == 1 || line.path.contains("/pods/gated?") {
            bind(&mut status);
            states.push(State::of(&status, uid, line.t));
        }
        if line.request["status"].is_object() {
            merge::apply(&mut status, &line.request["status"]);
            states.push(State::of(&status, uid, line.t));
        }
    }
    distinct(states)
}

/// What the binding by the scheduler does to a status; the recorder didn't keep the answer.
fn bind(status: &mut Value) {
    let bound = json!({"conditions": [
        {"type": "PodScheduled", "status": "True", "observedGeneration": 1, "reason": null, "message": null}]});
    merge::apply(status, &bound);
}

/// The states in a watch of the pod.
pub fn live(events: &[Value]) -> Vec<State> {
    let objects = events.iter().map(|e| &e["object"]);
    let states = objects.map(|o| {
        let uid = o["metadata"]["uid"].as_str().unwrap_or_default();
        State::of(&o["status"], uid, 0.0)
    });
    distinct(states.collect())
}

impl State {
    fn of(status: &Value, uid: &str, t: f64) -> Self {
        let text = status.to_string().replace(uid, "<uid>");
        let status = serde_json::from_str(&text).unwrap_or_default();
        Self {
            status: normal::value(&status),
            t,
        }
    }
}

fn distinct(mut states: Vec<State>) -> Vec<State> {
    states.dedup_by(|a, b| a.status == b.status);
    states
}
