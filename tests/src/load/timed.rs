//! Pods created and deleted through the API, each timed by what a watch says of it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::json;

/// The image of the pods, which the runtime must have.
pub const IMAGE: &str = "busybox:load";
const LABEL: &str = "knode-load=yes";
/// Requests that are open at once.
const PARALLEL: usize = 16;
/// How long all of them together may take.
const BOUND: Duration = Duration::from_secs(360);

/// Times in milliseconds, sorted, and how long all took together.
#[derive(Clone, Debug)]
pub struct Times {
    /// Of each pod, from its request to the event that it is done.
    pub each: Vec<f64>,
    /// From the first request to the last event.
    pub all: Duration,
}

/// A pod as small as can be, which ends as soon as it is asked to.
fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"knode-load": "yes"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "c",
                "image": IMAGE,
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 86400 & wait"],
            }],
        },
    }))
    .expect("a constant object of the pod's shape")
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Creates these pods at once and waits until each is Ready.
///
/// # Errors
/// When a request is refused, or not all are Ready in time.
pub async fn create(client: &Client, names: &[String]) -> anyhow::Result<Times> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let post = async |name: &String| {
        let asked = Instant::now();
        pods.create(&PostParams::default(), &pod(name)).await?;
        Ok((name.clone(), asked))
    };
    let is_done = |event: &WatchEvent<Pod>| match event {
        WatchEvent::Modified(pod) | WatchEvent::Added(pod) if is_ready(pod) => pod.metadata.name.clone(),
        _ => None,
    };
    timed(&pods, names, post, is_done).await.context("create")
}

/// Deletes these pods at once and waits until each is gone.
///
/// # Errors
/// When a request is refused, or not all are gone in time.
pub async fn delete(client: &Client, names: &[String]) -> anyhow::Result<Times> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let drop = async |name: &String| {
        let asked = Instant::now();
        pods.delete(name, &DeleteParams::default()).await?;
        Ok((name.clone(), asked))
    };
    let is_done = |event: &WatchEvent<Pod>| match event {
        WatchEvent::Deleted(pod) => pod.metadata.name.clone(),
        _ => None,
    };
    timed(&pods, names, drop, is_done).await.context("delete")
}

async fn timed(
    pods: &Api<Pod>,
    names: &[String],
    ask: impl AsyncFn(&String) -> kube::Result<(String, Instant)>,
    is_done: impl Fn(&WatchEvent<Pod>) -> Option<String>,
) -> anyhow::Result<Times> {
    let seen = pods.list(&ListParams::default().labels(LABEL).limit(1)).await?;
    let version = seen.metadata.resource_version.unwrap_or_default();
    let wanted = WatchParams::default().labels(LABEL);
    let mut events = pods.watch(&wanted, &version).await?.boxed();
    let started = Instant::now();
    let asking = async {
        let all = futures::stream::iter(names)
            .map(|name| ask(name))
            .buffer_unordered(PARALLEL);
        anyhow::Ok(all.try_collect::<HashMap<_, _>>().await?)
    };
    let mut done = HashMap::new();
    let watching = async {
        while done.len() < names.len() {
            let event = events.try_next().await?.context("the watch ended")?;
            if let WatchEvent::Error(error) = &event {
                bail!("the watch ended: {error:?}");
            }
            if let Some(name) = is_done(&event) {
                done.entry(name).or_insert_with(Instant::now);
            }
        }
        Ok(())
    };
    let both = async { tokio::try_join!(asking, watching) };
    let asked = match tokio::time::timeout(BOUND, both).await {
        Ok(both) => both?.0,
        Err(_) => bail!("{} of {} are done after {BOUND:?}", done.len(), names.len()),
    };
    let since = |(name, at): (&String, &Instant)| {
        let asked = asked.get(name)?;
        Some(at.saturating_duration_since(*asked).as_secs_f64() * 1e3)
    };
    let mut each: Vec<f64> = done.iter().filter_map(since).collect();
    each.sort_by(f64::total_cmp);
    Ok(Times {
        each,
        all: started.elapsed(),
    })
}
