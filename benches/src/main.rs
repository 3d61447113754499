//! Measures the real binary beside its targets: `make bench`.
//!
//! The cluster runs in a network namespace without a way out. This program makes the namespace, starts itself again
//! inside, and there starts, measures and ends a cluster.

mod cluster;
mod engine;
mod measure;
mod network;
mod pods;
mod processes;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};

/// Names the measurement of the pod network between hosts.
const NETWORK: &str = "network";
/// Names the measurement of pods over the engine and over containerd.
const PODS: &str = "pods";
/// Names the measurement of the engine beside containerd; `small` after it takes less time, `alone` leaves containerd
/// out.
const ENGINE: &str = "engine";
/// Names the part that runs inside the namespace.
const INSIDE: &str = "inside";

fn main() -> anyhow::Result<ExitCode> {
    let binary =
        std::env::var_os("KNODE_BIN").map_or_else(|| PathBuf::from("target/release/knode"), PathBuf::from);
    let binary = binary
        .canonicalize()
        .with_context(|| format!("no binary at {}: run `make build`", binary.display()))?;
    if std::env::args().nth(1).as_deref() == Some(INSIDE) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(measure::all(&binary))?;
        return Ok(ExitCode::SUCCESS);
    }
    if std::env::args().nth(1).as_deref() == Some(NETWORK) {
        network::all(&binary)?;
        return Ok(ExitCode::SUCCESS);
    }
    if std::env::args().nth(1).as_deref() == Some(PODS) {
        let sizes = pods::compare::Sizes::parse(std::env::args().skip(2))?;
        pods::compare::all(&binary, &sizes)?;
        return Ok(ExitCode::SUCCESS);
    }
    if std::env::args().nth(1).as_deref() == Some(ENGINE) {
        let asked = |word: &str| std::env::args().skip(2).any(|given| given == word);
        engine::all(&binary, asked("small"), asked("alone"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let lan = knode_testkit::Lan::new();
    let host = lan.host("bench", cluster::ADDRESS, 24);
    let this = std::env::current_exe().context("find this program")?;
    let status = host
        .command(this)
        .arg(INSIDE)
        .env("KNODE_BIN", &binary)
        .status()
        .context("start again inside")?;
    ensure!(status.success(), "the measurement failed: {status}");
    Ok(ExitCode::SUCCESS)
}
