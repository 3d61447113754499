//! What becomes of running pods beside starting and ending: logs are rotated, pods evicted and looked into.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::runtime::Behaviour;
use common::{Bench, first_status, phase, pod};
use k8s_openapi::api::core::v1::Pod;
use knode_cri::NamespaceMode;
use knode_kubelet::model::Eviction;
use serde_json::json;

fn files(directory: &PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn a_long_log_is_rotated_and_goes_with_its_container() {
    let bench = Bench::start("logs").await;
    bench.api.put(pod("p", json!({}), json!({})));
    bench.until_ready("p").await;
    let directory = bench.root.join("pods/rec_p_uid-p/c");
    let log = directory.join("0.log");
    for round in 0..8 {
        std::fs::write(&log, format!("{round}").repeat(5000)).unwrap();
        bench.pass(11).await;
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0, "round {round}");
    }
    let names = files(&directory);
    assert_eq!(names.len(), 5, "{names:?}");
    let packed = names.iter().filter(|name| name.ends_with(".gz")).count();
    assert_eq!(packed, 3, "all but the newest are compressed: {names:?}");
    let newest = names.iter().rfind(|name| !name.ends_with(".gz")).unwrap();
    assert_eq!(
        std::fs::read_to_string(directory.join(newest)).unwrap(),
        "7".repeat(5000)
    );

    // A log that the runtime cannot open anew keeps its name.
    bench.runtime.fail_reopening(true);
    std::fs::write(&log, "x".repeat(5000)).unwrap();
    bench.pass(11).await;
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 5000);
    bench.runtime.fail_reopening(false);
    // One that was taken away is made anew.
    std::fs::remove_file(&log).unwrap();
    bench.pass(11).await;
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
    bench.api.delete_pod("p", Some(1));
    bench.until_gone("p").await;
    bench.until_clean().await;
    assert!(!directory.exists());
}

/// Evicts a pod and waits for its end.
async fn evict(bench: &Bench, uid: &str, grace: i64) -> bool {
    let eviction = Eviction {
        cause: Default::default(),
        message: "The node was low on resource: memory. ".into(),
        marks: [("starved_resource".to_owned(), "memory".to_owned())].into(),
        grace,
        for_others: grace > 0,
    };
    let ended = bench.kubelet().evict(uid, eviction);
    let bound = tokio::time::timeout(Duration::from_secs(600), ended);
    bound.await.expect("the eviction never came to an end")
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_ends_and_says_why() {
    let mut bench = Bench::start("evicted").await;
    bench.api.put(pod("p", json!({}), json!({})));
    bench.until_ready("p").await;
    assert!(evict(&bench, "uid-p", 1).await);
    let left = bench.runtime.left();
    assert!(
        left.is_empty(),
        "what it had is given back before the next look: {left:?}"
    );
    let seen = bench.api.pod("p").unwrap();
    let status = serde_json::to_value(&seen.status).unwrap();
    assert_eq!(
        (&status["phase"], &status["reason"], &status["message"]),
        (
            &json!("Failed"),
            &json!("Evicted"),
            &json!("The node was low on resource: memory. ")
        )
    );
    let conditions = status["conditions"].as_array().unwrap();
    let target = conditions
        .iter()
        .find(|one| one["type"] == "DisruptionTarget")
        .unwrap();
    assert_eq!(
        (&target["status"], &target["reason"]),
        (&json!("True"), &json!("TerminationByKubelet"))
    );
    assert!(first_status(&seen)["state"]["terminated"].is_object(), "{status}");
    assert!(bench.runtime.calls().contains(&"StopContainer c 1".to_owned()));
    let events = bench.api.events("p");
    let told = "Warning Evicted|The node was low on resource: memory. |";
    assert_eq!(
        events.iter().filter(|event| *event == told).count(),
        1,
        "{events:?}"
    );

    // Nothing of that changes by a restart of the kubelet.
    bench.stop_kubelet().await;
    bench.start_kubelet().await;
    bench.pass(60).await;
    let after = bench.api.pod("p").unwrap();
    assert_eq!(after.status, seen.status);
    assert!(bench.runtime.running("c").is_none(), "it runs again");
}

#[tokio::test(start_paused = true)]
async fn a_soft_eviction_leaves_the_pod_its_time_and_critical_pods_stay() {
    let bench = Bench::start("soft").await;
    bench.api.put(pod("p", json!({}), json!({})));
    let critical = json!({"priority": 2_000_001_000});
    bench.api.put(pod("critical", json!({"name": "k"}), critical));
    bench.until_ready("p").await;
    bench.until_ready("critical").await;
    assert!(!evict(&bench, "uid-critical", 1).await);
    assert!(!evict(&bench, "uid-of-nobody", 1).await);
    assert!(evict(&bench, "uid-p", 0).await);
    let calls = bench.runtime.calls();
    assert!(calls.contains(&"StopContainer c 30".to_owned()), "{calls:?}");
    assert!(bench.runtime.running("k").is_some());
    let ended = bench.api.pod("p").unwrap();
    assert_eq!(
        condition(&ended, "DisruptionTarget"),
        None,
        "it goes for what it has done itself"
    );
}

fn with_debugger(mut pod: Pod, target: &str) -> Pod {
    let debugger = json!([{"name": "debugger", "image": "busybox:latest", "targetContainerName": target,
        "stdin": true, "tty": true}]);
    let spec = pod.spec.as_mut().unwrap();
    spec.ephemeral_containers = Some(serde_json::from_value(debugger).unwrap());
    pod.metadata.generation = Some(2);
    pod
}

fn debugger(pod: &Pod) -> serde_json::Value {
    let status = serde_json::to_value(&pod.status).unwrap();
    status["ephemeralContainerStatuses"][0].clone()
}

#[tokio::test(start_paused = true)]
async fn a_debugger_sees_the_processes_of_its_target_and_is_not_restarted() {
    let bench = Bench::start("debug").await;
    let exit = Some((Duration::from_secs(30), 1));
    bench.runtime.behave(
        "debugger",
        Behaviour {
            exit,
            ..Behaviour::default()
        },
    );
    bench.api.put(pod("p", json!({}), json!({})));
    let before = bench.until_ready("p").await;
    bench.api.put(with_debugger(before, "c"));
    let runs = |pod: &Pod| debugger(pod)["state"]["running"].is_object();
    let running = bench.until("p", "a running debugger", runs).await;
    assert!(common::is_ready(&running), "the pod stays ready");
    let made = bench.runtime.creates().pop().unwrap().config.unwrap();
    assert!(made.stdin && made.tty);
    let namespaces = made
        .linux
        .unwrap()
        .security_context
        .unwrap()
        .namespace_options
        .unwrap();
    assert_eq!(namespaces.pid, NamespaceMode::Target as i32);
    assert_eq!(Some(namespaces.target_id), bench.runtime.running("c"));
    let ended = |pod: &Pod| debugger(pod)["state"]["terminated"]["exitCode"] == 1;
    bench.until("p", "the debugger's end", ended).await;
    bench.pass(600).await;
    let after = bench.api.pod("p").unwrap();
    assert_eq!(debugger(&after)["restartCount"], 0);
    assert_eq!(phase(&after), "Running");
    let events = bench.api.events("p");
    let started = "Normal Started|Container started|spec.ephemeralContainers{debugger}";
    assert!(events.contains(&started.to_owned()), "{events:?}");
    bench.api.delete_pod("p", Some(1));
    bench.until_gone("p").await;
    bench.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_debugger_of_nobody_says_so() {
    let bench = Bench::start("debug-nobody").await;
    bench.api.put(pod("p", json!({}), json!({})));
    let before = bench.until_ready("p").await;
    bench.api.put(with_debugger(before, "other"));
    let told = |pod: &Pod| debugger(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError";
    let waiting = bench.until("p", "the debugger's trouble", told).await;
    assert_eq!(
        debugger(&waiting)["state"]["waiting"]["message"],
        "unable to find target container other"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rule_restarts_what_the_policy_would_not() {
    let bench = Bench::start("rules").await;
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let exit = |code| Behaviour {
        exit: Some((Duration::from_secs(1), code)),
        ..Behaviour::default()
    };
    bench.runtime.behave("c", exit(42));
    let container = json!({"restartPolicy": "Never", "restartPolicyRules": rules});
    bench
        .api
        .put(pod("p", container, json!({"restartPolicy": "Never"})));
    let again = |pod: &Pod| first_status(pod)["restartCount"] == 2;
    bench.until("p", "two restarts by the rule", again).await;
    bench.runtime.behave("c", exit(1));
    let failed = |pod: &Pod| phase(pod) == "Failed";
    let end = bench.until("p", "an end without a rule", failed).await;
    assert_eq!(first_status(&end)["state"]["terminated"]["exitCode"], 1);
}

#[tokio::test(start_paused = true)]
async fn logs_of_pods_that_are_gone_are_removed_at_the_start() {
    let mut bench = Bench::start("old-logs").await;
    bench.api.put(pod("p", json!({}), json!({})));
    bench.until_ready("p").await;
    bench.stop_kubelet().await;
    let (logs, links) = (bench.root.join("pods"), bench.root.join("containers"));
    std::fs::create_dir_all(logs.join("rec_old_uid-old/c")).unwrap();
    std::fs::write(logs.join("rec_old_uid-old/c/0.log"), "old").unwrap();
    std::fs::create_dir_all(logs.join("not-ours")).unwrap();
    std::os::unix::fs::symlink(
        logs.join("rec_old_uid-old/c/0.log"),
        links.join("old_rec_c-1.log"),
    )
    .unwrap();
    bench.start_kubelet().await;
    bench.kubelet().wait_synced().await;
    for _ in 0..400 {
        if files(&logs).len() == 2 && files(&links).len() == 1 {
            break;
        }
        bench.pass(1).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(files(&logs), ["not-ours", "rec_p_uid-p"]);
    assert_eq!(files(&links).len(), 1, "{:?}", files(&links));
}

fn with_cpu(mut pod: Pod, cpu: &str) -> Pod {
    let resources =
        json!({"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"cpu": cpu, "memory": "64Mi"}});
    let spec = pod.spec.as_mut().unwrap();
    spec.containers[0].resources = Some(serde_json::from_value(resources).unwrap());
    pod
}

fn condition(pod: &Pod, kind: &str) -> Option<(String, String)> {
    let mut all = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let found = all.find(|one| one.type_ == kind && one.status == "True")?;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Some((text(&found.reason), text(&found.message)))
}

fn cpu(pod: &Pod) -> serde_json::Value {
    first_status(pod)["resources"]["requests"]["cpu"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_running_pod_is_resized_now_later_or_never() {
    let mut bench = Bench::start("resize").await;
    bench.api.put(with_cpu(pod("p", json!({}), json!({})), "500m"));
    bench
        .api
        .put(with_cpu(pod("other", json!({"name": "k"}), json!({})), "1"));
    bench.until_ready("other").await;
    let id = first_status(&bench.until_ready("p").await)["containerID"].clone();

    let before = bench.api.pod("p").unwrap();
    bench.api.put(with_cpu(before, "1"));
    let grown = bench.until("p", "one core", |pod| cpu(pod) == "1").await;
    let quotas = |bench: &Bench| -> Vec<i64> {
        let updates = bench.runtime.updates();
        updates
            .iter()
            .map(|one| one.linux.as_ref().unwrap().cpu_quota)
            .collect()
    };
    assert_eq!(quotas(&bench), [100_000]);
    assert_eq!(condition(&grown, "PodResizePending"), None);
    bench.pass(5).await;
    assert_eq!(
        condition(&bench.api.pod("p").unwrap(), "PodResizeInProgress"),
        None
    );

    // What others have cannot be had until they go.
    let before = bench.api.pod("p").unwrap();
    bench.api.put(with_cpu(before, "1500m"));
    let pending = |pod: &Pod| condition(pod, "PodResizePending").is_some();
    let waiting = bench.until("p", "a wish that waits", pending).await;
    let message = "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000";
    assert_eq!(
        condition(&waiting, "PodResizePending"),
        Some(("Deferred".into(), message.into()))
    );
    assert_eq!(cpu(&waiting), "1");
    // Nor does a restart of the kubelet grant it.
    bench.stop_kubelet().await;
    bench.start_kubelet().await;
    bench.pass(60).await;
    assert_eq!(cpu(&bench.api.pod("p").unwrap()), "1");
    assert!(pending(&bench.api.pod("p").unwrap()));
    bench.api.delete_pod("other", Some(1));
    let grown = bench.until("p", "the rest", |pod| cpu(pod) == "1500m").await;
    assert_eq!(quotas(&bench), [100_000, 150_000]);
    bench.until("p", "nothing pending", |pod| !pending(pod)).await;
    assert_eq!(first_status(&grown)["containerID"], id, "it was restarted");

    let before = bench.api.pod("p").unwrap();
    bench.api.put(with_cpu(before, "3"));
    let never =
        |pod: &Pod| condition(pod, "PodResizePending").is_some_and(|(reason, _)| reason == "Infeasible");
    bench.until("p", "a wish that cannot be", never).await;
    bench.pass(600).await;
    let events = bench.api.events("p");
    let told = events
        .iter()
        .filter(|event| event.contains("ResizeInfeasible"))
        .count();
    assert_eq!(told, 1, "{events:?}");
    // A beginning and an end of each of the two that were granted, in upstream's words.
    let started: Vec<&String> = events
        .iter()
        .filter(|event| event.contains("Pod resize started: "))
        .collect();
    assert_eq!(started.len(), 2, "{events:?}");
    assert!(
        started[0].contains(r#"{"containers":[{"name":"c","resources":{"#),
        "{started:?}"
    );
    let completed = events
        .iter()
        .filter(|event| event.contains("Normal ResizeCompleted|Pod resize completed: "));
    assert_eq!(completed.count(), 2, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_policy_restarts_and_a_failure_is_tried_again() {
    let bench = Bench::start("resize-restart").await;
    let policy = json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]});
    bench.api.put(with_cpu(pod("p", policy, json!({})), "500m"));
    bench
        .api
        .put(with_cpu(pod("q", json!({"name": "k"}), json!({})), "500m"));
    bench.until_ready("q").await;
    let before = bench.until_ready("p").await;
    bench.api.put(with_cpu(before, "1"));
    let again = |pod: &Pod| first_status(pod)["restartCount"] == 1 && cpu(pod) == "1";
    bench.until("p", "a restart with more", again).await;
    assert!(bench.runtime.updates().is_empty());
    let killing = "Normal Killing|Container c resize requires restart|spec.containers{c}";
    assert!(
        bench.api.events("p").contains(&killing.to_owned()),
        "{:?}",
        bench.api.events("p")
    );

    bench.runtime.fail_updates(Some("device or resource busy"));
    let before = bench.api.pod("q").unwrap();
    bench.api.put(with_cpu(before, "250m"));
    let failed =
        |pod: &Pod| condition(pod, "PodResizeInProgress").is_some_and(|(reason, _)| reason == "Error");
    let trouble = bench.until("q", "trouble", failed).await;
    assert_eq!(cpu(&trouble), "500m");
    bench.runtime.fail_updates(None);
    let done = |pod: &Pod| cpu(pod) == "250m" && condition(pod, "PodResizeInProgress").is_none();
    bench.until("q", "less", done).await;
}

#[tokio::test(start_paused = true)]
async fn a_class_names_the_handler_of_the_sandbox_and_an_unknown_one_is_told() {
    let bench = Bench::start("class").await;
    let overhead = json!({"runtimeClassName": "with-crun", "overhead": {"cpu": "250m", "memory": "64Mi"}});
    bench.api.put(pod("by-class", json!({}), overhead));
    bench.until_ready("by-class").await;
    let run = bench.runtime.runs().remove(0);
    assert_eq!(run.runtime_handler, "crun");
    let linux = run.config.unwrap().linux.unwrap();
    let overhead = linux.overhead.unwrap();
    assert_eq!(
        (
            overhead.cpu_shares,
            overhead.cpu_quota,
            overhead.memory_limit_in_bytes
        ),
        (256, 25_000, 64 << 20)
    );
    assert_eq!(linux.resources.unwrap().memory_limit_in_bytes, 0);

    bench
        .api
        .put(pod("lost", json!({}), json!({"runtimeClassName": "none"})));
    bench.pass(5).await;
    let told = "Warning FailedCreatePodSandBox|Failed to create pod sandbox: runtimeclass.node.k8s.io \"none\" not found|";
    let events = bench.api.events("lost");
    assert!(events.iter().any(|event| event == told), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_as_a_whole_is_resized_too() {
    let mut bench = Bench::start("whole").await;
    let whole = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}});
    bench.api.put(pod("p", json!({}), whole("500m")));
    bench.until_ready("p").await;
    let mut wanted = bench.api.pod("p").unwrap();
    let more = whole("1")["resources"].clone();
    wanted.spec.as_mut().unwrap().resources = serde_json::from_value(more).unwrap();
    bench.api.put(wanted);
    let granted = |pod: &Pod| {
        let status = pod.status.as_ref().unwrap();
        let limits = status.resources.as_ref().and_then(|all| all.limits.as_ref());
        limits.is_some_and(|limits| limits["cpu"].0 == "1")
    };
    bench.until("p", "one core", granted).await;
    bench.pass(5).await;
    let quotas: Vec<i64> = bench
        .runtime
        .updates()
        .iter()
        .map(|one| one.linux.as_ref().unwrap().cpu_quota)
        .collect();
    assert_eq!(quotas, [100_000], "the container has what the pod has");
    assert_eq!(
        condition(&bench.api.pod("p").unwrap(), "PodResizeInProgress"),
        None
    );
    // A restart of the kubelet changes nothing.
    bench.stop_kubelet().await;
    bench.start_kubelet().await;
    bench.pass(60).await;
    assert_eq!(bench.runtime.updates().len(), 1);
}
