//! A daemon that is killed and started again, until it has made a new pod Ready.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use knode_e2e::{BOUND, Cluster, load};
use kube::api::ListParams;
use kube::{Api, Client};

/// What the cluster is started with, the first time and again.
pub const OPTIONS: [&str; 4] = ["--max-pods", "520", "--node-cidr-mask-size-ipv4", "21"];
const NEW: &str = "after-the-kill";

/// Kills the daemon, starts it, and asks for a pod until it is Ready: the time since the start.
///
/// # Errors
/// When a pod was restarted, or the new one is not Ready in time.
pub async fn after_kill(cluster: &Cluster, client: &Client) -> anyhow::Result<Duration> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    cluster.kill();
    let mut command = cluster.up_command(&OPTIONS);
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start again")?;
    let new = [NEW.to_owned()];
    let ready = loop {
        match load::create(client, &new).await {
            Ok(_) => break started.elapsed(),
            Err(error) => ensure!(started.elapsed() < BOUND, "the new pod: {error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    load::delete(client, &new).await?;
    let status = child.wait().context("the start")?;
    ensure!(status.success(), "the start: {status}");
    let all = pods.list(&ListParams::default()).await.context("list")?.items;
    let statuses = all
        .iter()
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|status| {
            let containers = status.container_statuses.iter().flatten();
            containers.map(|one| one.restart_count)
        });
    let restarted: i32 = statuses.sum();
    ensure!(restarted == 0, "{restarted} containers were restarted");
    Ok(ready)
}
