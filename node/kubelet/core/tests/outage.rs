//! An hour without an API server, on virtual time: kubelets that begin in it, and pods that end in it.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::runtime::Behaviour;
use common::{Bench, first_status, is_ready, pod};
use k8s_openapi::api::core::v1::{Pod, Secret};
use serde_json::json;

const HOUR: u64 = 3600;

/// A pod with all that is renewed or asked for again and again.
fn steady(name: &str) -> Pod {
    let probe = |word: &str| json!({"exec": {"command": [word]}, "periodSeconds": 10});
    let token = json!({"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}});
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
