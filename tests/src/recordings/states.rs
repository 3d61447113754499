//! The states that a pod's status went through.

use serde_json::{Value, json};

use super::{Recorded, merge, normal};

/// A normalised status.
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
        .find(|l| l.creates_pod())
        .expect("the request that created the pod");
    let uid = created.response["metadata"]["uid"].as_str().unwrap_or_default();
    let mut status = created.response["status"].clone();
    let mut states = vec![State::of(&status, uid, created.t)];
    let is_rejected = created.response["spec"]["nodeName"].is_string();
    let writes = |l: &&Recorded| l.method == "PATCH" && l.bare_path().contains("/pods/") && l.code == 200;
    for line in lines.iter().filter(writes) {
        if !line.user.contains("scheduler") && !is_rejected && states.len() == 1
            || line.path.contains("/pods/gated?")
        {
            bind(&mut status);
            states.push(State::of(&status, uid, line.t));
        }
        if line.request["status"].is_object() {
            merge::apply(&mut status, &line.request["status"]);
            drop_unlimited(&mut status);
            states.push(State::of(&status, uid, line.t));
        }
    }
    distinct(states)
}

/// Cgroup v1, under which the recording was made, says "no limit" by a number.
fn drop_unlimited(status: &mut Value) {
    let Some(limits) = status
        .pointer_mut("/resources/limits")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    limits.retain(|_, limit| *limit != "9007199254740988Ki");
    if let (true, Some(resources)) = (limits.is_empty(), status["resources"].as_object_mut()) {
        resources.remove("limits");
    }
}

/// What the binding by the scheduler does to a status; the recorder didn't keep the answer.
fn bind(status: &mut Value) {
    let bound = json!({"conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "now", "reason": null, "message": null}]});
    merge::apply(status, &bound);
}

/// The index of the last state before the pod was deleted, by whomever; the last of all if it wasn't.
pub fn before_deletion(lines: &[Recorded], states: &[State]) -> usize {
    let begins = |l: &&Recorded| {
        let marked = l.user.contains("node-controller") && l.request["status"].is_object();
        l.bare_path().contains("/pods/") && (l.method == "DELETE" || marked)
    };
    let time = lines.iter().find(begins).map_or(f64::MAX, |l| l.t);
    states.iter().rposition(|s| s.t < time).unwrap_or_default()
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
