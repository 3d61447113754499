//! The kubelet's figures over the engine and over containerd, one after the other on the same machine:
//! `knode-benches pods [engine] [containerd] [NAME=COUNT …]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use knode_e2e::Cluster;
use knode_testkit::image;
use kube::Client;

use super::census::Census;
use super::timed::{self, IMAGE, Times};
use crate::processes;
use crate::report::{Figure, percentile, table};

/// How long idle time is watched.
const IDLE: Duration = Duration::from_secs(20);
/// After a change, until the processes count as idle.
const SETTLE: Duration = Duration::from_secs(5);

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
}

/// Measures over each runtime and prints a table for each.
pub fn all(binary: &Path, sizes: &Sizes) -> anyhow::Result<()> {
    // One process, one TLS implementation.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if sizes.engine {
        one("engine", binary, sizes, Cluster::machine("bench-engine"))?;
    }
    if sizes.containerd {
        one("containerd", binary, sizes, Cluster::over_containerd("bench-cd"))?;
    }
    Ok(())
}

fn one(runtime: &str, binary: &Path, sizes: &Sizes, mut cluster: Cluster) -> anyhow::Result<()> {
    let most = sizes.full.max(sizes.many).max(110).to_string();
    cluster.start(&["--max-pods", &most, "--node-cidr-mask-size-ipv4", "21"]);
    let archive = cluster.scratch.join("bench.tar");
    image::busybox().name(IMAGE).build().write_oci(&archive);
    cluster.import(&archive).ok();
    let kubeconfig = cluster.kubeconfig();
    let run = Run {
        cluster: &cluster,
        programs: programs(runtime, binary)?,
        sizes,
    };
    let figures = cluster.host.block_on(async || {
        let client = knode_client::from_kubeconfig(Path::new(&kubeconfig))
            .context("use the kubeconfig")?
            .client;
        run.measure(&client).await
    });
    println!("\n{runtime}\n\n{}", table(&figures?));
    Ok(())
}

/// The programs that make up a node: its memory and its processor time are theirs.
fn programs(runtime: &str, binary: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = vec![binary.to_owned()];
    if runtime == "containerd" {
        for name in ["/usr/bin/containerd", "/usr/bin/containerd-shim-runc-v2"] {
            all.push(Path::new(name).canonicalize().with_context(|| name.to_owned())?);
        }
    }
    Ok(all)
}

struct Run<'a> {
    cluster: &'a Cluster,
    programs: Vec<PathBuf>,
    sizes: &'a Sizes,
}

impl Run<'_> {
    async fn measure(&self, client: &Client) -> anyhow::Result<Vec<Figure>> {
        crate::measure::wait_for_account(client).await?;
        let mut figures = Vec::new();
        let before = self.settled().await?;
        self.idle("0 pods", &mut figures).await?;
        self.singles(client, &mut figures).await?;
        for (what, count) in [("bulk", self.sizes.bulk), ("full", self.sizes.full)] {
            self.at_once(client, what, count, true, &mut figures).await?;
        }
        if self.sizes.many > 0 {
            self.at_once(client, "many", self.sizes.many, false, &mut figures)
                .await?;
        }
        self.churn(client).await?;
        let after = self.settled().await?;
        figures.push(Figure::new("held before", before.line(), "–"));
        let text = format!("held after {} pods came and went", self.pods());
        figures.push(Figure::new(text, after.line(), "as before"));
        Ok(figures)
    }

    fn pods(&self) -> usize {
        let Sizes {
            singles,
            bulk,
            full,
            many,
            churn,
            ..
        } = self.sizes;
        singles + bulk + full + many + churn
    }

    fn pids(&self) -> anyhow::Result<Vec<u32>> {
        let (own, others) = self.programs.split_at(1);
        let mut all = processes::ours(&own[0])?;
        // The machine may have a containerd of its own.
        let marker = self.cluster.scratch.path().display().to_string();
        for program in others {
            let found = processes::ours(program)?.into_iter();
            all.extend(found.filter(|pid| processes::mentions(*pid, &marker)));
        }
        Ok(all)
    }

    async fn settled(&self) -> anyhow::Result<Census> {
        tokio::time::sleep(SETTLE).await;
        Ok(Census::take(
            &self.cluster.host,
            &self.pids()?,
            self.cluster.pid(),
        ))
    }

    /// Pods of this node one after the other.
    async fn singles(&self, client: &Client, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let (mut created, mut deleted) = (Vec::new(), Vec::new());
        for n in 0..self.sizes.singles {
            let name = [format!("single-{n}")];
            created.extend(timed::create(client, &name).await?.each);
            deleted.extend(timed::delete(client, &name).await?.each);
        }
        for (what, mut times, target) in [
            ("one pod, create → Ready", created, "≤ 60 / – / 150 ms"),
            ("one pod, delete → gone", deleted, "–"),
        ] {
            times.sort_by(f64::total_cmp);
            figures.push(Figure::new(
                format!("{what}: p50 / p90 / p99"),
                spread(&times),
                target,
            ));
        }
        Ok(())
    }

    /// So many pods at once, looked at while they run.
    async fn at_once(
        &self,
        client: &Client,
        name: &str,
        count: usize,
        with_idle: bool,
        figures: &mut Vec<Figure>,
    ) -> anyhow::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let names: Vec<String> = (0..count).map(|n| format!("{name}-{n}")).collect();
        let created = timed::create(client, &names).await?;
        figures.push(together(
            format!("{count} pods at once, create → Ready"),
            &created,
            "50: ≤ 1.5 s",
        ));
        let held = self.settled().await?;
        figures.push(Figure::new(format!("held with {count} pods"), held.line(), "–"));
        if with_idle {
            self.idle(&format!("{count} pods"), figures).await?;
        }
        let deleted = timed::delete(client, &names).await?;
        figures.push(together(
            format!("{count} pods at once, delete → gone"),
            &deleted,
            "50: ≤ 2 s",
        ));
        Ok(())
    }

    /// Pods come and go, a full node's worth at a time.
    async fn churn(&self, client: &Client) -> anyhow::Result<()> {
        let mut left = self.sizes.churn;
        while left > 0 {
            let count = left.min(self.sizes.full.max(1));
            let names: Vec<String> = (0..count).map(|n| format!("churn-{left}-{n}")).collect();
            timed::create(client, &names).await?;
            timed::delete(client, &names).await?;
            left -= count;
        }
        Ok(())
    }

    async fn idle(&self, when: &str, figures: &mut Vec<Figure>) -> anyhow::Result<()> {
        let span = Duration::from_secs(self.sizes.idle);
        let pids = self.pids()?;
        let before = processes::cpu_seconds(&pids);
        tokio::time::sleep(span).await;
        let used = (processes::cpu_seconds(&pids) - before) / span.as_secs_f64().max(1.0) * 100.0;
        let text = format!("{used:.2} % of a core");
        figures.push(Figure::new(format!("idle, {when}"), text, "50 pods: ≤ 0.4 %"));
        Ok(())
    }
}

fn spread(times: &[f64]) -> String {
    let of = |p| percentile(times, p);
    format!("{:.0} / {:.0} / {:.0} ms", of(50), of(90), of(99))
}

fn together(what: String, times: &Times, target: &'static str) -> Figure {
    let all = times.all.as_secs_f64();
    let text = format!("{all:.2} s; each {}", spread(&times.each));
    Figure::new(format!("{what}: all; p50 / p90 / p99"), text, target)
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
