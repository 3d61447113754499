//! What is measured, in order.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

use crate::cluster::Cluster;
use crate::report::{Figure, percentile, table};
use crate::{pods, processes};

/// Pods of the latency measurement, one at a time.
const SINGLES: usize = 30;
/// Pods of the bulk measurement.
const BULK: usize = 50;
/// How long idle time is watched.
const IDLE: Duration = Duration::from_secs(20);
/// After a change, until the processes count as idle.
const SETTLE: Duration = Duration::from_secs(5);

/// Measures everything and prints the table.
pub async fn all(binary: &Path) -> anyhow::Result<()> {
    // One process, one TLS implementation.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut figures = Vec::new();
    let size = std::fs::metadata(binary).context("the binary's size")?.len();
    figures.push(Figure::new(
        "binary, stripped",
        format!("{:.1} MB", size as f64 / 1e6),
        "≤ 35 MB",
    ));
    let (cluster, start) = Cluster::start(binary)?;
    figures.push(Figure::new(
        "knode up, nothing there → node Ready",
        seconds(start),
        "–",
    ));
    let client = knode_client::from_kubeconfig(&cluster.kubeconfig())
        .context("use the kubeconfig")?
        .client;
    wait_for_account(&client).await?;
    idle(binary, "0 pods", &mut figures, "≤ 90 MB", "≤ 0.5 %").await?;
    let empty = processes::pss_mb(&processes::ours(binary)?);
    singles(&client, &mut figures).await?;
    let bulk = pods::create(&client, "bulk", BULK).await?;
    figures.push(Figure::new(
        format!("{BULK} pods at once → all Ready"),
        seconds(bulk),
        "≤ 4 s",
    ));
    idle(binary, "50 pods", &mut figures, "–", "≤ 0.5 %").await?;
    let full = processes::pss_mb(&processes::ours(binary)?);
    let each = (full - empty) / BULK as f64;
    figures.push(Figure::new(
        "memory for each pod (PSS)",
        format!("{each:.2} MB"),
        "≤ 2 MB",
    ));
    let deleted = pods::delete(&client).await?;
    figures.push(Figure::new(
        format!("delete {BULK} pods, grace 1 s"),
        seconds(deleted),
        "–",
    ));
    print!("{}", table(&figures));
    Ok(())
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Pods are refused until their namespace has its service account.
pub async fn wait_for_account(client: &Client) -> anyhow::Result<()> {
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    let there = async {
        while accounts.get_opt("default").await?.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), there)
        .await
        .context("no default service account")?
}

async fn idle(
    binary: &Path,
    when: &str,
    figures: &mut Vec<Figure>,
    memory: &'static str,
    cpu: &'static str,
) -> anyhow::Result<()> {
    tokio::time::sleep(SETTLE).await;
    let used = processes::idle_cpu(binary, IDLE).await?;
    let pids = processes::ours(binary)?;
    let mb = processes::pss_mb(&pids);
    figures.push(Figure::new(
        format!("memory, all our processes, {when} (PSS)"),
        format!("{mb:.1} MB"),
        memory,
    ));
    figures.push(Figure::new(
        format!("idle, {when}"),
        format!("{used:.2} % of a core"),
        cpu,
    ));
    Ok(())
}

async fn singles(client: &Client, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for n in 0..SINGLES {
        let taken = pods::create(client, &format!("single{n}"), 1).await?;
        times.push(taken.as_secs_f64() * 1e3);
        pods::delete(client).await?;
    }
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    let text = format!("{p50:.0} / {p99:.0} ms");
    figures.push(Figure::new(
        "one pod, create → Ready, image present: p50 / p99",
        text,
        "p50 ≤ 150 ms",
    ));
    Ok(())
}
