//! Memory and processor time of every process that runs our binary.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

/// Clock ticks a second of `/proc/PID/stat` (USER_HZ, 100 on every Linux).
const TICKS: f64 = 100.0;

/// Process ids of everything that executes `binary`: the daemon and the shims, not the containers.
pub fn ours(binary: &Path) -> anyhow::Result<Vec<u32>> {
    // By the file, not by its name: shims run it on a mount where it has none.
    let identity = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let binary = identity(binary).with_context(|| format!("{}", binary.display()))?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let path = entry?.path();
        let Some(pid) = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.parse().ok())
        else {
            continue;
        };
        if identity(&path.join("exe")).is_ok_and(|exe| exe == binary) && pid != std::process::id() {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Sum of the proportional set sizes, in MB (10^6 bytes).
pub fn pss_mb(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find(|l| l.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    // A process that has just ended has no memory.
    pids.iter().filter_map(of).sum::<f64>() * 1024.0 / 1e6
}

/// Processor seconds used so far.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / TICKS)
    };
    pids.iter().filter_map(of).sum()
}

/// Percent of one core that `binary`'s processes use over `span`.
pub async fn idle_cpu(binary: &Path, span: Duration) -> anyhow::Result<f64> {
    let pids = ours(binary)?;
    let before = cpu_seconds(&pids);
    tokio::time::sleep(span).await;
    Ok((cpu_seconds(&pids) - before) / span.as_secs_f64() * 100.0)
}
