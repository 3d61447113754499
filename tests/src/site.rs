//! Several machines on one wire, each with its own knode.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;

use knode_testkit::leaks::Traces;
use knode_testkit::{Host, Lan, Process, Scratch, image, wait_until};
use serde_json::Value;

use crate::{BOUND, Output, ROOMY, binary, kubectl, traces};

/// Machines `10.99.0.1`, `10.99.0.2` and so on. Dropping it runs `knode down --purge` for everything that was started
/// on them, and fails the test if anything is left.
pub struct Site {
    /// The machines, in the order of their addresses.
    pub hosts: Vec<Host>,
    /// Where everything of them lies.
    pub scratch: Scratch,
    running: Vec<Running>,
    /// Of all that were ever started.
    data: Vec<PathBuf>,
    before: Vec<Traces>,
    _lan: Lan,
}

/// One `knode` in the foreground with its data directory.
struct Running {
    name: String,
    host: usize,
    /// None once it is killed.
    process: Option<Process>,
    data: PathBuf,
}

impl Site {
    /// Machines with nothing on them yet.
    ///
    /// # Panics
    /// When they cannot be made.
    #[track_caller]
    pub fn new(name: &str, machines: u8) -> Self {
        Self::on(name, machines, |_, _, _| ())
    }

    /// As [`Site::new`], with the IPv6 addresses `fd99::1`, `fd99::2` and so on beside.
    ///
    /// # Panics
    /// When they cannot be made.
    #[track_caller]
    pub fn with_ipv6(name: &str, machines: u8) -> Self {
        Self::on(name, machines, |lan, host, n| {
            lan.number(host, Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, n.into()), 64);
        })
    }

    #[track_caller]
    fn on(name: &str, machines: u8, prepare: impl Fn(&Lan, &Host, u8)) -> Self {
        let lan = Lan::new();
        let scratch = Scratch::new(name);
        let host = |n| {
            let host = lan.host(&format!("{name}{n}"), Ipv4Addr::new(10, 99, 0, n), 24);
            prepare(&lan, &host, n);
            host
        };
        let hosts: Vec<Host> = (1..=machines).map(host).collect();
        let marker = scratch.path().display().to_string();
        Self {
            before: hosts.iter().map(|h| Traces::of(h, &marker)).collect(),
            hosts,
            scratch,
            running: Vec::new(),
            data: Vec::new(),
            _lan: lan,
        }
    }

    /// A path below the scratch directory, as text.
    pub fn path(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }

    /// Starts `knode` with these arguments and a data directory of its own on a machine.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(&mut self, name: &str, host: usize, arguments: &[&str]) {
        let data = self.scratch.join(name);
        let mut command = self.hosts[host].command(binary());
        command.args(arguments).arg("--data-dir").arg(&data);
        self.running.retain(|r| r.name != name || r.process.is_some());
        self.data.push(data.clone());
        self.running.push(Running {
            name: name.to_owned(),
            host,
            process: Some(Process::spawn(name, command)),
            data,
        });
    }

    /// Starts `knode server` on the first machine and waits until it serves. The kubeconfigs are `admin.kubeconfig` and
    /// `join.kubeconfig` of [`Site::path`].
    ///
    /// # Panics
    /// When it does not serve in time.
    #[track_caller]
    pub fn server(&mut self, arguments: &[&str]) {
        let (admin, join) = (self.path("admin.kubeconfig"), self.path("join.kubeconfig"));
        let own = [
            "server",
            "--write-kubeconfig",
            &admin,
            "--write-bootstrap-kubeconfig",
            &join,
        ];
        self.start("server", 0, &[&own, arguments].concat());
        wait_until("the control plane", BOUND, || {
            let answer = self.kubectl(&["get", "--raw", "/readyz"]).result();
            answer
                .and_then(|_| std::fs::metadata(&join).map(drop).map_err(|e| e.to_string()))
                .map_err(|e| format!("{e}\n{}", self.logs()))
        });
    }

    /// Starts `knode node` with the bootstrap kubeconfig, and busybox among its images.
    ///
    /// # Panics
    /// As [`Site::start`].
    #[track_caller]
    pub fn node(&mut self, name: &str, host: usize, arguments: &[&str]) {
        self.bring_busybox(name);
        let join = self.path("join.kubeconfig");
        let own = [
            "node",
            "--bootstrap-kubeconfig",
            &join,
            "--node-name",
            name,
            ROOMY,
        ];
        self.start(name, host, &[&own, arguments].concat());
    }

    /// Puts `busybox:test` among the images that a node imports when it starts.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn bring_busybox(&self, name: &str) {
        let images = self.scratch.join(name).join("images");
        std::fs::create_dir_all(&images).unwrap_or_else(|e| panic!("{}: {e}", images.display()));
        image::busybox()
            .name("busybox:test")
            .build()
            .write_oci(&images.join("busybox.tar"));
    }

    /// Kills one with SIGKILL; its pods stay.
    pub fn kill(&mut self, name: &str) {
        for running in self.running.iter_mut().filter(|r| r.name == name) {
            drop(running.process.take());
        }
    }

    /// What one has logged since it was started last.
    pub fn log(&self, name: &str) -> String {
        let running = self.running.iter().find(|r| r.name == name);
        let process = running.and_then(|r| r.process.as_ref());
        process.map(Process::output).unwrap_or_default()
    }

    /// What all of them have logged.
    pub fn logs(&self) -> String {
        let log = |r: &Running| format!("-- {}\n{}", r.name, self.log(&r.name));
        self.running.iter().map(log).collect::<Vec<_>>().join("\n")
    }

    /// kubectl on the first machine, with the administrator's kubeconfig.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command: Command = self.hosts[0].command(kubectl::default());
        command
            .env("KUBECONFIG", self.path("admin.kubeconfig"))
            .env("HOME", self.scratch.path())
            .args(arguments);
        Output::of(&mut command)
    }

    /// `kubectl apply` of this text.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        let file = self.path("manifest.yaml");
        std::fs::write(&file, manifest).unwrap_or_else(|e| panic!("{file}: {e}"));
        self.kubectl(&["apply", "-f", &file]).ok();
    }

    /// `kubectl get -o json` of these words.
    ///
    /// # Errors
    /// What kubectl complained of.
    pub fn json(&self, what: &[&str]) -> Result<Value, String> {
        let text = self.kubectl(&[&["get", "-o", "json"], what].concat()).result()?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }

    /// Waits until so many objects are there and all Ready.
    ///
    /// # Panics
    /// When they are not in time.
    #[track_caller]
    pub fn all_ready(&self, what: &[&str], count: usize) -> Vec<Value> {
        wait_until(&format!("{count} Ready: {}", what.join(" ")), BOUND, || {
            let list = self.json(what)?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let there = items.len() == count && items.iter().all(ready);
            there
                .then_some(items)
                .ok_or_else(|| format!("{list}\n{}", self.logs()))
        })
    }

    /// Ends one and takes away everything of it, with its data.
    ///
    /// # Panics
    /// When `knode down --purge` fails.
    #[track_caller]
    pub fn end(&mut self, name: &str) {
        while let Some(at) = self.running.iter().position(|r| r.name == name) {
            let running = self.running.remove(at);
            drop(running.process);
            purge(&self.hosts[running.host], &running.data).ok();
        }
    }
}

/// The condition Ready of a node or pod.
pub fn ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn purge(host: &Host, data: &std::path::Path) -> Output {
    let mut down = host.command(binary());
    down.args(["down", "--purge", "--data-dir"]).arg(data);
    Output::of(&mut down)
}

impl Drop for Site {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing {
            eprintln!("{}", self.logs());
        }
        // Nodes before the control plane.
        while let Some(running) = self.running.pop() {
            drop(running.process);
            let down = purge(&self.hosts[running.host], &running.data);
            assert!(failing || down.code == 0, "{down}");
        }
        let marker = self.scratch.path().display().to_string();
        for (host, before) in self.hosts.iter().zip(&self.before) {
            let left = before.differences(&Traces::of(host, &marker));
            let left = traces::own(left, self.scratch.path(), &self.data);
            assert!(failing || left.is_empty(), "left on {}: {left:#?}", host.name());
        }
    }
}
