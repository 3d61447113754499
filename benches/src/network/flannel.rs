//! knode in flannel's place: etcd, `knode flanneld` on both hosts, pods by the CNI plugin.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use knode_testkit::{Host, Process, Scratch, wait_until};
use serde_json::{Value, json};

use super::pair::{Pair, Way};

const BOUND: Duration = Duration::from_secs(20);
const PREFIX: &str = "/kubernetes/network";

/// Two hosts with a pod each. Dropping it ends the daemons and takes the namespaces away.
pub struct Flannel {
    pods: [Host; 2],
    address: String,
    pair: Pair,
    /// Milliseconds from each daemon's start to its subnet file.
    pub starts: Vec<f64>,
    _daemons: Vec<Process>,
    _scratch: Scratch,
}

impl Flannel {
    /// Starts it with this backend.
    pub fn start(binary: &Path, pair: Pair, backend: &str) -> anyhow::Result<Self> {
        let scratch = Scratch::new(pair.name);
        let mut daemons = vec![etcd(&pair.first, scratch.path())];
        configure(binary, &pair.first, backend)?;
        let mut starts = Vec::new();
        let pods = [Host::new("pod"), Host::new("pod")];
        let mut address = String::new();
        for (n, host) in [&pair.first, &pair.second].into_iter().enumerate() {
            let directory = scratch.path().join(format!("host{n}"));
            std::fs::create_dir_all(&directory)?;
            let begun = Instant::now();
            daemons.push(daemon(binary, host, &directory));
            let file = directory.join("subnet.env");
            wait_until("the subnet file", BOUND, || {
                file.exists().then_some(()).ok_or_else(|| daemons[n + 1].output())
            });
            starts.push(begun.elapsed().as_secs_f64() * 1e3);
            address = attach(binary, host, &directory, &pods[n])?;
        }
        let this = Self {
            pods,
            address,
            pair,
            starts,
            _daemons: daemons,
            _scratch: scratch,
        };
        this.wait_for_each_other();
        Ok(this)
    }

    /// From pod to pod.
    pub fn pods(&self) -> Way {
        Way {
            from: self.pods[0].path(),
            to: self.pods[1].path(),
            address: self.address.clone(),
        }
    }

    /// From host to host, along the overlay's device.
    pub fn hosts(&self) -> anyhow::Result<Way> {
        let told = self.pair.second.ip("-4 -o address show dev flannel.1");
        let own = told.split_whitespace().find(|word| word.contains('/'));
        let own = own.context("flannel.1 has no address")?;
        Ok(self.pair.to(own.split('/').next().unwrap_or_default()))
    }

    fn wait_for_each_other(&self) {
        wait_until("the pods to reach each other", BOUND, || {
            let mut ping = self.pods[0].command("ping");
            ping.args(["-q", "-c", "1", "-W", "1", &self.address]);
            let output = ping.output().map_err(|e| e.to_string())?;
            let told = || String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success().then_some(()).ok_or_else(told)
        });
    }
}

fn endpoint() -> String {
    format!("http://{}:2379", Pair::ADDRESSES[0])
}

fn etcd(host: &Host, directory: &Path) -> Process {
    let data = directory.join("etcd").display().to_string();
    let url = endpoint();
    let arguments = [
        "--data-dir",
        &data,
        "--listen-client-urls",
        &url,
        "--advertise-client-urls",
        &url,
        "--listen-peer-urls",
        "http://127.0.0.1:2380",
    ];
    let etcd = host.spawn("etcd", "etcd", &arguments);
    wait_until("etcd to serve", BOUND, || {
        let said = etcd.output();
        said.contains("ready to serve client requests")
            .then_some(())
            .ok_or(said)
    });
    etcd
}

fn configure(binary: &Path, host: &Host, backend: &str) -> anyhow::Result<()> {
    let conf = format!(r#"{{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{backend}}}"#);
    let endpoints = format!("--etcd-endpoints={}", endpoint());
    let prefix = format!("--etcd-prefix={PREFIX}");
    let set = ["flanneld", "config", "set", &conf, &endpoints, &prefix];
    let output = host.command(binary).args(set).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "configure the network: {errors}");
    Ok(())
}

fn daemon(binary: &Path, host: &Host, directory: &Path) -> Process {
    let endpoints = format!("--etcd-endpoints={}", endpoint());
    let prefix = format!("--etcd-prefix={PREFIX}");
    let file = format!("--subnet-file={}", directory.join("subnet.env").display());
    let arguments = ["flanneld", &endpoints, &prefix, &file, "--iface=eth0"];
    host.spawn("flanneld", binary, &arguments)
}

/// A pod by the CNI plugin; its address.
fn attach(binary: &Path, host: &Host, directory: &Path, pod: &Host) -> anyhow::Result<String> {
    let conf = json!({
        "cniVersion": "1.0.0",
        "name": "bench",
        "type": "knode",
        "subnetFile": directory.join("subnet.env"),
        "dataDir": directory.join("networks"),
    });
    let mut add = host.command(binary);
    add.env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", "bench")
        .env("CNI_NETNS", pod.path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = add.spawn().context("start the CNI plugin")?;
    let input = child.stdin.take().context("the plugin takes no input")?;
    { input }.write_all(conf.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "connect a pod: {told}");
    let result: Value = serde_json::from_str(&told).context("read the plugin's result")?;
    let address = result["ips"][0]["address"].as_str();
    let address = address.and_then(|a| a.split('/').next());
    Ok(address
        .with_context(|| format!("no address in {told}"))?
        .to_owned())
}
