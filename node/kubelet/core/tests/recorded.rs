//! What the kubelet writes about pods, against what upstream's kubelet 1.36.2 wrote about the same pods.
//!
//! `tests/data/<pod>.json` holds the pod as it was created and bound, upstream's status patches and its
//! events. Compared is what a client sees: the sequence of statuses (without times, addresses and ids;
//! states that look the same count once) and the events, each the first time it appears.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::api::patched;
use common::runtime::Behaviour;
use common::{Bench, probe_by_command};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

struct Recording {
    pod: Pod,
    statuses: Vec<Value>,
    events: Vec<String>,
}

fn load(name: &str) -> Recording {
    let path = format!("{}/tests/data/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    Recording {
        pod: serde_json::from_value(all["pod"].clone()).unwrap(),
        statuses: all["statuses"].as_array().unwrap().clone(),
        events: serde_json::from_value(all["events"].clone()).unwrap(),
    }
}

/// What is compared of a status.
fn view(status: &Value) -> Value {
    let conditions = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| json!([one["type"], one["status"], one["reason"], one["message"]]));
    let list = |name: &str| -> Value {
        let all = status[name].as_array().into_iter().flatten();
        all.map(container).collect()
    };
    json!({
        "phase": status["phase"],
        "reason": status["reason"],
        "message": status["message"],
        "conditions": conditions.collect::<Vec<_>>(),
        "init": list("initContainerStatuses"),
        "containers": list("containerStatuses"),
        "address": !status["podIP"].is_null(),
        "requests": status["allocatedResources"],
    })
}

fn container(one: &Value) -> Value {
    let state = |state: &Value| {
        let Some((kind, fields)) = state.as_object().and_then(|state| state.iter().next()) else {
            return json!(null);
        };
        json!([kind, fields["reason"], fields["message"], fields["exitCode"]])
    };
    json!({
        "name": one["name"],
        "state": state(&one["state"]),
        "last": state(&one["lastState"]),
        "ready": one["ready"],
        "started": one["started"],
        "restarts": one["restartCount"],
        "known": !one["containerID"].is_null(),
        "resources": one["resources"],
        "allocated": one["allocatedResources"],
        "mounts": one["volumeMounts"],
    })
}

/// The statuses that result from the patches, without repetitions.
fn views(created: &Pod, patches: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut status = serde_json::to_value(&created.status).unwrap();
    let mut all: Vec<Value> = Vec::new();
    for patch in patches {
        status = patched(&status, &without_cgroup_limit(patch));
        let view = view(&status);
        if all.last() != Some(&view) {
            all.push(view);
        }
    }
    all
}

/// Upstream reads "no limit" from a version 1 cgroup as a limit of 8 EiB and writes it into the status.
fn without_cgroup_limit(mut patch: Value) -> Value {
    if let Some(resources) = patch.get_mut("resources").and_then(Value::as_object_mut) {
        resources.remove("limits");
        resources.remove("requests");
    }
    patch
}

fn first_times(events: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = Vec::new();
    for event in events {
        if !all.contains(&event) {
            all.push(event);
        }
    }
    all
}

/// Runs the recorded pod for some virtual seconds, deletes it if the recording does, and compares.
/// `unlike` names statuses (by number in upstream's sequence) that are not expected here, `extra` those (by number
/// in ours) that upstream does not show.
async fn compare(name: &str, seconds: u64, unlike: &[usize], extra: &[usize], prepare: impl FnOnce(&Bench)) {
    let mut recording = load(name);
    probe_by_command(&mut recording.pod);
    let bench = Bench::start(&format!("recorded-{name}")).await;
    bench.runtime.slow_down();
    prepare(&bench);
    bench.api.put(recording.pod.clone());
    bench.pass(seconds).await;
    if recording.statuses.contains(&json!("DELETE")) && bench.api.pod(name).is_some() {
        let grace = (name == "grace2").then_some(2);
        bench.api.delete_pod(name, grace);
        bench.until_gone(name).await;
    }
    let theirs = recording.statuses.iter().filter(|one| one.is_object()).cloned();
    let theirs = views(&recording.pod, theirs);
    let ours = views(
        &recording.pod,
        bench
            .api
            .patches(name)
            .into_iter()
            .map(|patch| patch["status"].clone()),
    );
    let theirs: Vec<Value> = theirs
        .into_iter()
        .enumerate()
        .filter(|(at, _)| !unlike.contains(at))
        .map(|(_, one)| one)
        .collect();
    let ours: Vec<Value> = ours
        .into_iter()
        .enumerate()
        .filter(|(at, _)| !extra.contains(at))
        .map(|(_, one)| one)
        .collect();
    for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(
            pretty(ours),
            pretty(theirs),
            "{name}: status {at} is not upstream's (on the right)"
        );
    }
    assert_eq!(
        ours.len(),
        theirs.len(),
        "{name}: number of statuses; the longer list goes on with {}",
        {
            let shorter = ours.len().min(theirs.len());
            let longer = if ours.len() > theirs.len() { &ours } else { &theirs };
            longer.get(shorter).map(pretty).unwrap_or_default()
        }
    );
    let theirs = first_times(recording.events.into_iter().filter(|event| event != "DELETE"));
    let ours = first_times(bench.api.events(name).into_iter());
    assert_eq!(ours, theirs, "{name}: events");
}

fn pretty(value: &Value) -> String {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect()
}

fn exits(after_millis: u64, code: i32) -> Behaviour {
    Behaviour {
        exit: Some((Duration::from_millis(after_millis), code)),
        ..Behaviour::default()
    }
}

fn root_ca(bench: &Bench) {
    let map = serde_json::from_value(json!({"data": {"ca.crt": "CA"}})).unwrap();
    bench.api.put_config_map("kube-root-ca.crt", map, &[]);
}

macro_rules! recorded {
    ($($name:ident($pod:literal, $seconds:literal, $unlike:expr, $extra:expr) $prepare:expr;)*) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                let prepare: fn(&Bench) = $prepare;
                compare($pod, $seconds, &$unlike, &$extra, |bench| {
                    root_ca(bench);
                    prepare(bench);
                })
                .await;
            }
        )*
    };
}

recorded! {
    plain("plain", 5, [], []) |_| {};
    succeeds("succeeds", 10, [], []) |bench| bench.runtime.behave("c", exits(2000, 0));
    // Here the first container shows while the second one starts.
    fails("fails", 10, [], [2]) |bench| {
        bench.runtime.behave("a", exits(0, 3));
        bench.runtime.behave("b", exits(2000, 0));
    };
    init_fail("init-fail", 10, [], []) |bench| bench.runtime.behave("i1", exits(0, 7));
    // Upstream shows the sidecar started and, a moment later, ready; and at the end the network gone before the phase.
    init_sidecar("init-sidecar", 30, [5, 11], [10]) |bench| {
        bench.runtime.behave("i1", exits(1000, 0));
        bench.runtime.behave("i2", exits(1000, 0));
        bench.runtime.behave("side", Behaviour { on_term: Some(0), ..Behaviour::default() });
        bench.runtime.behave("main", exits(6000, 0));
    };
    crash("crash", 12, [], []) |bench| {
        bench.runtime.behave("c", Behaviour { message: Some("boom\n"), ..exits(300, 1) });
    };
    crash_logs("crash-logs", 5, [], []) |bench| {
        let log = "2026-11-22T14:49:29.1Z stdout F last words\n";
        bench.runtime.behave("c", Behaviour { log: Some(log), ..exits(300, 2) });
    };
    oom("oom2", 17, [], []) |bench| {
        bench.runtime.behave("c", Behaviour { reason: Some("OOMKilled"), ..exits(2500, 137) });
    };
    image_pull("image-pull", 6, [], []) |bench| bench.runtime.fail_pulls(Some(
        "failed to pull and unpack image \"127.0.0.1:5000/nothere:1\": failed to resolve image: failed to do request: \
         Head \"https://127.0.0.1:5000/v2/nothere/manifests/1\": tls: first record does not look like a TLS handshake",
    ));
    image_invalid("image-invalid", 5, [], []) |_| {};
    image_never("image-never", 5, [], []) |_| {};
    config_error("config-error", 5, [], []) |_| {};
    mount_error("mount-error", 5, [], []) |_| {};
    nonroot_error("nonroot-error", 5, [], []) |_| {};
    run_error("run-error", 11, [], []) |bench| bench.runtime.behave("c", Behaviour {
        start_error: Some(
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create \
             failed: unable to start container process: exec: \"/no/such/program\": stat /no/such/program: no such \
             file or directory",
        ),
        ..Behaviour::default()
    });
    deadline("deadline", 20, [], []) |_| {};
    grace("grace2", 5, [], []) |_| {};
    host_network("hostnet", 5, [], []) |_| {};
    volumes("volumes", 30, [], []) |bench| {
        let map = serde_json::from_value(json!({"data": {"a": "1", "b.txt": "two\n"}})).unwrap();
        bench.api.put_config_map("cm", map, &[]);
        let secret = serde_json::from_value(json!({"data": {"pw": "c3dvcmRmaXNo"}})).unwrap();
        bench.api.put_secret("sec", secret);
        bench.runtime.behave("c", exits(20_000, 0));
    };
    reject_cpu("reject-cpu", 3, [], []) |bench| {
        let busy = json!({"resources": {"requests": {"cpu": "50m"}}});
        bench.api.put(common::pod("busy", busy, json!({})));
    };
    reject_affinity("reject-affinity", 3, [], []) |_| {};
    poststart_fail("poststart-fail", 10, [], []) |bench| {
        let execs = BTreeMap::from([("echo nope; exit 4", [(4, "nope")].into())]);
        bench.runtime.behave("c", Behaviour { execs, ..Behaviour::default() });
    };
    probes("probes", 15, [], []) |bench| {
        let missing = (1, "cat: can't open '/tmp/ready': No such file or directory\n");
        let execs = BTreeMap::from([("/tmp/ready", [missing, missing, (0, "")].into())]);
        bench.runtime.behave("web", Behaviour { execs, ..Behaviour::default() });
    };
}
