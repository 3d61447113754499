//! Pods from creation to deletion, against a runtime that keeps state and on virtual time.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::runtime::Behaviour;
use common::{Bench, first_status, is_ready, phase, pod};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_pod_starts_becomes_ready_and_goes() {
    let bench = Bench::start("plain").await;
    bench.runtime.behave(
        "c",
        Behaviour {
            on_term: Some(0),
            ..Behaviour::default()
        },
    );
    bench.api.put(pod("plain", json!({}), json!({})));
    let ready = bench.until_ready("plain").await;
    assert_eq!(phase(&ready), "Running");
    let status = first_status(&ready);
    assert_eq!(status["containerID"], "knode://container0002");
    assert_eq!(status["started"], true);
    assert_eq!(
        bench.runtime.calls(),
        ["RunPodSandbox plain", "CreateContainer c", "StartContainer c"]
    );

    bench.api.delete_pod("plain", Some(5));
    bench.until_gone("plain").await;
    bench.until_clean().await;
    assert_eq!(
        bench.runtime.calls()[3..],
        [
            "StopContainer c 5",
            "StopPodSandbox ",
            "RemoveContainer c",
            "StopPodSandbox ",
            "RemovePodSandbox "
        ]
    );
    assert!(
        bench.kubelet().pods().is_empty(),
        "the kubelet still shows a pod that is gone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_restarts_at_once_and_then_with_growing_pauses() {
    let bench = Bench::start("crash").await;
    let crash = Behaviour {
        exit: Some((Duration::from_millis(500), 1)),
        message: Some("boom\n"),
        ..Behaviour::default()
    };
    bench.runtime.behave("c", crash);
    bench.api.put(pod("crash", json!({}), json!({})));
    let count = |wanted: i64| {
        move |pod: &k8s_openapi::api::core::v1::Pod| first_status(pod)["restartCount"] == wanted
    };
    bench.until("crash", "first restart", count(1)).await;
    let waiting = |pod: &k8s_openapi::api::core::v1::Pod| {
        first_status(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    };
    let pod = bench.until("crash", "back-off", waiting).await;
    let status = first_status(&pod);
    let message = "back-off 10s restarting failed container=c pod=crash_rec(uid-crash)";
    assert_eq!(status["state"]["waiting"]["message"], message);
    assert_eq!(status["lastState"]["terminated"]["message"], "boom\n");
    assert_eq!(status["restartCount"], 1);
    bench.until("crash", "second restart", count(2)).await;
    bench.until("crash", "third restart", count(3)).await;
    let creates: Vec<u32> = bench
        .runtime
        .creates()
        .iter()
        .map(|one| one.config.clone().unwrap().metadata.unwrap().attempt)
        .collect();
    assert_eq!(creates, [0, 1, 2, 3]);
    let left = bench.runtime.left().len();
    assert!(
        left <= 4,
        "old containers are not removed: {left} things are left"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_kubelet_touches_nothing() {
    let mut bench = Bench::start("restart").await;
    bench.runtime.behave(
        "c",
        Behaviour {
            exit: Some((Duration::from_secs(100), 1)),
            ..Behaviour::default()
        },
    );
    bench.api.put(pod(
        "p",
        json!({"readinessProbe": {"exec": {"command": ["check"]}, "periodSeconds": 10}}),
        json!({}),
    ));
    let before = bench.until_ready("p").await;
    bench.stop_kubelet().await;
    bench.pass(5).await;
    let (calls, patches) = (bench.runtime.calls().len(), bench.api.patches("p").len());
    bench.start_kubelet().await;
    bench.kubelet().wait_synced().await;
    bench.pass(5).await;
    let after = bench.api.pod("p").unwrap();
    assert!(is_ready(&after));
    assert_eq!(
        after.status,
        before.status,
        "the status changed by a restart: {:?}",
        &bench.api.patches("p")[patches..]
    );
    let changed: Vec<String> = bench
        .runtime
        .calls()
        .split_off(calls)
        .into_iter()
        .filter(|call| !call.starts_with("ExecSync"))
        .collect();
    assert!(changed.is_empty(), "a restart did {changed:?}");
    let restarted = |pod: &k8s_openapi::api::core::v1::Pod| first_status(pod)["restartCount"] == 1;
    bench.until("p", "restart count that goes on", restarted).await;
}

#[tokio::test(start_paused = true)]
async fn what_goes_while_the_kubelet_is_down_is_ended() {
    let mut bench = Bench::start("orphan").await;
    bench.runtime.behave(
        "c",
        Behaviour {
            on_term: Some(0),
            ..Behaviour::default()
        },
    );
    let hook = json!({"lifecycle": {"preStop": {"exec": {"command": ["goodbye"]}}}});
    bench.api.put(pod(
        "gone",
        hook,
        json!({"volumes": [{"name": "e", "emptyDir": {"medium": "Memory"}}]}),
    ));
    bench.until_ready("gone").await;
    bench.stop_kubelet().await;
    bench.api.delete_pod("gone", Some(0));
    bench.start_kubelet().await;
    bench.until_clean().await;
    assert!(
        bench.runtime.calls().contains(&"ExecSync c goodbye".to_owned()),
        "the hook of an orphan was forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_fails_backs_off_and_succeeds_later() {
    let bench = Bench::start("pull").await;
    bench.runtime.fail_pulls(Some("manifest unknown"));
    bench.api.put(pod("p", json!({"image": "reg.io/a:1"}), json!({})));
    let reason = |wanted: &'static str| {
        move |pod: &k8s_openapi::api::core::v1::Pod| first_status(pod)["state"]["waiting"]["reason"] == wanted
    };
    let pod = bench.until("p", "ErrImagePull", reason("ErrImagePull")).await;
    assert_eq!(
        first_status(&pod)["state"]["waiting"]["message"],
        "manifest unknown"
    );
    let pod = bench
        .until("p", "ImagePullBackOff", reason("ImagePullBackOff"))
        .await;
    let message = "Back-off pulling image \"reg.io/a:1\": ErrImagePull: manifest unknown";
    assert_eq!(first_status(&pod)["state"]["waiting"]["message"], message);
    bench.pass(25).await;
    let pulls = bench
        .runtime
        .calls()
        .iter()
        .filter(|call| call.starts_with("PullImage"))
        .count();
    assert_eq!(pulls, 2, "after 10 s, and not again before 20 s more");
    bench.runtime.fail_pulls(None);
    bench.until_ready("p").await;
}

#[tokio::test(start_paused = true)]
async fn no_more_images_are_pulled_at_once_than_may_be() {
    for pulls in [1, 3] {
        let mut bench = Bench::start(&format!("pulls-{pulls}")).await;
        bench.image_pulls = pulls;
        bench.start_kubelet().await;
        bench.runtime.slow_down();
        let names: Vec<String> = (0..5).map(|n| format!("p{n}")).collect();
        for name in &names {
            let image = json!({"image": format!("reg.io/{name}:1")});
            bench.api.put(pod(name, image, json!({})));
        }
        for name in &names {
            bench.until_ready(name).await;
        }
        assert_eq!(bench.runtime.most_pulls() as usize, pulls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_holds_the_container_until_it_comes() {
    let bench = Bench::start("config").await;
    let env = json!({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]});
    bench.api.put(pod("p", env, json!({})));
    let waits = |pod: &k8s_openapi::api::core::v1::Pod| {
        first_status(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    };
    let waiting = bench.until("p", "CreateContainerConfigError", waits).await;
    assert_eq!(
        first_status(&waiting)["state"]["waiting"]["message"],
        "configmap \"cm\" not found"
    );
    bench.pass(5).await;
    let map = serde_json::from_value(json!({"data": {"k": "v"}})).unwrap();
    bench.api.put_config_map("cm", map, &["uid-p"]);
    bench.pass(1).await;
    assert!(
        is_ready(&bench.api.pod("p").unwrap()),
        "the change of the config map was not noticed"
    );
    let create = bench.runtime.creates().pop().unwrap().config.unwrap();
    assert!(create.envs.iter().any(|env| env.key == "X" && env.value == "v"));
}

#[tokio::test(start_paused = true)]
async fn liveness_failures_restart_the_container() {
    let bench = Bench::start("liveness").await;
    let execs = BTreeMap::from([("check", [(1, "bad"), (1, "bad"), (0, "")].into())]);
    bench.runtime.behave(
        "c",
        Behaviour {
            on_term: Some(0),
            execs,
            ..Behaviour::default()
        },
    );
    let probe =
        json!({"livenessProbe": {"exec": {"command": ["check"]}, "periodSeconds": 2, "failureThreshold": 2}});
    bench.api.put(pod("p", probe, json!({})));
    let restarted =
        |pod: &k8s_openapi::api::core::v1::Pod| first_status(pod)["restartCount"] == 1 && is_ready(pod);
    bench.until("p", "one restart", restarted).await;
    let events = bench.api.events("p");
    for wanted in [
        "Warning Unhealthy|Liveness probe failed: bad|spec.containers{c}",
        "Normal Killing|Container c failed liveness probe, will be restarted|spec.containers{c}",
    ] {
        assert!(
            events.iter().any(|event| event == wanted),
            "{wanted} is not among {events:#?}"
        );
    }
    bench.pass(30).await;
    assert_eq!(first_status(&bench.api.pod("p").unwrap())["restartCount"], 1);
}

#[tokio::test(start_paused = true)]
async fn init_containers_and_sidecars_come_and_go_in_order() {
    let bench = Bench::start("init").await;
    bench.runtime.behave(
        "i1",
        Behaviour {
            exit: Some((Duration::from_secs(1), 0)),
            ..Behaviour::default()
        },
    );
    bench.runtime.behave(
        "side",
        Behaviour {
            on_term: Some(0),
            ..Behaviour::default()
        },
    );
    bench.runtime.behave(
        "i2",
        Behaviour {
            exit: Some((Duration::from_secs(1), 0)),
            ..Behaviour::default()
        },
    );
    bench.runtime.behave(
        "c",
        Behaviour {
            exit: Some((Duration::from_secs(5), 0)),
            ..Behaviour::default()
        },
    );
    let image = "busybox:latest";
    let inits = json!([
        {"name": "i1", "image": image, "imagePullPolicy": "IfNotPresent"},
        {"name": "side", "image": image, "imagePullPolicy": "IfNotPresent", "restartPolicy": "Always",
            "startupProbe": {"exec": {"command": ["up"]}, "periodSeconds": 1}},
        {"name": "i2", "image": image, "imagePullPolicy": "IfNotPresent"},
    ]);
    bench.api.put(pod(
        "p",
        json!({}),
        json!({"initContainers": inits, "restartPolicy": "Never"}),
    ));
    bench
        .until("p", "Succeeded", |pod| phase(pod) == "Succeeded")
        .await;
    let calls: Vec<String> = bench
        .runtime
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("St") || call.starts_with("Exec"))
        .collect();
    assert_eq!(
        calls,
        [
            "StartContainer i1",
            "StartContainer side",
            "ExecSync side up",
            "StartContainer i2",
            "StartContainer c",
            "StopContainer side 30",
            "StopPodSandbox "
        ]
    );
    assert!(
        bench.api.pod("p").is_some(),
        "a pod that has ended stays until someone deletes it"
    );
    bench.api.delete_pod("p", None);
    bench.until_gone("p").await;
    bench.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_sandbox_is_made_anew_with_its_containers() {
    let bench = Bench::start("lost").await;
    bench.api.put(pod("p", json!({}), json!({})));
    bench.until_ready("p").await;
    bench.runtime.lose_sandboxes();
    let restarted =
        |pod: &k8s_openapi::api::core::v1::Pod| first_status(pod)["restartCount"] == 1 && is_ready(pod);
    let pod = bench.until("p", "a new sandbox", restarted).await;
    let ip = pod.status.unwrap().pod_ip.unwrap();
    let runs = bench.runtime.runs();
    assert_eq!(runs.len(), 2);
    assert_eq!(
        runs[1]
            .config
            .as_ref()
            .unwrap()
            .metadata
            .as_ref()
            .unwrap()
            .attempt,
        1
    );
    assert_ne!(ip, "10.244.0.5", "the address is that of the lost sandbox");
}

#[tokio::test(start_paused = true)]
async fn sandboxes_that_cannot_be_made_are_tried_again() {
    let bench = Bench::start("sandbox").await;
    bench.runtime.fail_sandboxes(3);
    bench.api.put(pod("p", json!({}), json!({})));
    bench.until_ready("p").await;
    let wanted = "Warning FailedCreatePodSandBox|Failed to create pod sandbox: rpc error: code = Unknown desc = no address is left|";
    assert_eq!(
        bench
            .api
            .events("p")
            .iter()
            .filter(|event| *event == wanted)
            .count(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_period_shortens_the_end() {
    let bench = Bench::start("grace").await;
    bench.api.put(pod("p", json!({}), json!({})));
    bench.until_ready("p").await;
    bench.api.delete_pod("p", Some(1000));
    bench.pass(2).await;
    bench.api.delete_pod("p", Some(1));
    bench.pass(3).await;
    assert!(bench.api.pod("p").is_none(), "{:?}", bench.runtime.calls());
    bench.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn the_pre_stop_hook_comes_first_and_counts() {
    let bench = Bench::start("prestop").await;
    bench.runtime.behave(
        "c",
        Behaviour {
            on_term: Some(0),
            ..Behaviour::default()
        },
    );
    let hook = json!({"lifecycle": {"preStop": {"exec": {"command": ["sleep", "7"]}}}});
    bench.api.put(pod("p", hook, json!({})));
    bench.until_ready("p").await;
    bench.api.delete_pod("p", None);
    bench.until_gone("p").await;
    let calls = bench.runtime.calls();
    let hook = calls.iter().position(|call| call == "ExecSync c 7").unwrap();
    assert_eq!(calls[hook + 1], "StopContainer c 23");
}

#[tokio::test(start_paused = true)]
async fn status_patches_that_fail_are_made_good() {
    let bench = Bench::start("refused").await;
    bench.api.refuse_patches(4);
    bench.api.put(pod("p", json!({}), json!({})));
    bench.until_ready("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_condition_is_kept() {
    let bench = Bench::start("foreign").await;
    bench.api.put(pod(
        "p",
        json!({}),
        json!({"readinessGates": [{"conditionType": "example.com/ok"}]}),
    ));
    let gated = |pod: &k8s_openapi::api::core::v1::Pod| phase(pod) == "Running";
    let mut pod = bench.until("p", "Running", gated).await;
    assert!(!is_ready(&pod));
    let condition = serde_json::from_value(json!({"type": "example.com/ok", "status": "True"})).unwrap();
    pod.status
        .as_mut()
        .unwrap()
        .conditions
        .as_mut()
        .unwrap()
        .push(condition);
    bench.api.put(pod);
    let ready = bench.until_ready("p").await;
    let kinds: Vec<String> = ready
        .status
        .unwrap()
        .conditions
        .unwrap()
        .into_iter()
        .map(|one| one.type_)
        .collect();
    assert_eq!(kinds[0], "example.com/ok");
    assert_eq!(kinds.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_forced_deletion_ends_the_containers_too() {
    let bench = Bench::start("forced").await;
    bench.api.put(pod("p", json!({}), json!({})));
    bench.until_ready("p").await;
    bench.api.delete_pod("p", Some(0));
    bench.until_clean().await;
    assert!(bench.runtime.calls().contains(&"StopContainer c 30".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_volume_is_named_in_an_event_and_starts_nothing() {
    let bench = Bench::start("iscsi").await;
    let disk = json!({"targetPortal": "s", "iqn": "i", "lun": 0});
    let spec = json!({"volumes": [{"name": "v", "iscsi": disk}]});
    bench.api.put(pod("p", json!({}), spec));
    bench.pass(3).await;
    let wanted = "Warning FailedMount|MountVolume.SetUp failed for volume \"v\" : unsupported volume: iscsi|";
    assert!(
        bench.api.events("p").iter().any(|event| event == wanted),
        "{:?}",
        bench.api.events("p")
    );
    assert!(bench.runtime.calls().is_empty());
    bench.api.delete_pod("p", None);
    bench.until_gone("p").await;
    bench.until_clean().await;
}

#[tokio::test(start_paused = true)]
async fn host_names_are_overridden_or_too_long() {
    let bench = Bench::start("hostnames").await;
    let other = json!({"hostname": "h", "subdomain": "s", "hostnameOverride": "web.example.com"});
    bench.api.put(pod("other", json!({}), other));
    bench.until_ready("other").await;
    let config = bench.runtime.runs()[0].config.clone().unwrap();
    assert_eq!(config.hostname, "web.example.com");
    let long = json!({"subdomain": "s".repeat(40), "setHostnameAsFQDN": true});
    bench.api.put(pod("long", json!({}), long));
    bench.pass(5).await;
    let events = bench.api.events("long");
    let told = events
        .iter()
        .any(|event| event.contains("is too long (64 characters is the max"));
    assert!(told, "{events:?}");
    assert_eq!(bench.runtime.runs().len(), 1, "no sandbox is made");
}
