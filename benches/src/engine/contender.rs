//! The engines that are compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use knode_cri::client::RemoteRuntime;
use knode_linux::cgroup::{Cgroups, DEFAULT_ROOT};
use knode_testkit::{Host, Process, Scratch, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::images::Images;
use crate::processes;

/// How long a daemon may take to come up.
const BOUND: Duration = Duration::from_secs(60);
/// The addresses of pods, of each engine its own bridge.
const PODS: [&str; 2] = ["10.88.0.0/16", "10.89.0.0/16"];
const CNI_PLUGINS: &str = "/usr/lib/cni";
/// The control group of all pods.
pub const CGROUP: &str = "/knode-bench";

/// A daemon with its socket. Dropping it ends it and all that it has left running.
pub struct Contender {
    kind: Kind,
    directory: PathBuf,
    socket: PathBuf,
    process: Option<Process>,
}

enum Kind {
    Containerd,
    Knode { binary: PathBuf, host: PathBuf },
}

/// Proportional set sizes, MB (10^6 bytes).
pub struct Memory {
    /// Of the daemon alone.
    pub daemon: f64,
    /// Of all that runs for pods besides their containers: shims, and the processes that keep their namespaces.
    pub pods: f64,
}

/// Debian's containerd with runc, crun and the CNI plugin `bridge`.
pub fn containerd(host: &Host, scratch: &Scratch, images: &Images) -> anyhow::Result<Contender> {
    let directory = scratch.join("containerd");
    fs::create_dir_all(directory.join("net.d")).context("make containerd's directory")?;
    let file = directory.join("config.toml");
    fs::write(&file, containerd_config(&directory, &images.pause))
        .context("write containerd's configuration")?;
    fs::write(directory.join("net.d/10-bridge.conflist"), bridge())
        .context("write the network's configuration")?;
    // crun refuses machines whose second hierarchy of control groups has controllers left.
    let start = "umount /sys/fs/cgroup/unified 2>/dev/null; exec containerd -c \"$0\"";
    let words = ["--mount", "sh", "-c", start, &file.display().to_string()];
    let process = host.spawn("containerd", "unshare", &words);
    Contender {
        kind: Kind::Containerd,
        socket: directory.join("c.sock"),
        directory,
        process: Some(process),
    }
    .up()
}

/// The engine of this repository as a daemon of its own.
pub fn knode(host: &Host, scratch: &Scratch, binary: &Path) -> anyhow::Result<Contender> {
    let directory = scratch.join("knode");
    let socket = directory.join("e.sock");
    let mut command = host.command(binary);
    command
        .args(["--log", "warn", "engine", "--data-dir"])
        .arg(&directory);
    command.arg("--socket").arg(&socket);
    command.args(["--pod-subnet", PODS[1], "--cni-conf-dir", "none"]);
    Contender {
        kind: Kind::Knode {
            binary: binary.to_owned(),
            host: host.path(),
        },
        socket,
        directory,
        process: Some(Process::spawn("knode engine", command)),
    }
    .up()
}

impl Contender {
    /// Waits until it takes connections.
    fn up(self) -> anyhow::Result<Self> {
        wait_until("the daemon's socket", BOUND, || {
            let connected = std::os::unix::net::UnixStream::connect(&self.socket);
            let said = || self.process.as_ref().map(Process::output).unwrap_or_default();
            connected
                .map(drop)
                .map_err(|error| format!("{error}: {}", said()))
        });
        Ok(self)
    }

    /// A client, which is the same for all.
    pub async fn client(&self) -> anyhow::Result<RemoteRuntime> {
        Ok(knode_cri::client::connect(&self.socket).await?)
    }

    /// Where the logs of its containers go.
    pub fn logs(&self) -> PathBuf {
        self.directory.join("pod-logs")
    }

    /// What its processes take now.
    pub fn memory(&self) -> Memory {
        let daemon = named(&self.directory, |words| !words.contains("containerd-shim"));
        let shims = match &self.kind {
            Kind::Containerd => named(&self.directory, |words| words.contains("containerd-shim")),
            Kind::Knode { binary, .. } => {
                let ours = processes::ours(binary).unwrap_or_default();
                ours.into_iter().filter(|pid| !daemon.contains(pid)).collect()
            }
        };
        let pauses = children(&shims).into_iter().filter(|pid| comm(*pid) == "pause");
        let pods: Vec<u32> = shims.iter().copied().chain(pauses).collect();
        Memory {
            daemon: processes::pss_mb(&daemon),
            pods: processes::pss_mb(&pods),
        }
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        self.process = None;
        self.end_pods();
        self.unmount();
        // The parent of all pods is ours to remove.
        let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref());
        if let Err(error) = cgroups.and_then(|cgroups| cgroups.remove(CGROUP.as_ref())) {
            eprintln!("{CGROUP}: {error}");
        }
    }
}

impl Contender {
    fn end_pods(&self) {
        match &self.kind {
            Kind::Knode { binary, host } => {
                let mut down = std::process::Command::new("nsenter");
                down.arg(format!("--net={}", host.display()))
                    .arg("--")
                    .arg(binary);
                down.args(["engine", "--stop-all", "--data-dir"])
                    .arg(&self.directory);
                match down.output() {
                    Ok(output) if output.status.success() => {}
                    other => eprintln!("knode engine --stop-all: {other:?}"),
                }
            }
            Kind::Containerd => {
                let shims = named(&self.directory, |words| words.contains("containerd-shim"));
                for pid in children(&shims).into_iter().chain(shims) {
                    // It may have ended by itself meanwhile.
                    let _gone = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
                }
            }
        }
    }

    fn unmount(&self) {
        let mounts = knode_linux::overlay::mount_points_below(&self.directory).unwrap_or_default();
        for mount in mounts.iter().rev() {
            if let Err(error) = knode_linux::overlay::unmount_all(mount) {
                eprintln!("{}: {error}", mount.display());
            }
        }
    }
}

/// Processes with a path in their command line, of which `which` is true.
fn named(path: &Path, which: impl Fn(&str) -> bool) -> Vec<u32> {
    let path = path.display().to_string();
    let line = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let wanted = |pid: &u32| {
        let line = String::from_utf8_lossy(&line(pid)).replace('\0', " ");
        line.contains(&path) && which(&line)
    };
    all()
        .filter(|pid| *pid != std::process::id())
        .filter(wanted)
        .collect()
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn children(parents: &[u32]) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    all()
        .filter(|pid| parent(*pid).is_some_and(|one| parents.contains(&one)))
        .collect()
}

fn comm(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    text.trim().to_owned()
}

fn containerd_config(directory: &Path, pause: &str) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    let runtime = |name: &str| {
        format!(
            r#"  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
      BinaryName = "{name}"
      Root = "{}"
"#,
            path(&format!("{name}-state"))
        )
    };
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{conf}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
{runc}{crun}"#,
        root = path("root"),
        state = path("state"),
        socket = path("c.sock"),
        opt = path("opt"),
        conf = path("net.d"),
        runc = runtime("runc"),
        crun = runtime("crun"),
    )
}

/// As containerd's own installation script writes it.
fn bridge() -> String {
    let plugins = serde_json::json!([
        {
            "type": "bridge", "bridge": "bench0", "isGateway": true, "ipMasq": true, "promiscMode": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS[0]}]], "routes": [{"dst": "0.0.0.0/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]);
    serde_json::json!({"cniVersion": "0.4.0", "name": "bench", "plugins": plugins}).to_string()
}
