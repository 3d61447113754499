//! Pods.
use jiff::Timestamp;
use knode_api::time;
use serde_json::Value;

use super::or_none;
use crate::value::{condition, flag, list, number, text};

/// What a pod's containers add up to.
struct Summary {
    ready: usize,
    total: usize,
    status: String,
    restarts: i64,
    /// When a container last ended before a restart.
    last_restart: Option<Timestamp>,
}

pub(crate) fn ready(pod: &Value, _now: Timestamp) -> Value {
    let s = summary(pod);
    format!("{}/{}", s.ready, s.total).into()
}

pub(crate) fn status(pod: &Value, _now: Timestamp) -> Value {
    summary(pod).status.into()
}

pub(crate) fn restarts(pod: &Value, now: Timestamp) -> Value {
    let s = summary(pod);
    match s.last_restart {
        Some(t) if s.restarts != 0 => {
            let ago = time::human_duration(now.duration_since(t).as_secs());
            format!("{} ({ago} ago)", s.restarts).into()
        }
        _ => s.restarts.to_string().into(),
    }
}

pub(crate) fn ip(pod: &Value, _now: Timestamp) -> Value {
    or_none(text(pod, "/status/podIPs/0/ip")).into()
}

pub(crate) fn node(pod: &Value, _now: Timestamp) -> Value {
    or_none(text(pod, "/spec/nodeName")).into()
}

pub(crate) fn nominated(pod: &Value, _now: Timestamp) -> Value {
    or_none(text(pod, "/status/nominatedNodeName")).into()
}

pub(crate) fn gates(pod: &Value, _now: Timestamp) -> Value {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return super::NONE.into();
    }
    let met = |gate: &&Value| is_true(pod, text(gate, "/conditionType"));
    format!("{}/{}", gates.iter().filter(met).count(), gates.len()).into()
}

fn is_true(pod: &Value, kind: &str) -> bool {
    condition(list(pod, "/status/conditions"), kind).is_some_and(|c| text(c, "/status") == "True")
}

fn summary(pod: &Value) -> Summary {
    let mut out = Summary {
        ready: 0,
        total: list(pod, "/spec/containers").len(),
        status: phase(pod),
        restarts: 0,
        last_restart: None,
    };
    let sidecars = Sidecars::of(pod);
    out.total += sidecars.names.len();
    let initializing = init_containers(pod, &sidecars, &mut out);
    if !initializing || is_true(pod, "Initialized") {
        main_containers(pod, &sidecars, &mut out);
    }
    let ended = matches!(text(pod, "/status/phase"), "Failed" | "Succeeded");
    if pod
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|t| !t.is_null())
    {
        if text(pod, "/status/reason") == "NodeLost" {
            out.status = "Unknown".into();
        } else if !ended {
            out.status = "Terminating".into();
        }
    }
    out
}

fn phase(pod: &Value) -> String {
    let gated = condition(list(pod, "/status/conditions"), "PodScheduled")
        .is_some_and(|c| text(c, "/reason") == "SchedulingGated");
    let reason = text(pod, "/status/reason");
    match (gated, reason.is_empty()) {
        (true, _) => "SchedulingGated".into(),
        (false, true) => text(pod, "/status/phase").into(),
        (false, false) => reason.into(),
    }
}

/// Init containers that go on running beside the main ones.
struct Sidecars<'a> {
    names: Vec<&'a str>,
}

impl<'a> Sidecars<'a> {
    fn of(pod: &'a Value) -> Self {
        let all = list(pod, "/spec/initContainers").iter();
        let names = all
            .filter(|c| text(c, "/restartPolicy") == "Always")
            .map(|c| text(c, "/name"));
        Sidecars {
            names: names.collect(),
        }
    }

    fn has(&self, status: &Value) -> bool {
        self.names.contains(&text(status, "/name"))
    }
}

fn last_end(status: &Value) -> Option<Timestamp> {
    time::parse(text(status, "/lastState/terminated/finishedAt")).ok()
}

/// Whether an init container is still at work; then its state is the pod's status.
fn init_containers(pod: &Value, sidecars: &Sidecars<'_>, out: &mut Summary) -> bool {
    let total = list(pod, "/spec/initContainers").len();
    for (i, c) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
        out.restarts += number(c, "/restartCount");
        out.last_restart = out.last_restart.max(last_end(c));
        let ended = c.pointer("/state/terminated").filter(|t| !t.is_null());
        let waiting = text(c, "/state/waiting/reason");
        if sidecars.has(c) && flag(c, "/started") {
            out.ready += usize::from(flag(c, "/ready"));
            continue;
        }
        match ended {
            Some(t) if number(t, "/exitCode") == 0 => continue,
            Some(t) => out.status = format!("Init:{}", end_reason(t)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                out.status = format!("Init:{waiting}")
            }
            None => out.status = format!("Init:{i}/{total}"),
        }
        return true;
    }
    false
}

fn end_reason(terminated: &Value) -> String {
    let reason = text(terminated, "/reason");
    match (reason.is_empty(), number(terminated, "/signal")) {
        (false, _) => reason.into(),
        (true, 0) => format!("ExitCode:{}", number(terminated, "/exitCode")),
        (true, signal) => format!("Signal:{signal}"),
    }
}

fn main_containers(pod: &Value, sidecars: &Sidecars<'_>, out: &mut Summary) {
    let of_sidecars = list(pod, "/status/initContainerStatuses")
        .iter()
        .filter(|c| sidecars.has(c));
    out.restarts = of_sidecars.clone().map(|c| number(c, "/restartCount")).sum();
    out.last_restart = of_sidecars.filter_map(last_end).max();
    let mut running = false;
    for c in list(pod, "/status/containerStatuses").iter().rev() {
        out.restarts += number(c, "/restartCount");
        out.last_restart = out.last_restart.max(last_end(c));
        let waiting = text(c, "/state/waiting/reason");
        let ended = c.pointer("/state/terminated").filter(|t| !t.is_null());
        if !waiting.is_empty() {
            out.status = waiting.into();
        } else if let Some(t) = ended {
            out.status = end_reason(t);
        } else if flag(c, "/ready") && c.pointer("/state/running").is_some_and(|r| !r.is_null()) {
            running = true;
            out.ready += 1;
        }
    }
    if out.status == "Completed" && running {
        out.status = if is_true(pod, "Ready") {
            "Running"
        } else {
            "NotReady"
        }
        .into();
    }
}
