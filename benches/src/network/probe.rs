//! What is measured along a way, by iperf3 and ping.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use knode_testkit::{Process, wait_until};
use serde_json::Value;

use super::pair::Way;

/// One stream, this many seconds.
const SECONDS: &str = "3";
/// Echoes for the latency.
const ECHOES: &str = "500";

/// Gbit/s of one TCP stream, as the receiver counts them.
pub fn throughput(way: &Way) -> anyhow::Result<f64> {
    let mut server = inside(&way.to, "iperf3");
    server.args(["--server", "--one-off", "--forceflush"]);
    let server = Process::spawn("iperf3", server);
    wait_until("iperf3 to listen", Duration::from_secs(10), || {
        let said = server.output();
        said.contains("Server listening").then_some(()).ok_or(said)
    });
    let mut client = inside(&way.from, "iperf3");
    client.args(["--client", &way.address, "--time", SECONDS, "--json"]);
    let told = answer(&mut client)?;
    let report: Value = serde_json::from_str(&told).context("read its report")?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("no throughput in {told}"))? / 1e9)
}

/// Microseconds of a round trip, the mean of many.
pub fn latency(way: &Way) -> anyhow::Result<f64> {
    let mut ping = inside(&way.from, "ping");
    ping.args(["-q", "-c", ECHOES, "-i", "0.002", &way.address]);
    let told = answer(&mut ping)?;
    // The last line: rtt min/avg/max/mdev = 0.021/0.030/0.100/0.010 ms
    let mean = told.rsplit(" = ").next().and_then(|t| t.split('/').nth(1));
    let mean: f64 = mean.with_context(|| told.clone())?.parse()?;
    Ok(mean * 1e3)
}

fn inside(namespace: &Path, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", namespace.display()))
        .arg("--")
        .arg(program);
    command
}

fn answer(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {told}{errors}", output.status);
    Ok(told)
}
