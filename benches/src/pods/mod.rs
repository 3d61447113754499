//! Pods created, watched and deleted through the API, timed at the client.

pub mod compare;
mod restart;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::json;

/// The image that every knode carries.
pub const IMAGE: &str = concat!("localhost/knode/web:", env!("CARGO_PKG_VERSION"));
const LABEL: &str = "knode-bench=yes";
const BOUND: Duration = Duration::from_secs(120);

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"knode-bench": "yes"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "web", "image": IMAGE, "imagePullPolicy": "Never"}],
        },
    }))
    .expect("a constant object of the pod's shape")
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Creates `count` pods at once; the time from the first create request to the last watch event Ready.
pub async fn create(client: &Client, prefix: &str, count: usize) -> anyhow::Result<Duration> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let seen = pods
        .list(&ListParams::default().labels(LABEL))
        .await
        .context("list")?;
    let version = seen.metadata.resource_version.unwrap_or_default();
    let started = Instant::now();
    let wanted = WatchParams::default().labels(LABEL);
    let mut events = pods.watch(&wanted, &version).await.context("watch")?.boxed();
    let creating = async {
        let create = |i| {
            let pods = pods.clone();
            async move {
                pods.create(&PostParams::default(), &pod(&format!("{prefix}-{i}")))
                    .await
                    .map(drop)
            }
        };
        futures::stream::iter(0..count)
            .map(create)
            .buffer_unordered(16)
            .try_collect::<()>()
            .await
            .context("create")
    };
    let watching = async {
        let mut done = HashSet::new();
        while done.len() < count {
            match events
                .try_next()
                .await
                .context("watch")?
                .context("the watch ended")?
            {
                WatchEvent::Modified(p) if ready(&p) => done.insert(p.metadata.name.unwrap_or_default()),
                _ => false,
            };
        }
        anyhow::Ok(started.elapsed())
    };
    let both = async { tokio::try_join!(creating, watching) };
    let ((), elapsed) = tokio::time::timeout(BOUND, both)
        .await
        .context("pods not Ready in time")??;
    Ok(elapsed)
}

/// Deletes every pod of ours; the time until none is left.
pub async fn delete(client: &Client) -> anyhow::Result<Duration> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let ours = ListParams::default().labels(LABEL);
    let started = Instant::now();
    pods.delete_collection(&DeleteParams::default(), &ours)
        .await
        .context("delete")?;
    loop {
        let left = pods.list(&ours).await.context("list")?.items.len();
        if left == 0 {
            return Ok(started.elapsed());
        }
        ensure!(started.elapsed() < BOUND, "{left} pods are still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
