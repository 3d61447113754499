//! The kubelet's figures over the engine and over containerd, one after the other on the same machine, in one table:
//! `knode-benches pods [engine] [containerd] [NAME=COUNT …]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use knode_e2e::Cluster;
use knode_e2e::load::{self, Census, Extent, IMAGE, Times};
use kube::Client;

use super::restart::{self, OPTIONS};
use crate::processes;
use crate::report::{Figure, beside, percentile};

/// How long idle time is watched.
const IDLE: Duration = Duration::from_secs(20);
/// After a change, until the processes count as idle.
const SETTLE: Duration = Duration::from_secs(5);
/// Open files that the daemon may have more of than before: its connections to shims are made anew.
const FILES: usize = 8;

/// What is run, and how large. Without words: everything at full size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    engine: bool,
    containerd: bool,
    /// Pods one at a time.
    singles: usize,
    /// Pods at once.
    bulk: usize,
    /// Pods of a full node.
    full: usize,
    /// Pods of a node that may have more.
    many: usize,
    /// Pods in all that come and go, to see that none leaves anything.
    churn: usize,
    /// Seconds that idle time is watched.
    idle: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            engine: true,
            containerd: true,
            singles: 30,
            bulk: 50,
            full: 110,
            many: 500,
            churn: 2000,
            idle: IDLE.as_secs(),
        }
    }
}

impl Sizes {
    /// Reads the words of the command line.
    pub fn parse(words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut sizes = Self::default();
        let words: Vec<String> = words.collect();
        let named = |runtime: &str| words.iter().any(|word| word == runtime);
        if named("engine") || named("containerd") {
            sizes.engine = named("engine");
            sizes.containerd = named("containerd");
        }
        for word in words.iter().filter(|word| word.contains('=')) {
            let (name, count) = word.split_once('=').unwrap_or_default();
            let count: usize = count.parse().with_context(|| word.clone())?;
            match name {
                "singles" => sizes.singles = count,
                "bulk" => sizes.bulk = count,
                "full" => sizes.full = count,
                "many" => sizes.many = count,
                "churn" => sizes.churn = count,
                "idle" => sizes.idle = count as u64,
                _ => bail!("{name}: one of singles, bulk, full, many, churn, idle"),
            }
        }
        Ok(sizes)
    }

    fn pods(&self) -> usize {
        self.singles + self.bulk + self.full + self.many + self.churn
    }
}

/// Measures over each runtime and prints one table.
///
/// # Errors
/// When a step fails, or something is left of pods that are gone.
pub fn all(binary: &Path, sizes: &Sizes) -> anyhow::Result<()> {
    ensure!(
        binary == knode_e2e::binary().canonicalize()?,
        "name the binary by KNODE_BIN"
    );
    // One process, one TLS implementation.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut columns = Vec::new();
    let mut left = Vec::new();
    let runtimes = [
        ("engine", sizes.engine, Cluster::machine as fn(&str) -> Cluster),
        ("containerd", sizes.containerd, Cluster::over_containerd),
    ];
    for (runtime, _, machine) in runtimes.into_iter().filter(|(_, wanted, _)| *wanted) {
        let (figures, leaks) = one(sizes, machine(&format!("bench-{runtime}")))?;
        left.extend(leaks.into_iter().map(|line| format!("{runtime}: {line}")));
        columns.push((runtime, figures));
    }
    print!("{}", beside(&columns));
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}

fn one(sizes: &Sizes, mut cluster: Cluster) -> anyhow::Result<(Vec<Figure>, Vec<String>)> {
    cluster.start(&OPTIONS);
    cluster.import_busybox(IMAGE);
    let kubeconfig = PathBuf::from(cluster.kubeconfig());
    let mut run = Run {
        cluster: &cluster,
        extent: Extent::of(&cluster),
        sizes,
        figures: Vec::new(),
        left: Vec::new(),
    };
    cluster.host.block_on(async || {
        let client = knode_client::from_kubeconfig(&kubeconfig)
            .context("use the kubeconfig")?
            .client;
        crate::measure::wait_for_account(&client).await?;
        run.measure(&client).await?;
        Ok((run.figures, run.left))
    })
}

struct Run<'a> {
    cluster: &'a Cluster,
    extent: Extent<'a>,
    sizes: &'a Sizes,
    figures: Vec<Figure>,
    left: Vec<String>,
}

impl Run<'_> {
    async fn measure(&mut self, client: &Client) -> anyhow::Result<()> {
        let sizes = self.sizes.clone();
        self.singles(client).await?;
        // What the first pods open and keep is the daemon's own.
        let before = self.settled().await;
        self.idle("no pods", "≤ 0.1 %").await;
        self.put("held by an empty node", before.line(), "–");
        self.at_once(client, "bulk", sizes.bulk, Some("≤ 0.4 %")).await?;
        self.at_once(client, "full", sizes.full, Some("–")).await?;
        self.at_once(client, "many", sizes.many, None).await?;
        self.churn(client).await?;
        let after = self.settled().await;
        let text = format!("held after {} pods came and went", sizes.pods());
        self.put(text, after.line(), "as before");
        self.left.extend(after.more_than(&before, FILES));
        Ok(())
    }

    fn put(&mut self, what: impl Into<String>, measured: impl Into<String>, target: &'static str) {
        let figure = Figure::new(what, measured, target);
        // A run takes long: what there is so far is of use too.
        eprintln!("{}: {} ({})", figure.what, figure.measured, figure.target);
        self.figures.push(figure);
    }

    async fn settled(&self) -> Census {
        tokio::time::sleep(SETTLE).await;
        self.extent.census()
    }

    /// Pods of this node one after the other.
    async fn singles(&mut self, client: &Client) -> anyhow::Result<()> {
        let (mut created, mut deleted) = (Vec::new(), Vec::new());
        for n in 0..self.sizes.singles {
            let name = [format!("single-{n}")];
            created.extend(load::create(client, &name).await?.each);
            deleted.extend(load::delete(client, &name).await?.each);
        }
        for (what, mut times, target) in [
            ("one pod, create → Ready", created, "≤ 60 / – / 150 ms"),
            ("one pod, delete → gone", deleted, "–"),
        ] {
            times.sort_by(f64::total_cmp);
            self.put(format!("{what}: p50 / p90 / p99"), spread(&times), target);
        }
        Ok(())
    }

    /// So many pods at once, looked at while they run; idle time too where it has a target, and then a restart.
    async fn at_once(
        &mut self,
        client: &Client,
        name: &str,
        count: usize,
        idle: Option<&'static str>,
    ) -> anyhow::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let is_bulk = name == "bulk";
        let before = self.settled().await;
        let names: Vec<String> = (0..count).map(|n| format!("{name}-{n}")).collect();
        let created = load::create(client, &names).await?;
        let target = if is_bulk { "≤ 1.5 s" } else { "–" };
        self.together(format!("{count} pods at once, create → Ready"), &created, target);
        let held = self.settled().await;
        let each = (held.memory_mb - before.memory_mb) / count as f64;
        self.put(format!("held with {count} pods"), held.line(), "–");
        self.put(
            format!("memory of each of {count} pods"),
            format!("{each:.2} MB"),
            "≤ 1 MB",
        );
        if let Some(target) = idle {
            self.idle(&format!("{count} pods"), target).await;
        }
        if is_bulk {
            let ready = restart::after_kill(self.cluster, client).await?;
            let what = format!("killed and started with {count} pods, new pod Ready");
            self.put(what, format!("{:.2} s", ready.as_secs_f64()), "≤ 0.3 s");
        }
        let deleted = load::delete(client, &names).await?;
        let target = if is_bulk { "≤ 2 s" } else { "–" };
        self.together(format!("{count} pods at once, delete → gone"), &deleted, target);
        Ok(())
    }

    fn together(&mut self, what: String, times: &Times, target: &'static str) {
        let all = times.all.as_secs_f64();
        let text = format!("{all:.2} s; each {}", spread(&times.each));
        self.put(format!("{what}: all; p50 / p90 / p99"), text, target);
    }

    /// Pods come and go, a full node's worth at a time.
    async fn churn(&self, client: &Client) -> anyhow::Result<()> {
        let mut left = self.sizes.churn;
        while left > 0 {
            let count = left.min(self.sizes.full.clamp(1, 100));
            let names: Vec<String> = (0..count).map(|n| format!("churn-{left}-{n}")).collect();
            let created = load::create(client, &names).await?;
            let deleted = load::delete(client, &names).await?;
            left -= count;
            eprintln!(
                "{left} pods of the churn left; {:.1} s, {:.1} s",
                created.all.as_secs_f64(),
                deleted.all.as_secs_f64()
            );
        }
        Ok(())
    }

    async fn idle(&mut self, when: &str, target: &'static str) {
        let span = Duration::from_secs(self.sizes.idle);
        let pids = self.extent.programs();
        let before = processes::cpu_seconds(&pids);
        tokio::time::sleep(span).await;
        let used = (processes::cpu_seconds(&pids) - before) / span.as_secs_f64().max(1.0) * 100.0;
        let text = format!("{used:.2} % of a core");
        self.put(format!("idle, {when}"), text, target);
    }
}

fn spread(times: &[f64]) -> String {
    let of = |p| percentile(times, p);
    format!("{:.0} / {:.0} / {:.0} ms", of(50), of(90), of(99))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Sizes> {
        Sizes::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_choose_runtimes_and_sizes() {
        assert_eq!(parse("").unwrap(), Sizes::default());
        let small = parse("engine singles=2 churn=0").unwrap();
        assert!(small.engine && !small.containerd);
        assert_eq!((small.singles, small.churn, small.bulk), (2, 0, 50));
        assert!(parse("pods=1").is_err() && parse("bulk=x").is_err());
    }
}
