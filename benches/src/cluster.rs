//! One `knode up` for the time of the measurement.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use knode_testkit::Scratch;

/// The machine's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// A running cluster; dropping it ends it and removes its data.
pub struct Cluster {
    binary: PathBuf,
    scratch: Scratch,
}

impl Cluster {
    /// Starts one; the time until its node was Ready.
    pub fn start(binary: &Path) -> anyhow::Result<(Self, Duration)> {
        let cluster = Self {
            binary: binary.to_owned(),
            scratch: Scratch::new("bench"),
        };
        let started = Instant::now();
        cluster.up()?;
        Ok((cluster, started.elapsed()))
    }

    /// Starts the daemon, for the first time or again; returns when the node is Ready.
    pub fn up(&self) -> anyhow::Result<()> {
        let kubeconfig = self.kubeconfig();
        let mut command = self.command(&["up", "--background"]);
        command.arg("--write-kubeconfig").arg(&kubeconfig).args([
            "--node-name",
            "bench",
            "--eviction-hard=nodefs.available<1%,imagefs.available<1%",
        ]);
        let output = command.output().context("start knode")?;
        ensure!(
            output.status.success(),
            "knode up: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(words)
            .arg("--data-dir")
            .arg(self.scratch.join("data"));
        command
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.scratch.join("admin.kubeconfig")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        match self.command(&["down", "--purge"]).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("knode down: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("knode down: {error}"),
        }
    }
}
