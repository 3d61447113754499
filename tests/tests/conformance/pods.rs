//! The pods at work.

use knode_e2e::{BOUND, Cluster, kubectl};
use knode_testkit::{image, wait_until};
use serde_json::{Value, json};

use super::cases;

fn with_images(mut cluster: Cluster) -> Cluster {
    cluster.start(&[]);
    cluster.import_busybox("busybox:test");
    let archive = cluster.scratch.join("words.tar");
    let words = image::busybox()
        .name("words:test")
        .set("Entrypoint", json!(["echo", "entry"]));
    words.cmd(&["default"]).build().write_oci(&archive);
    cluster.import(&archive).ok();
    cluster
}

#[test]
fn pods_behave_as_conformance_asks() {
    pods_behave(&with_images(Cluster::machine("conformance")));
}

#[test]
fn the_same_over_containerd() {
    pods_behave(&with_images(Cluster::over_containerd("conformance-cd")));
}

fn pods_behave(cluster: &Cluster) {
    let cases = cases::all();
    cluster.apply(&cases::objects().to_string()).ok();
    let pods: Vec<Value> = cases
        .iter()
        .map(|case| pod(case.name, "ends", &case.spec))
        .collect();
    let pods = pods.into_iter().chain(statuses(cluster));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods.collect::<Vec<_>>()});
    cluster.apply(&list.to_string()).ok();
    all_end_and_say_what_they_see(cluster, &cases);
    termination_messages_are_shown(cluster);
    paths_out_of_a_volume_are_refused(cluster);
    probes_decide_on_readiness_and_restarts(cluster);
    a_deadline_may_come_later(cluster);
    hooks_run_at_the_beginning_and_at_the_end(cluster);
    quality_of_service_follows_from_resources(cluster);
    pods_go_together(cluster);
}

fn pod(name: &str, suite: &str, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"suite": suite}}, "spec": spec})
}

fn container(script: &str, more: &Value) -> Value {
    let mut own = json!({"name": "c", "image": "busybox:test", "imagePullPolicy": "Never", "command": ["sh", "-c", script]});
    for (key, value) in more.as_object().into_iter().flatten() {
        own[key.as_str()] = value.clone();
    }
    own
}

/// Pods whose statuses are looked at.
fn statuses(cluster: &Cluster) -> Vec<Value> {
    let hooks = cluster.scratch.join("hooks");
    std::fs::create_dir(&hooks).unwrap();
    let of = |name: &str, policy: &str, script: &str, more: Value| {
        let spec = json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 2,
            "containers": [container(script, &more)]});
        pod(name, "shows", &spec)
    };
    let logs = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    let path = "/dev/termination-custom-log";
    let probe = |kind: &str, more: Value| {
        let mut probe = json!({"periodSeconds": 1, "failureThreshold": 1});
        for (key, value) in more.as_object().into_iter().flatten() {
            probe[key.as_str()] = value.clone();
        }
        json!({kind: probe})
    };
    let forever = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let healthy = |until: &str| format!("touch /tmp/health; {until} rm /tmp/health; {forever}");
    let cat = json!({"exec": {"command": ["cat", "/tmp/health"]}});
    let mut absolute = of(
        "path-absolute",
        "Never",
        "true",
        json!({
        "env": [{"name": "ABSOLUTE", "value": "/tmp"}],
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(ABSOLUTE)"}]}),
    );
    absolute["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    let mut hooked = of(
        "hooked",
        "Never",
        &format!("echo began > /v/began; {forever}"),
        json!({
        "volumeMounts": [{"name": "v", "mountPath": "/v"}], "lifecycle": {
            "postStart": {"exec": {"command": ["sh", "-c", "echo started > /v/started"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo stopping > /v/stopping"]}}}}),
    );
    hooked["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": hooks.display().to_string()}}]);
    vec![
        of(
            "message-file",
            "Never",
            &format!("printf DONE > {path}"),
            json!({"terminationMessagePath": path, "securityContext": {"runAsUser": 1000}}),
        ),
        of("message-logs", "Never", "echo DONE; exit 1", logs.clone()),
        of("message-none", "Never", "echo DONE", logs.clone()),
        of(
            "message-first",
            "Never",
            "echo no; printf OK > /dev/termination-log",
            logs,
        ),
        absolute,
        of(
            "live-fails",
            "Always",
            &healthy("sleep 1;"),
            probe("livenessProbe", cat.clone()),
        ),
        of(
            "live-holds",
            "Always",
            &healthy("sleep 1000;"),
            probe("livenessProbe", cat),
        ),
        of(
            "live-by-tcp",
            "Always",
            "exec nc -ll -p 8080 -e true",
            probe(
                "livenessProbe",
                json!({"tcpSocket": {"port": 8080}, "initialDelaySeconds": 1}),
            ),
        ),
        of(
            "ready-never",
            "Always",
            forever,
            probe("readinessProbe", json!({"exec": {"command": ["false"]}})),
        ),
        of(
            "ready-late",
            "Always",
            forever,
            probe(
                "readinessProbe",
                json!({"exec": {"command": ["true"]}, "initialDelaySeconds": 3}),
            ),
        ),
        of("deadline", "Always", forever, json!({})),
        of(
            "guaranteed",
            "Always",
            forever,
            json!({"resources": {"limits": {"cpu": "10m", "memory": "16Mi"}}}),
        ),
        hooked,
    ]
}

/// Upstream: "should be consumable …", "should provide …", "should support …", "should be able to override …".
fn all_end_and_say_what_they_see(cluster: &Cluster, cases: &[cases::Case]) {
    cluster.wait("pods -l suite=ends", |pods| {
        let open: Vec<String> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(open)
            .collect();
        if open.is_empty() {
            Ok(())
        } else {
            Err(open.join("\n"))
        }
    });
    let all = "logs -l suite=ends --all-containers --prefix --tail=-1 --max-log-requests=100";
    let logs = cluster.kubectl(all).ok();
    let mut missing = Vec::new();
    for case in cases {
        let prefix = format!("[pod/{}/", case.name);
        let own = logs
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.split_once("] "));
        let own: Vec<&str> = own.map(|(_, line)| line).collect();
        let lacking = case.says.iter().filter(|line| !own.contains(&line.as_str()));
        missing.extend(lacking.map(|line| format!("{}: no {line:?} in {own:?}", case.name)));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    let restarted = cluster.get("pod restart-all-by-rule");
    let counts = restarted["status"]["containerStatuses"].as_array().unwrap();
    assert!(
        counts.iter().all(|one| one["restartCount"] == 1),
        "{}",
        restarted["status"]
    );
    let conditions = restarted["status"]["conditions"].as_array().unwrap();
    let told = conditions
        .iter()
        .find(|one| one["type"] == "AllContainersRestarting");
    assert_eq!(
        told.map(|one| &one["reason"]),
        Some(&json!("PodCompleted")),
        "{conditions:?}"
    );
}

/// What is to be said of a pod that has not ended well.
fn open(pod: &Value) -> Option<String> {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    let told = || format!("{}: {}", pod["metadata"]["name"], pod["status"]);
    assert_ne!(phase, "Failed", "{}", told());
    (phase != "Succeeded").then(told)
}

/// Upstream: "should report termination message …".
fn termination_messages_are_shown(cluster: &Cluster) {
    for (name, wanted) in [
        ("message-file", "DONE"),
        ("message-logs", "DONE\n"),
        ("message-none", ""),
        ("message-first", "OK"),
    ] {
        cluster.wait(&format!("pod {name}"), |pod| {
            let end = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
            match end.is_object() {
                true if end["message"].as_str().unwrap_or_default() == wanted => Ok(()),
                _ => Err(pod["status"].to_string()),
            }
        });
    }
}

/// Upstream: "should fail substituting values in a volume subpath with absolute path".
fn paths_out_of_a_volume_are_refused(cluster: &Cluster) {
    cluster.wait("pod path-absolute", |pod| {
        let waits = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        match waits["reason"] == "CreateContainerConfigError" {
            true => Ok(()),
            false => Err(pod["status"].to_string()),
        }
    });
}

fn restarts(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_u64()
        .unwrap_or_default()
}

/// The second of the day of a time such as `2026-11-23T02:11:05Z`.
fn second(time: &Value) -> i64 {
    let clock = time.as_str().unwrap()[11..19].split(':');
    clock.fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap())
}

/// Upstream: "should be restarted with …", "should *not* be restarted with …", "with readiness probe …".
fn probes_decide_on_readiness_and_restarts(cluster: &Cluster) {
    cluster.wait("pod live-fails", |pod| {
        if restarts(pod) > 0 {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
    for name in ["live-holds", "live-by-tcp", "ready-late"] {
        let pod = cluster.wait_ready(&format!("pod {name}"));
        assert_eq!(restarts(&pod), 0, "{name}");
    }
    let late = cluster.get("pod ready-late");
    let began = second(&late["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]);
    let conditions = late["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|one| one["type"] == "Ready").unwrap();
    let waited = (second(&ready["lastTransitionTime"]) - began).rem_euclid(24 * 3600);
    assert!((2..3600).contains(&waited), "Ready {waited} s after its start");
    let never = cluster.get("pod ready-never");
    assert_eq!(never["status"]["containerStatuses"][0]["ready"], false);
    assert_eq!(restarts(&never), 0);
}

/// Upstream: "should allow activeDeadlineSeconds to be updated".
fn a_deadline_may_come_later(cluster: &Cluster) {
    cluster.wait_ready("pod deadline");
    let patch = r#"{"spec": {"activeDeadlineSeconds": 1}}"#;
    let arguments = ["patch", "pod", "deadline", "--patch", patch];
    cluster.kubectl_by(&kubectl::default(), &arguments).ok();
    cluster.wait("pod deadline", |pod| {
        match pod["status"]["reason"] == "DeadlineExceeded" {
            true => Ok(()),
            false => Err(pod["status"].to_string()),
        }
    });
}

/// Upstream: "should execute poststart exec hook properly", "should execute prestop exec hook properly".
fn hooks_run_at_the_beginning_and_at_the_end(cluster: &Cluster) {
    cluster.wait_ready("pod hooked");
    let hooks = cluster.scratch.join("hooks");
    let there = |name: &str| hooks.join(name).exists();
    assert!(there("began") && there("started") && !there("stopping"));
    cluster.kubectl("delete pod hooked").ok();
    assert!(there("stopping"), "no preStop hook has run");
}

/// Upstream: "should be set on Pods with matching resource requests and limits for memory and cpu".
fn quality_of_service_follows_from_resources(cluster: &Cluster) {
    let class = cluster.get("pod guaranteed")["status"]["qosClass"].clone();
    assert_eq!(class, "Guaranteed");
}

/// Upstream: "should delete a collection of pods", "should be possible to delete".
fn pods_go_together(cluster: &Cluster) {
    cluster.kubectl("delete pods -l suite --wait=false").ok();
    wait_until("all pods to be gone", BOUND, || {
        let left = cluster.try_get("pods -l suite")?;
        let names: Vec<String> = left["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| {
                format!(
                    "{}: {}",
                    pod["metadata"]["name"], pod["status"]["containerStatuses"]
                )
            })
            .collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(names.join("\n"))
        }
    });
}
