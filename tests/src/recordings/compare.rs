//! Whether a pod went the recorded way.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{normal, states::State};

/// States that a pod may show beside the recorded ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// None.
    Nothing,
    /// Rounds of a loop that differ by their number and the length of the back-off only.
    Rounds,
    /// States between two recorded ones that upstream wrote as one step: of nothing but recorded fields and reasons.
    Steps,
}

/// What differs: live states that aren't recorded, or come in another order, or an end that is not the recorded one.
pub fn states(recorded: &[State], live: &[State], beside: Beside, has_end: bool) -> Vec<String> {
    let mut out = Vec::new();
    let mut next = 0;
    for (number, state) in live.iter().enumerate() {
        let place = recorded[next..].iter().position(|r| r.status == state.status);
        match place {
            Some(skipped) => next += skipped + 1,
            None if is_beside(recorded, state, beside) => {}
            None => out.push(unknown(recorded, next, number, state)),
        }
    }
    let last = |list: &[State]| list.last().map(|s| loosened(&s.status, beside));
    if has_end && last(recorded) != last(live) {
        let recorded = &recorded[recorded.len() - 1];
        let found = live.last().map(|s| s.status.clone()).unwrap_or_default();
        out.push(format!(
            "it ended otherwise: {}",
            normal::differences(&recorded.status, &found).join("; ")
        ));
    }
    out
}

fn loosened(status: &Value, beside: Beside) -> Value {
    if beside == Beside::Rounds {
        rounds(status)
    } else {
        status.clone()
    }
}

fn is_beside(recorded: &[State], state: &State, beside: Beside) -> bool {
    match beside {
        Beside::Nothing => false,
        Beside::Rounds => {
            let loose = rounds(&state.status);
            recorded.iter().any(|r| rounds(&r.status) == loose) || is_step(recorded, state)
        }
        Beside::Steps => is_step(recorded, state),
    }
}

fn is_step(recorded: &[State], state: &State) -> bool {
    let known: BTreeSet<String> = recorded.iter().flat_map(|r| paths(&r.status)).collect();
    // That a container ran is no news of a pod of which only its end was recorded.
    let is_known = |path: &String| known.contains(path) || path.ends_with(".state.running.startedAt");
    paths(&state.status).iter().all(is_known)
}

/// The nearest recorded state and what is different from it.
fn unknown(recorded: &[State], next: usize, number: usize, state: &State) -> String {
    let from = next.saturating_sub(1).min(recorded.len() - 1);
    let nearest = recorded[from..]
        .iter()
        .map(|r| normal::differences(&r.status, &state.status))
        .enumerate()
        .min_by_key(|(_, d)| d.len());
    let (index, differences) = nearest.unwrap_or_default();
    format!(
        "state {number} is none; from recorded {}: {}",
        from + index,
        differences.join("; ")
    )
}

/// Without the number of restarts and the length of the back-off.
fn rounds(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields = map.iter().filter(|(field, _)| *field != "restartCount");
            Value::Object(
                fields
                    .map(|(field, value)| (field.clone(), rounds(value)))
                    .collect(),
            )
        }
        Value::Array(list) => list.iter().map(rounds).collect(),
        Value::String(text) => match text
            .strip_prefix("back-off ")
            .and_then(|rest| rest.split_once(' '))
        {
            Some((_, rest)) => format!("back-off … {rest}").into(),
            None => value.clone(),
        },
        other => other.clone(),
    }
}

/// The fields, by path, with the reasons and the order of conditions.
fn paths(value: &Value) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    collect("", value, &mut out);
    out
}

fn collect(path: &str, value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (field, value) in map {
                collect(&format!("{path}.{field}"), value, out);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                collect(&format!("{path}[{index}]"), value, out);
            }
        }
        Value::String(text) if path.ends_with(".reason") || path.ends_with(".type") => {
            out.insert(format!("{path}={text}"));
        }
        _ => {
            out.insert(path.to_owned());
        }
    }
}

/// How Events differ: those of each writer must come in the recorded order, but for probes' failures, which come when
/// their periods have it.
pub fn events(recorded: &[Value], live: &[Value]) -> Vec<String> {
    let writers: BTreeSet<String> = recorded.iter().chain(live).map(writer).collect();
    let mut out = Vec::new();
    for who in writers {
        let of = |list: &[Value], probes: bool| {
            let theirs = list
                .iter()
                .filter(|e| writer(e) == who && (e["reason"] == "Unhealthy") == probes);
            let mut theirs: Vec<Value> = theirs.cloned().collect();
            theirs.dedup();
            theirs
        };
        if of(recorded, false) != of(live, false) {
            out.push(format!(
                "events of {who}: {} instead of {}",
                lines(&of(live, false)),
                lines(&of(recorded, false))
            ));
        }
        let probes = |list| {
            of(list, true)
                .iter()
                .map(ToString::to_string)
                .collect::<BTreeSet<_>>()
        };
        if probes(recorded) != probes(live) {
            out.push(format!(
                "probes: {:#?} instead of {:#?}",
                probes(live),
                probes(recorded)
            ));
        }
    }
    out
}

fn writer(event: &Value) -> String {
    event["reporter"].as_str().unwrap_or_default().to_owned()
}

fn lines(events: &[Value]) -> String {
    let lines: Vec<String> = events.iter().map(|e| format!("\n    {e}")).collect();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(statuses: &[Value]) -> Vec<State> {
        let state = |s: &Value| State {
            status: s.clone(),
            t: 0.0,
        };
        statuses.iter().map(state).collect()
    }

    #[test]
    fn states_may_be_left_out_but_not_come_in_another_order() {
        let [a, b, c] = [json!({"p": 1}), json!({"p": 2}), json!({"p": 3})];
        let recorded = at(&[a.clone(), b.clone(), c.clone()]);
        let good = states(&recorded, &at(&[a.clone(), c.clone()]), Beside::Nothing, true);
        assert_eq!(good, Vec::<String>::new());
        assert_eq!(
            states(&recorded, &at(&[b, a, c.clone()]), Beside::Nothing, true).len(),
            1
        );
        assert_eq!(
            states(&recorded, &at(&[c, json!({"p": 4})]), Beside::Nothing, true).len(),
            2
        );
    }

    #[test]
    fn rounds_differ_by_number_and_length_only() {
        let round = |count: u32, length: &str, reason: &str| {
            let waiting = json!({"reason": reason, "message": format!("back-off {length} restarting c")});
            json!({"restartCount": count, "state": waiting})
        };
        let recorded = at(&[round(1, "10s", "CrashLoopBackOff")]);
        let other = at(&[round(2, "20s", "CrashLoopBackOff")]);
        assert_eq!(
            states(&recorded, &other, Beside::Rounds, true),
            Vec::<String>::new()
        );
        assert_eq!(states(&recorded, &other, Beside::Nothing, true).len(), 2);
        let wrong = at(&[round(1, "10s", "Waiting")]);
        assert_eq!(states(&recorded, &wrong, Beside::Rounds, true).len(), 2);
    }

    #[test]
    fn each_writers_events_keep_their_order() {
        let event = |who: &str, reason: &str| json!({"reporter": who, "reason": reason});
        let [a, b, c] = [event("k", "A"), event("k", "B"), event("s", "C")];
        assert!(
            events(
                &[a.clone(), b.clone(), c.clone()],
                &[c.clone(), a.clone(), b.clone()]
            )
            .is_empty()
        );
        assert_eq!(events(&[a.clone(), b.clone(), c.clone()], &[b, a, c]).len(), 1);
    }
}
