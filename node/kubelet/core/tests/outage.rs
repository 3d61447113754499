//! An hour without an API server, on virtual time: kubelets that begin in it, and pods that end in it.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::runtime::Behaviour;
use common::{Bench, first_status, is_ready, pod};
use k8s_openapi::api::core::v1::{Pod, Secret};
use serde_json::json;

const HOUR: u64 = 3600;

/// A pod with all that is renewed or asked for again and again.
fn steady(name: &str) -> Pod {
    let probe = |word: &str| json!({"exec": {"command": [word]}, "periodSeconds": 10});
    let token = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 4400}});
    let mounts = json!([{"name": "known", "mountPath": "/known"}, {"name": "token", "mountPath": "/token"}]);
    pod(
        name,
        json!({"livenessProbe": probe("live"), "readinessProbe": probe("ready"), "volumeMounts": mounts}),
        json!({"serviceAccountName": "default", "volumes": [
            {"name": "known", "secret": {"secretName": "known"}},
            {"name": "token", "projected": {"sources": [token]}}]}),
    )
}

async fn begin(name: &str) -> Bench {
    let bench = Bench::start(name).await;
    let secret = json!({"data": {"word": "c3dvcmRmaXNo"}});
    bench
        .api
        .put_secret("known", serde_json::from_value::<Secret>(secret).unwrap());
    bench
}

/// A kubelet that begins while nobody tells it of its pods leaves them alone, and goes on where it was told to stop.
#[tokio::test(start_paused = true)]
async fn a_kubelet_that_begins_in_an_outage_leaves_pods_alone() {
    let mut bench = begin("begins").await;
    bench.api.put(steady("stays"));
    bench.api.put(pod(
        "goes",
        json!({}),
        json!({"terminationGracePeriodSeconds": 1}),
    ));
    let before = bench.until_ready("stays").await;
    bench.until_ready("goes").await;
    bench.stop_kubelet().await;
    bench.api.delete_pod("goes", None);
    bench.api.go_offline();
    let calls = bench.runtime.calls().len();
    bench.start_kubelet().await;
    bench.pass(HOUR).await;
    assert_eq!(
        bench.runtime.calls().split_off(calls),
        Vec::<String>::new(),
        "nobody told it to"
    );
    assert!(!bench.kubelet().is_synced());
    bench.api.go_online();
    bench.until_gone("goes").await;
    bench.pass(60).await;
    let after = bench.api.pod("stays").unwrap();
    assert!(is_ready(&after));
    assert_eq!(after, before, "a restart wrote something");
}

/// What ends while there is nobody to tell is told later: a pod that has run to its end, and one that was to go.
#[tokio::test(start_paused = true)]
async fn ends_in_an_outage_are_told_later() {
    let bench = begin("ends").await;
    let once = Behaviour {
        exit: Some((Duration::from_secs(100), 0)),
        reason: Some("Completed"),
        ..Behaviour::default()
    };
    bench.runtime.behave("once", once);
    bench.api.put(pod(
        "job",
        json!({"name": "once"}),
        json!({"restartPolicy": "Never"}),
    ));
    bench.api.put(pod(
        "goes",
        json!({}),
        json!({"terminationGracePeriodSeconds": 20}),
    ));
    bench
        .until("job", "running", |pod| first_status(pod)["ready"] == true)
        .await;
    bench.until_ready("goes").await;
    bench.api.delete_pod("goes", None);
    bench.pass(1).await;
    bench.api.go_offline();
    bench.pass(HOUR).await;
    assert!(bench.api.pod("goes").is_some(), "nobody could be told");
    bench.api.go_online();
    bench
        .until("job", "Succeeded", |pod| common::phase(pod) == "Succeeded")
        .await;
    bench.until_gone("goes").await;
}

const STEADY: usize = 24;
const CRASHING: usize = 16;

fn names() -> (Vec<String>, Vec<String>) {
    let all = |word: &str, count: usize| (0..count).map(|one| format!("{word}-{one}")).collect();
    (all("steady", STEADY), all("crashes", CRASHING))
}

/// The most requests in any second since then.
fn busiest(bench: &Bench, since: tokio::time::Instant) -> usize {
    let mut seconds = BTreeMap::<u64, usize>::new();
    for at in bench.api.requests().into_iter().filter(|at| *at >= since) {
        *seconds.entry((at - since).as_secs()).or_default() += 1;
    }
    seconds.into_values().max().unwrap_or(0)
}

fn token_of(bench: &Bench, pod: &str) -> String {
    let path = format!("kubelet/pods/uid-{pod}/volumes/kubernetes.io~projected/token/token");
    std::fs::read_to_string(bench.root.join(path)).unwrap()
}

fn restarts(pod: &Pod) -> u64 {
    first_status(pod)["restartCount"].as_u64().unwrap()
}

/// Waits until a container has been started that was not before.
async fn next_start(bench: &Bench) {
    let starts = || {
        let calls = bench.runtime.calls();
        calls
            .iter()
            .filter(|call| call.starts_with("StartContainer"))
            .count()
    };
    let before = starts();
    for _ in 0..400 {
        if starts() > before {
            return;
        }
        bench.pass(1).await;
    }
    panic!("nothing was started again: {:?}", bench.runtime.calls().last());
}

/// An hour without an API server: what runs goes on, with its secrets and tokens, what crashes is started again; hardly
/// anybody asks, and afterwards each pod says once what has happened, one after the other.
#[tokio::test(start_paused = true)]
async fn an_hour_without_an_api_server_ends_without_a_storm() {
    let bench = begin("hour").await;
    let crash = Behaviour {
        exit: Some((Duration::from_secs(100), 1)),
        reason: Some("Error"),
        ..Behaviour::default()
    };
    bench.runtime.behave("crash", crash);
    let (steady_pods, crashing) = names();
    steady_pods.iter().for_each(|name| bench.api.put(steady(name)));
    for name in &crashing {
        bench.api.put(pod(name, json!({"name": "crash"}), json!({})));
    }
    for name in steady_pods.iter().chain(&crashing) {
        bench.until_ready(name).await;
    }
    bench.pass(20).await;
    let known: Vec<Pod> = steady_pods
        .iter()
        .map(|name| bench.api.pod(name).unwrap())
        .collect();
    let (patches, tokens) = (|name: &String| bench.api.patches(name).len(), bench.api.tokens());
    let told: Vec<usize> = crashing.iter().map(patches).collect();

    bench.api.go_offline();
    let gone = tokio::time::Instant::now();
    bench.pass(HOUR).await;
    next_start(&bench).await;
    bench.pass(10).await;
    let asked = bench.api.requests().into_iter().filter(|at| *at >= gone).count();
    let hours = gone.elapsed().as_secs() as usize;
    assert!(
        asked <= CRASHING * hours / 10 + STEADY * hours / 60,
        "{asked} requests in vain"
    );
    // What crashes together tries together once.
    let later = gone + Duration::from_secs(200);
    assert!(
        busiest(&bench, later) <= 10,
        "{} in a second",
        busiest(&bench, later)
    );
    for name in &steady_pods {
        assert!(token_of(&bench, name).starts_with("token "), "{name}");
        let word = format!("kubelet/pods/uid-{name}/volumes/kubernetes.io~secret/known/word");
        assert_eq!(
            std::fs::read_to_string(bench.root.join(word)).unwrap(),
            "swordfish"
        );
    }
    assert_eq!(bench.api.tokens(), tokens, "nobody gave any");
    let held: Vec<String> = steady_pods.iter().map(|name| token_of(&bench, name)).collect();

    bench.api.go_online();
    let back = tokio::time::Instant::now();
    bench.pass(20).await;
    for (name, told) in crashing.iter().zip(told) {
        let pod = bench.api.pod(name).unwrap();
        assert!(restarts(&pod) > 8, "{name}: {}", restarts(&pod));
        assert_eq!(
            bench.api.patches(name).len(),
            told + 1,
            "{name}: one patch tells all"
        );
        let here = bench.kubelet().pod("rec", name).unwrap().pod;
        assert_eq!(here.status, pod.status, "{name}");
    }
    assert!(
        busiest(&bench, back) <= 10,
        "{} in a second",
        busiest(&bench, back)
    );
    bench.pass(80).await;
    assert_eq!(bench.api.tokens(), tokens + STEADY as u32, "each pod's once");
    for ((name, known), held) in steady_pods.iter().zip(known).zip(held) {
        assert_eq!(bench.api.pod(name).unwrap(), known, "nothing had happened to it");
        assert_ne!(token_of(&bench, name), held);
    }
}

/// Two hundred watches that lost their server together look for it seldom, and are all back within a minute, never
/// more than a few at a time.
#[test]
fn watches_come_back_one_after_the_other() {
    use knode_client::{Backoff, Retry};
    let mut back = BTreeMap::<u64, usize>::new();
    for _ in 0..200 {
        let (mut retry, mut at, mut tries) = (Retry::new(Backoff::API), Duration::ZERO, 0);
        while at < Duration::from_secs(HOUR) {
            at += retry.failed();
            tries += 1;
        }
        assert!(tries < 130, "{tries} tries");
        *back.entry(at.as_secs()).or_default() += 1;
    }
    let last = back.keys().last().unwrap();
    assert!(*last < HOUR + 61, "{last}");
    assert!(back.values().all(|count| *count < 30), "{back:?}");
}
