use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::model::{
    ContainerRecord, ContainerState, Eviction, Observed, Op, ProbeOutcome, Probes, Sandbox, Stop,
    VolumeState, Wait,
};
use crate::pod::PodExt;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(policy: &str, extra: Value) -> Pod {
    let mut spec = json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]});
    spec.as_object_mut()
        .unwrap()
        .extend(extra.as_object().cloned().unwrap());
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn record(name: &str, attempt: u32, state: ContainerState, exit_code: i32) -> ContainerRecord {
    ContainerRecord {
        id: format!("{name}{attempt}"),
        name: name.to_owned(),
        sandbox_id: "s0".to_owned(),
        attempt,
        state,
        created_at: at(100),
        started_at: Some(at(100)),
        finished_at: (state == ContainerState::Exited).then(|| at(110)),
        exit_code,
        reason: String::new(),
        message: String::new(),
        image: String::new(),
        image_id: String::new(),
        hash: String::new(),
        log_path: String::new(),
        user: None,
    }
}

fn ready() -> Observed {
    let mut observed = Observed {
        volumes: VolumeState::Ready { refresh_at: None },
        ..Observed::default()
    };
    observed.put_sandbox(Sandbox {
        id: "s0".to_owned(),
        attempt: 0,
        ready: true,
        ips: vec!["10.0.0.2".to_owned()],
        created_at: at(99),
    });
    observed
}

/// The actions without wake-ups, as short texts.
fn actions(pod: &Pod, observed: &Observed, now: i64) -> Vec<String> {
    let text = |action: &Action| match action {
        Action::WakeAt(_) => None,
        Action::Start {
            container, attempt, ..
        } => Some(format!("start {container} {attempt}")),
        Action::Stop { id, grace, .. } => Some(format!("stop {id} {grace}")),
        Action::StopSandbox { id } => Some(format!("stop sandbox {id}")),
        Action::RunSandbox { attempt } => Some(format!("sandbox {attempt}")),
        Action::Event(event) => Some(format!("event {}", event.reason)),
        Action::Wait { wait, .. } => Some(format!("wait {}", wait.reason)),
        other => Some(format!("{other:?}")),
    };
    plan(pod, observed, at(now)).iter().filter_map(text).collect()
}

fn wakes(pod: &Pod, observed: &Observed, now: i64) -> Vec<i64> {
    let all = plan(pod, observed, at(now));
    let times = all.iter().filter_map(|action| match action {
        Action::WakeAt(at) => Some(at.as_second()),
        _ => None,
    });
    times.collect()
}

#[test]
fn volumes_then_the_sandbox_then_one_container_after_the_other() {
    let pod = pod("Always", json!({}));
    let mut observed = Observed::default();
    assert_eq!(actions(&pod, &observed, 100), ["MountVolumes"]);
    observed.busy.insert(Op::Volumes);
    assert!(actions(&pod, &observed, 100).is_empty(), "said twice");
    observed.busy.clear();
    observed.volumes = VolumeState::Ready { refresh_at: None };
    assert_eq!(actions(&pod, &observed, 100), ["sandbox 0"]);
    let mut observed = ready();
    assert_eq!(actions(&pod, &observed, 100), ["start a 0"]);
    observed.busy.insert(Op::Start("a".to_owned()));
    assert!(actions(&pod, &observed, 100).is_empty(), "two starts at once");
    observed.busy.clear();
    observed.put_container(record("a", 0, ContainerState::Running, 0));
    assert_eq!(actions(&pod, &observed, 100), ["start b 0"]);
}

#[test]
fn a_crash_waits_out_its_back_off_and_says_so_once() {
    let pod = pod("OnFailure", json!({}));
    let mut observed = ready();
    observed.put_container(record("b", 0, ContainerState::Running, 0));
    observed.put_container(record("a", 0, ContainerState::Exited, 1));
    assert_eq!(
        actions(&pod, &observed, 110),
        ["start a 1"],
        "the first restart is at once"
    );
    observed.note_restart("a", at(105), at(106));
    assert_eq!(
        actions(&pod, &observed, 112),
        ["event BackOff", "wait CrashLoopBackOff"]
    );
    let wait = plan(&pod, &observed, at(112))
        .into_iter()
        .find_map(|action| match action {
            Action::Wait { wait, .. } => Some(wait),
            _ => None,
        });
    let wait: Wait = wait.unwrap();
    assert_eq!((wait.visible_from, wait.until), (at(113), at(120)));
    observed.waits.insert("a".to_owned(), wait);
    assert!(actions(&pod, &observed, 115).is_empty());
    assert_eq!(wakes(&pod, &observed, 115), [120]);
    assert_eq!(actions(&pod, &observed, 120), ["start a 1"]);
}

#[test]
fn restart_policies_decide_what_starts_again() {
    for (policy, code, starts) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ] {
        let mut observed = ready();
        observed.put_container(record("a", 0, ContainerState::Exited, code));
        observed.put_container(record("b", 0, ContainerState::Running, 0));
        let wanted: &[&str] = if starts { &["start a 1"] } else { &[] };
        assert_eq!(
            actions(&pod(policy, json!({})), &observed, 200),
            wanted,
            "{policy} after {code}"
        );
    }
}

#[test]
fn a_deleted_pod_ends_in_order() {
    let mut pod = pod("Always", json!({}));
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(200)));
    pod.metadata.deletion_grace_period_seconds = Some(5);
    let mut observed = ready();
    observed.put_container(record("a", 0, ContainerState::Running, 0));
    observed.put_container(record("b", 0, ContainerState::Running, 0));
    assert_eq!(actions(&pod, &observed, 190), ["stop a0 5", "stop b0 5"]);
    observed.stops.insert("a0".to_owned(), Stop { grace: 5 });
    observed.stops.insert("b0".to_owned(), Stop { grace: 30 });
    assert_eq!(
        actions(&pod, &observed, 190),
        ["stop b0 5"],
        "only what has more time than it should"
    );
    for name in ["a", "b"] {
        observed.put_container(record(name, 0, ContainerState::Exited, 0));
    }
    assert_eq!(actions(&pod, &observed, 191), ["stop sandbox s0"]);
    observed.sandboxes[0].ready = false;
    assert_eq!(actions(&pod, &observed, 191), ["Release { all: true }"]);
    observed.released = Some(true);
    assert!(
        actions(&pod, &observed, 191).is_empty(),
        "deleted before its last status is written"
    );
    observed.reported = true;
    assert_eq!(actions(&pod, &observed, 191), ["Delete"]);
    observed.removed = true;
    assert_eq!(actions(&pod, &observed, 191), ["Finish"]);
}

#[test]
fn a_pod_that_was_never_started_ends_without_a_call_to_the_runtime() {
    let pod = pod("Always", json!({}));
    let observed = Observed {
        removed: true,
        ..Observed::default()
    };
    assert_eq!(actions(&pod, &observed, 1), ["Release { all: true }"]);
}

#[test]
fn a_start_that_comes_late_is_waited_for_before_the_sandbox_goes() {
    let pod = pod("Always", json!({}));
    let mut observed = Observed {
        removed: true,
        ..ready()
    };
    observed.busy.insert(Op::Start("a".to_owned()));
    assert!(actions(&pod, &observed, 1).is_empty());
}

#[test]
fn a_deadline_ends_the_pod_when_it_comes() {
    let pod = pod("Always", json!({"activeDeadlineSeconds": 5}));
    let mut observed = Observed {
        start_time: Some(at(100)),
        ..ready()
    };
    observed.put_container(record("a", 0, ContainerState::Running, 0));
    observed.put_container(record("b", 0, ContainerState::Running, 0));
    assert_eq!(wakes(&pod, &observed, 104), [105]);
    assert_eq!(
        actions(&pod, &observed, 105),
        [
            "event DeadlineExceeded",
            "NoteDeadline",
            "stop a0 30",
            "stop b0 30"
        ]
    );
}

#[test]
fn only_two_containers_of_a_name_are_kept() {
    let pod = pod("Always", json!({}));
    let mut observed = ready();
    for attempt in 0..3 {
        observed.put_container(record("a", attempt, ContainerState::Exited, 1));
    }
    observed.put_container(record("b", 0, ContainerState::Running, 0));
    assert!(actions(&pod, &observed, 500).contains(&"RemoveContainer { id: \"a0\" }".to_owned()));
}

#[test]
fn a_failed_probe_leaves_its_own_time() {
    let probe = |own: Value| {
        let mut probe = json!({"failureThreshold": 1});
        probe
            .as_object_mut()
            .unwrap()
            .extend(own.as_object().cloned().unwrap());
        probe
    };
    let containers = json!([{"name": "a", "livenessProbe": probe(json!({"terminationGracePeriodSeconds": 3}))},
                            {"name": "b", "livenessProbe": probe(json!({}))}]);
    let pod = pod(
        "Always",
        json!({"terminationGracePeriodSeconds": 60, "containers": containers}),
    );
    let mut observed = ready();
    for name in ["a", "b"] {
        observed.put_container(record(name, 0, ContainerState::Running, 0));
        let (_, container) = pod.container(name).unwrap();
        let mut probes = Probes::new(&container, at(100), at(100), true, true);
        let failure = ProbeOutcome::Failure("no".to_owned());
        let track = probes.liveness.as_mut().unwrap();
        track.step(container.liveness_probe.as_ref().unwrap(), &failure, at(110));
        observed.probes.insert(format!("{name}0"), probes);
    }
    assert_eq!(actions(&pod, &observed, 110), ["stop a0 3", "stop b0 60"]);
}

#[test]
fn an_eviction_shortens_what_a_deletion_gives() {
    let table = [
        (None, 1, "stop a0 1"),
        (None, 0, "stop a0 30"),
        (Some(10), 20, "stop a0 10"),
        (Some(10), 5, "stop a0 5"),
    ];
    for (deletion, grace, wanted) in table {
        let mut pod = pod("Always", json!({"containers": [{"name": "a"}]}));
        pod.metadata.deletion_grace_period_seconds = deletion;
        pod.metadata.deletion_timestamp =
            deletion.map(|_| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(100)));
        let mut observed = ready();
        observed.put_container(record("a", 0, ContainerState::Running, 0));
        observed.evicted = Some(Eviction {
            cause: Default::default(),
            message: String::new(),
            marks: Default::default(),
            grace,
            for_others: true,
        });
        assert_eq!(actions(&pod, &observed, 100), [wanted], "{deletion:?} {grace}");
    }
}

#[test]
fn a_debugger_starts_once_even_where_an_init_container_fails() {
    let pod = pod(
        "Always",
        json!({"initContainers": [{"name": "i"}], "ephemeralContainers": [{"name": "d"}]}),
    );
    let mut observed = ready();
    observed.put_container(record("i", 0, ContainerState::Exited, 1));
    observed.note_restart("i", at(109), at(109));
    assert_eq!(
        actions(&pod, &observed, 111),
        ["start d 0", "event BackOff", "wait CrashLoopBackOff"]
    );
    observed.put_container(record("d", 0, ContainerState::Exited, 1));
    let now = actions(&pod, &observed, 200);
    assert_eq!(now, ["start i 1"], "a debugger is not restarted");
}

#[test]
fn limits_are_changed_once_and_a_failure_waits() {
    let container = json!({"name": "a", "resources": {"limits": {"cpu": "2"}}});
    let pod = pod("Always", json!({"containers": [container]}));
    let mut observed = ready();
    observed.put_container(record("a", 0, ContainerState::Running, 0));
    let applied = json!({"limits": {"cpu": "1"}});
    observed
        .applied
        .insert("a0".to_owned(), serde_json::from_value(applied).unwrap());
    let wanted = "Resize { id: \"a0\", container: \"a\" }";
    assert_eq!(actions(&pod, &observed, 100), [wanted]);
    observed.busy.insert(Op::Resize("a0".to_owned()));
    assert!(actions(&pod, &observed, 100).is_empty(), "said twice");
    observed.busy.clear();
    observed.resize_failed = Some((at(110), "no".to_owned()));
    assert!(actions(&pod, &observed, 109).is_empty());
    assert_eq!(wakes(&pod, &observed, 109), [110]);
    assert_eq!(actions(&pod, &observed, 110), [wanted]);
}

#[test]
fn a_rule_starts_all_containers_anew_in_place() {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    let pod = pod(
        "Never",
        json!({"initContainers": [{"name": "i"}], "containers": [
            {"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}, {"name": "b"}]}),
    );
    let mut observed = ready();
    observed.put_container(record("i", 0, ContainerState::Exited, 0));
    observed.put_container(record("a", 0, ContainerState::Exited, 42));
    observed.put_container(record("b", 0, ContainerState::Running, 0));
    assert_eq!(stage(&pod, &observed, at(111)), Stage::Active);
    assert_eq!(actions(&pod, &observed, 111), ["stop b0 30"]);
    observed.stops.insert("b0".to_owned(), Stop { grace: 30 });
    observed.stopped.insert("b0".to_owned());
    assert!(actions(&pod, &observed, 112).is_empty(), "said twice");
    observed.put_container(record("b", 0, ContainerState::Exited, 137));
    assert_eq!(actions(&pod, &observed, 113), ["Reset"]);
    let void: Vec<String> = super::reset(&pod, &observed).collect();
    observed.void.extend(void);
    assert_eq!(stage(&pod, &observed, at(114)), Stage::Active);
    assert_eq!(
        actions(&pod, &observed, 114),
        ["start i 1"],
        "init containers run again"
    );
    observed.put_container(record("i", 1, ContainerState::Exited, 0));
    assert_eq!(actions(&pod, &observed, 115), ["start a 1"]);
    observed.put_container(record("a", 1, ContainerState::Exited, 0));
    assert_eq!(actions(&pod, &observed, 116), ["start b 1"]);
    observed.put_container(record("b", 1, ContainerState::Exited, 0));
    assert_eq!(
        stage(&pod, &observed, at(117)),
        Stage::Ending,
        "it has run to its end"
    );
}

#[test]
fn of_rules_the_first_that_matches_counts() {
    let rule = |action: &str, operator: &str| json!({"action": action, "exitCodes": {"operator": operator, "values": [3]}});
    let rules = json!([rule("Restart", "In"), rule("RestartAllContainers", "NotIn")]);
    let pod = pod(
        "Never",
        json!({"containers": [{"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}]}),
    );
    for (code, wanted) in [(3, "start a 1"), (4, "Reset")] {
        let mut observed = ready();
        observed.put_container(record("a", 0, ContainerState::Exited, code));
        assert_eq!(actions(&pod, &observed, 200), [wanted], "after {code}");
    }
}
