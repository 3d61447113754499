//! A one-machine cluster in a host of its own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use knode_testkit::leaks::Traces;
use knode_testkit::{Host, Lan, Scratch, Systemd, image, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{BOUND, Containerd, Output, kubectl, traces};

/// The binary under test: `KNODE_BIN`, which `make test` sets to the release build.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("KNODE_BIN").map(PathBuf::from);
    let path = path.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/knode"));
    assert!(
        path.is_file(),
        "no binary at {}: run `make build`, or name one by KNODE_BIN",
        path.display()
    );
    path
}

/// Where it says `containerd`, clusters run their pods in Debian's containerd instead of the engine.
const RUNTIME: &str = "KNODE_RUNTIME";

/// Whether clusters run their pods in containerd: `KNODE_RUNTIME=containerd`.
pub fn over_containerd() -> bool {
    std::env::var(RUNTIME).is_ok_and(|runtime| runtime == "containerd")
}

/// A machine that builds and tests is short of disk, which is not what the tests are about.
pub const ROOMY: &str = "--eviction-hard=nodefs.available<1%,imagefs.available<1%";

/// A running `knode up`. Dropping it runs `knode down --purge` and fails the test if anything is left.
pub struct Cluster {
    /// The machine.
    pub host: Host,
    /// Where everything of it lies.
    pub scratch: Scratch,
    _lan: Lan,
    before: Traces,
    down: bool,
    containerd: Option<Containerd>,
    systemd: Option<Systemd>,
}

impl Cluster {
    /// The machine's address.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

    /// The machine's IPv6 address, where it has one.
    pub const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);

    /// A machine with nothing on it yet.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn machine(name: &str) -> Self {
        Self::on(name, |_, _, _| ())
    }

    /// A machine on which everything of the cluster lies on a file system of its own, with so many MiB and files.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn machine_with_small_disk(name: &str, mebibytes: u32, files: u32) -> Self {
        Self::on(name, |_, _, scratch| {
            let options = format!("size={mebibytes}m,nr_inodes={files}");
            let (kind, none) = (Some("tmpfs"), nix::mount::MsFlags::empty());
            // Taken away with the directory.
            nix::mount::mount(kind, scratch.path(), kind, none, Some(options.as_str()))
                .unwrap_or_else(|e| panic!("{}: {e}", scratch.path().display()));
        })
    }

    /// As [`Cluster::machine`], with an IPv6 address beside the IPv4 one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn machine_with_ipv6(name: &str) -> Self {
        Self::on(name, |lan, host, _| lan.number(host, Self::ADDRESS_V6, 64))
    }

    /// A machine whose pods run in containerd instead of the engine.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn over_containerd(name: &str) -> Self {
        Self::machine(name).in_containerd()
    }

    /// Its pods run in containerd instead of the engine.
    ///
    /// # Panics
    /// When containerd cannot be started.
    #[track_caller]
    #[must_use]
    pub fn in_containerd(mut self) -> Self {
        if self.containerd.is_none() {
            let systemd = self.systemd.as_ref();
            self.containerd = Some(Containerd::start(&self.host, &self.scratch, systemd));
        }
        self
    }

    /// As [`Cluster::machine`], with a systemd among whose processes all are, which makes the control groups.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn machine_with_systemd(name: &str) -> Self {
        let mut made = Self::on(name, |_, _, _| ());
        assert!(made.containerd.is_none(), "{RUNTIME}: this test does both");
        made.systemd = Some(Systemd::start());
        made
    }

    /// The machine's systemd.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn systemd(&self) -> &Systemd {
        let Some(systemd) = &self.systemd else {
            panic!("this machine has no systemd");
        };
        systemd
    }

    #[track_caller]
    fn on(name: &str, prepare: impl FnOnce(&Lan, &Host, &Scratch)) -> Self {
        let lan = Lan::new();
        let host = lan.host(name, Self::ADDRESS, 24);
        let scratch = Scratch::new(name);
        prepare(&lan, &host, &scratch);
        let before = Traces::of(&host, &scratch.path().display().to_string());
        Self {
            containerd: over_containerd().then(|| Containerd::start(&host, &scratch, None)),
            systemd: None,
            host,
            scratch,
            _lan: lan,
            before,
            down: true,
        }
    }

    /// Whether its pods run in containerd instead of the engine.
    pub fn is_over_containerd(&self) -> bool {
        self.containerd.is_some()
    }

    /// The machine's containerd, where its pods run in one.
    ///
    /// # Panics
    /// When they don't.
    #[track_caller]
    pub fn containerd(&mut self) -> (&mut Containerd, &Host) {
        let Some(containerd) = &mut self.containerd else {
            panic!("pods run in the engine");
        };
        (containerd, &self.host)
    }

    /// A machine with a cluster that is Ready.
    ///
    /// # Panics
    /// With its log, when it doesn't come up.
    #[track_caller]
    pub fn up(name: &str) -> Self {
        let mut cluster = Self::machine(name);
        cluster.start(&[]);
        cluster
    }

    /// Runs `knode up --background` with these options beside the usual ones.
    ///
    /// # Panics
    /// With its log, when it doesn't come up.
    #[track_caller]
    pub fn start(&mut self, options: &[&str]) {
        self.down = false;
        let output = self.try_start(options);
        assert_eq!(output.code, 0, "{output}\n{}", self.log());
    }

    /// As [`Cluster::start`], for starts that are meant to fail.
    #[track_caller]
    pub fn try_start(&mut self, options: &[&str]) -> Output {
        self.down = false;
        Output::of(&mut self.up_command(options))
    }

    /// The command of [`Cluster::start`], which ends once the cluster is Ready.
    pub fn up_command(&self, options: &[&str]) -> Command {
        let mut command = self.knode(&["up", "--background"]);
        command
            .args(["--data-dir", &self.data_dir()])
            .args(["--write-kubeconfig", &self.kubeconfig()]);
        let own_limits = options.iter().any(|one| one.starts_with("--eviction-hard"));
        let usual = if own_limits { None } else { Some(ROOMY) };
        command.args(["--node-name", "node1"]).args(usual).args(options);
        if let Some(containerd) = &self.containerd {
            command.args(["--container-runtime-endpoint", &containerd.endpoint()]);
        }
        command
    }

    /// Kills the daemon with SIGKILL; its pods stay.
    ///
    /// # Panics
    /// When there is none, or it stays.
    #[track_caller]
    pub fn kill(&self) {
        if let Some(systemd) = &self.systemd {
            // Its number counts there.
            let gone = "kill -9 $1; while kill -0 $1 2>/dev/null; do sleep 0.02; done";
            systemd.run("sh", &["-c", gone, "sh", &self.pid().to_string()]);
            return;
        }
        let pid = Pid::from_raw(self.pid());
        kill(pid, Signal::SIGKILL).unwrap_or_else(|e| panic!("kill {pid}: {e}"));
        wait_until("the daemon to be gone", BOUND, || kill(pid, None).is_err());
    }

    /// Brings `name`, with Debian's busybox in it, into the running engine, or into containerd.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn import_busybox(&self, name: &str) {
        let archive = self.scratch.join("busybox.tar");
        image::busybox().name(name).build().write_oci(&archive);
        self.import(&archive).ok();
    }

    /// The data directory.
    pub fn data_dir(&self) -> String {
        self.scratch.join("data").display().to_string()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> String {
        self.scratch.join("admin.kubeconfig").display().to_string()
    }

    /// The daemon's log, for messages of failed tests.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.scratch.join("data/knode.log")).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(60).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// When no daemon has written one.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let path = self.scratch.join("data/knode.lock");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim()
            .parse()
            .unwrap_or_else(|e| panic!("{}: {text:?}: {e}", path.display()))
    }

    /// A command of the binary inside the machine.
    pub fn knode(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.systemd {
            None => self.host.command(binary()),
            Some(systemd) => {
                let words = systemd.prefix();
                let mut command = self.host.command(&words[0]);
                command.args(&words[1..]).arg(binary());
                command
            }
        };
        command.args(arguments);
        command
    }

    /// Runs kubectl.
    #[track_caller]
    pub fn kubectl(&self, arguments: &str) -> Output {
        self.kubectl_by(
            &kubectl::default(),
            &arguments.split_whitespace().collect::<Vec<_>>(),
        )
    }

    /// Runs this kubectl.
    #[track_caller]
    pub fn kubectl_by(&self, binary: &Path, arguments: &[&str]) -> Output {
        let mut command = self.host.command(binary);
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.scratch.path())
            .args(arguments);
        Output::of(&mut command)
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> Output {
        let file = self.scratch.join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        self.kubectl_by(&kubectl::default(), &["apply", "-f", &file.display().to_string()])
    }

    /// An object as JSON.
    ///
    /// # Panics
    /// When it isn't there.
    #[track_caller]
    pub fn get(&self, what: &str) -> Value {
        self.try_get(what).unwrap_or_else(|e| panic!("{e}"))
    }

    /// An object as JSON, or why not.
    pub fn try_get(&self, what: &str) -> Result<Value, String> {
        let text = self.kubectl(&format!("get {what} -o json")).result()?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }

    /// Waits until the JSON of an object satisfies `holds`, which otherwise says what it saw.
    ///
    /// # Panics
    /// After [`BOUND`].
    #[track_caller]
    pub fn wait<T>(&self, what: &str, holds: impl Fn(&Value) -> Result<T, String>) -> T {
        wait_until(what, BOUND, || self.try_get(what).and_then(|o| holds(&o)))
    }

    /// Waits until a pod (`pod NAME`) is Ready and answers it.
    ///
    /// # Panics
    /// After [`BOUND`].
    #[track_caller]
    pub fn wait_ready(&self, pod: &str) -> Value {
        self.wait(pod, |p| {
            let conditions = p["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            if ready {
                Ok(p.clone())
            } else {
                Err(p["status"].to_string())
            }
        })
    }

    /// The page at a URL, asked by curl on the machine.
    #[track_caller]
    pub fn page(&self, url: &str) -> Output {
        let mut command = self.host.command("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "5", url]);
        Output::of(&mut command)
    }

    /// Imports an image archive into the running engine, or into containerd.
    #[track_caller]
    pub fn import(&self, archive: &Path) -> Output {
        if let Some(containerd) = &self.containerd {
            return Output::told(containerd.import(&self.host, archive));
        }
        let archive = archive.display().to_string();
        Output::of(&mut self.knode(&["engine", "import", "--data-dir", &self.data_dir(), &archive]))
    }

    /// `knode down --purge`, and what it left behind.
    #[track_caller]
    pub fn purge(&mut self) -> Vec<String> {
        self.down = true;
        let ended = Output::of(&mut self.knode(&["down", "--purge", "--data-dir", &self.data_dir()]));
        let slices = self.systemd.as_ref().map(Systemd::slices).unwrap_or_default();
        let slices = slices.into_iter().filter(|name| name.contains("kubepods"));
        let slices = slices.map(|name| format!("slice left behind: {name}"));
        let slices: Vec<String> = slices.collect();
        self.containerd = None;
        // Ends what is left in it.
        self.systemd = None;
        let after = Traces::of(&self.host, &self.scratch.path().display().to_string());
        let left = self.before.differences(&after);
        let mut left = traces::own(left, self.scratch.path(), &[self.data_dir().into()]);
        left.extend(slices);
        if ended.code != 0 {
            left.push(ended.to_string());
        }
        left
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.down {
            return;
        }
        if std::thread::panicking() {
            eprintln!("-- the daemon's log:\n{}\n--", self.log());
        }
        let left = self.purge();
        if !left.is_empty() {
            eprintln!("left behind: {left:#?}");
            assert!(
                std::thread::panicking(),
                "the cluster left something behind: {left:#?}"
            );
        }
    }
}
