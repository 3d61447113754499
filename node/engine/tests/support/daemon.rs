//! An engine in a process of its own behind its socket, which tests kill.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use knode_cri::client::{RemoteRuntime, connect};
use knode_cri::*;
use knode_engine::OciProgram;
use knode_images::{ImageStore, Registries, StoreConfig};
use knode_linux::cgroup::{Cgroups, DEFAULT_ROOT};
use knode_testkit::scratch::Scratch;
use knode_testkit::systemd::{Systemd, child_of};
use knode_testkit::wait::{wait_until, wait_until_async};

use super::traces::{containers_groups, groups_below, processes_below};
use super::{BOUND, shell};

/// A daemon with everything it has below one directory.
pub struct Daemon {
    pub scratch: Scratch,
    pub cgroup: String,
    child: Option<Child>,
    pub client: Option<RemoteRuntime>,
    next: std::sync::atomic::AtomicU32,
    /// What is executed to start it.
    words: Vec<String>,
    /// It is the child of what is executed.
    forked: bool,
}

impl Daemon {
    pub async fn new(name: &str) -> Self {
        Self::within(name, &[]).await
    }

    /// As [`Daemon::new`], started by the words of `prefix` (`nsenter …`).
    pub async fn within(name: &str, prefix: &[String]) -> Self {
        let mut daemon = Self::prepared(name, prefix);
        daemon.prepare_to_serve().await;
        daemon.start().await;
        daemon
    }

    /// As [`Daemon::new`], among the processes of a systemd, which it asks for control groups.
    pub async fn under(name: &str, systemd: &Systemd) -> Self {
        let mut daemon = Self::prepared(name, &systemd.prefix());
        daemon.forked = true;
        fs::write(daemon.scratch.join("systemd"), "").unwrap();
        daemon.prepare_to_serve().await;
        daemon.start().await;
        daemon
    }

    /// As [`Daemon::new`], labelling containers for SELinux, with runc under the handler `runc`.
    pub async fn labelling(name: &str) -> Self {
        let mut daemon = Self::prepared(name, &[]);
        fs::write(daemon.scratch.join("selinux"), "").unwrap();
        let runc = OciProgram {
            path: "/usr/sbin/runc".into(),
            options: vec![],
        };
        daemon.set_runtimes(&[("runc", runc)]);
        daemon.prepare_to_serve().await;
        daemon.start().await;
        daemon
    }

    async fn prepare_to_serve(&mut self) {
        let store = ImageStore::open(StoreConfig {
            root: self.scratch.join("images"),
            registries: Registries::default(),
        });
        let archive = self.scratch.join("busybox.tar");
        knode_testkit::image::busybox().build().write_oci(&archive);
        store.unwrap().import_archive(&archive).await.unwrap();
        fs::remove_file(&archive).unwrap();
        let directory = self.scratch.path().display().to_string();
        let program = env!("CARGO_BIN_EXE_knode-engine-entry");
        self.words.extend([program.into(), "serve".into(), directory]);
    }

    /// `knode engine` with a pod network of its own and no images.
    pub async fn of_program(name: &str, prefix: &[String], program: &str) -> Self {
        let mut daemon = Self::prepared(name, prefix);
        let data = daemon.scratch.join("data").display().to_string();
        let socket = daemon.socket().display().to_string();
        let words = [
            program,
            "engine",
            "--data-dir",
            &data,
            "--socket",
            &socket,
            "--pod-subnet",
            "10.78.0.0/24",
        ];
        daemon.words.extend(words.map(str::to_owned));
        daemon.start().await;
        daemon
    }

    fn prepared(name: &str, prefix: &[String]) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        Self {
            cgroup: format!("/knode-test-{}-{name}", std::process::id()),
            scratch: Scratch::new(name),
            child: None,
            client: None,
            next: Default::default(),
            words: prefix.to_vec(),
            forked: false,
        }
    }

    /// Where it serves.
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("cri.sock")
    }

    /// Starts the daemon and connects.
    pub async fn start(&mut self) {
        let errors = fs::File::options()
            .append(true)
            .create(true)
            .open(self.scratch.join("daemon.log"))
            .unwrap();
        let child = Command::new(&self.words[0])
            .args(&self.words[1..])
            .env(knode_engine::crash::VARIABLE, self.crash_file())
            .stdin(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let socket = self.socket();
        let client = wait_until_async("the daemon to answer", BOUND, || async {
            let client = connect(&socket).await?;
            client.version(VersionRequest::default()).await?;
            Ok::<_, CriError>(client)
        });
        self.client = Some(client.await);
    }

    fn crash_file(&self) -> PathBuf {
        self.scratch.join("crash-at")
    }

    /// The next process that comes to this place dies there.
    pub fn crash_at(&self, point: &str) {
        fs::write(self.crash_file(), point).unwrap();
    }

    /// True when the place was come to.
    pub fn crashed(&self) -> bool {
        !self.crash_file().exists()
    }

    pub fn pid(&self) -> i32 {
        let executed = self.child.as_ref().unwrap().id();
        let pid = if self.forked {
            child_of(executed).unwrap()
        } else {
            executed
        };
        i32::try_from(pid).unwrap()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Kills the daemon as with `kill -9`, if it still lives.
    pub fn kill(&mut self) {
        self.client = None;
        let inner = self.child.as_ref().filter(|_| self.forked);
        let inner = inner.and_then(|child| child_of(child.id()));
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself. What was executed waits for the end of what it has forked.
            let _ = match inner {
                Some(pid) => knode_linux::signal::send_raw(pid.cast_signed(), 9),
                None => child.kill(),
            };
            child.wait().unwrap();
        }
    }

    pub async fn restart(&mut self) {
        self.kill();
        self.start().await;
    }

    pub fn cri(&self) -> &RemoteRuntime {
        self.client.as_ref().unwrap()
    }

    pub fn sandbox_config(&self) -> PodSandboxConfig {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: format!("pod-{number}"),
                namespace: "test".into(),
                uid: format!("uid-{number}"),
                attempt: 0,
            }),
            hostname: format!("pod-{number}"),
            log_directory: self.scratch.join(format!("logs/{number}")).display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("{}/pod-{number}", self.cgroup),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Runs a pod with nothing special about it.
    pub async fn sandbox(&self) -> String {
        self.run_sandbox(self.sandbox_config()).await.unwrap()
    }

    pub async fn run_sandbox(&self, config: PodSandboxConfig) -> CriResult<String> {
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: String::new(),
        };
        Ok(self.cri().run_pod_sandbox(request).await?.pod_sandbox_id)
    }

    pub async fn create(&self, sandbox: &str, config: ContainerConfig) -> CriResult<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: None,
        };
        Ok(self.cri().create_container(request).await?.container_id)
    }

    pub async fn start_container(&self, id: &str) -> CriResult<()> {
        let request = StartContainerRequest {
            container_id: id.into(),
        };
        self.cri().start_container(request).await.map(|_| ())
    }

    pub async fn stop(&self, id: &str, timeout: i64) -> CriResult<()> {
        let request = StopContainerRequest {
            container_id: id.into(),
            timeout,
        };
        self.cri().stop_container(request).await.map(|_| ())
    }

    pub async fn remove(&self, id: &str) -> CriResult<()> {
        let request = RemoveContainerRequest {
            container_id: id.into(),
        };
        self.cri().remove_container(request).await.map(|_| ())
    }

    pub async fn stop_sandbox(&self, id: &str) -> CriResult<()> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        self.cri().stop_pod_sandbox(request).await.map(|_| ())
    }

    pub async fn remove_sandbox(&self, id: &str) -> CriResult<()> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        self.cri().remove_pod_sandbox(request).await.map(|_| ())
    }

    /// Creates and starts a container that runs `script`.
    pub async fn run(&self, sandbox: &str, script: &str) -> String {
        self.run_config(sandbox, shell(script)).await
    }

    pub async fn run_config(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.create(sandbox, config).await.unwrap();
        self.start_container(&id).await.unwrap();
        id
    }

    pub async fn status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        self.cri()
            .container_status(request)
            .await
            .unwrap()
            .status
            .unwrap()
    }

    pub async fn wait_exited(&self, id: &str) -> ContainerStatus {
        wait_until_async("the container to end", BOUND, || async {
            let status = self.status(id).await;
            match status.state() {
                ContainerState::ContainerExited => Ok(status),
                _ => Err(format!("{status:?}")),
            }
        })
        .await
    }

    pub async fn exec(&self, id: &str, words: &[&str]) -> CriResult<ExecSyncResponse> {
        self.exec_for(id, words, 0).await
    }

    /// Runs a command for at most `timeout` seconds.
    pub async fn exec_for(&self, id: &str, words: &[&str], timeout: i64) -> CriResult<ExecSyncResponse> {
        let request = ExecSyncRequest {
            container_id: id.into(),
            cmd: words.iter().map(|word| word.to_string()).collect(),
            timeout,
        };
        self.cri().exec_sync(request).await
    }

    /// What a script that must succeed prints in a container.
    pub async fn output(&self, id: &str, script: &str) -> String {
        let answer = self.exec(id, &["sh", "-c", script]).await.unwrap();
        let errors = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert_eq!(answer.exit_code, 0, "{script}: {errors}");
        String::from_utf8(answer.stdout).unwrap()
    }

    pub async fn log(&self, id: &str) -> String {
        let path = self.status(id).await.log_path;
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub async fn wait_log(&self, id: &str, wanted: &str) -> String {
        wait_until_async("a line in the log", BOUND, || async {
            let log = self.log(id).await;
            if log.contains(wanted) {
                Ok(log)
            } else {
                Err(format!("{wanted:?} is not in {log:?}"))
            }
        })
        .await
    }

    /// What verbose status tells of a container.
    pub async fn info(&self, id: &str) -> serde_json::Value {
        let request = ContainerStatusRequest {
            container_id: id.into(),
            verbose: true,
        };
        let info = self.cri().container_status(request).await.unwrap().info;
        serde_json::from_str(&info["info"]).unwrap()
    }

    /// A file of a container's control group, such as `memory/memory.limit_in_bytes`: controller and name.
    pub async fn group_file(&self, id: &str, file: &str) -> String {
        let info = self.info(id).await;
        let group = PathBuf::from(info["cgroup"].as_str().unwrap());
        let (controller, name) = file.split_once('/').unwrap();
        let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref()).unwrap();
        let path = cgroups.directory(controller, &group).join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_string()
    }

    /// What a container of its own prints before it ends well.
    pub async fn prints(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.run_config(sandbox, config).await;
        let status = self.wait_exited(&id).await;
        let log = fs::read_to_string(&status.log_path).unwrap_or_default();
        assert_eq!(status.exit_code, 0, "{log}");
        self.remove(&id).await.unwrap();
        let texts = log
            .lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default());
        texts.collect::<Vec<_>>().join("\n")
    }

    pub async fn sandboxes(&self) -> Vec<PodSandbox> {
        let request = ListPodSandboxRequest::default();
        self.cri().list_pod_sandbox(request).await.unwrap().items
    }

    pub async fn containers(&self) -> Vec<Container> {
        let request = ListContainersRequest::default();
        self.cri().list_containers(request).await.unwrap().containers
    }

    /// Removes every sandbox as a kubelet would.
    pub async fn clear(&self) {
        for sandbox in self.sandboxes().await {
            self.stop_sandbox(&sandbox.id).await.unwrap();
            self.remove_sandbox(&sandbox.id).await.unwrap();
        }
    }

    /// Sandboxes that have a network, as the network's books say.
    pub fn attached(&self) -> Vec<String> {
        let pages = fs::read_dir(self.scratch.join("network")).unwrap().flatten();
        pages
            .map(|page| page.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// From now on the network refuses pods for this reason, or takes them again.
    pub fn refuse_network(&self, reason: Option<&str>) {
        let file = self.scratch.join("network-refuses");
        match reason {
            Some(reason) => fs::write(file, reason).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
    }

    /// Configures OCI programs by handler; they count from the next start on.
    pub fn set_runtimes(&self, programs: &[(&str, OciProgram)]) {
        let programs: std::collections::BTreeMap<_, _> = programs.iter().cloned().collect();
        let text = serde_json::to_string(&programs).unwrap();
        fs::write(self.scratch.join("runtimes.json"), text).unwrap();
    }

    /// Ends everything without a daemon.
    pub fn teardown(&mut self) {
        self.kill();
        let output = Command::new(env!("CARGO_BIN_EXE_knode-engine-entry"))
            .arg("teardown")
            .arg(self.scratch.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Removes every sandbox and looks whether anything is left.
    pub async fn end(self) {
        self.clear().await;
        self.assert_clean("the test");
        assert!(self.attached().is_empty(), "pods are still attached");
    }

    /// What is there that belongs to sandboxes and containers.
    pub fn traces(&self) -> Vec<String> {
        let mut found = BTreeSet::new();
        let below = |path: &str| {
            let entries = fs::read_dir(self.scratch.join(path))
                .into_iter()
                .flatten()
                .flatten();
            entries
                .map(|entry| entry.path().display().to_string())
                .collect::<Vec<_>>()
        };
        for directory in [
            "engine/sandboxes",
            "engine/containers",
            "run/shims",
            "run/ns",
            "run/shm",
            "run/oci",
            "run/exec",
            "network",
            "images/s",
            "images/snapshots",
            "images/tmp",
        ] {
            found.extend(below(directory));
        }
        let mounts = knode_linux::overlay::mount_points_below(self.scratch.path()).unwrap();
        // The daemon's own, as long as it may come back.
        let secluded = |point: &PathBuf| {
            let data = ["", "data/engine"].map(|path| self.scratch.join(path).join("images/s"));
            let pins =
                ["ns", "shm"].map(|pin| ["run", "data/run/engine"].map(|run| Path::new(run).join(pin)));
            let is_pin = pins.iter().flatten().any(|pin| *point == self.scratch.join(pin));
            data.contains(point) || is_pin
        };
        let of_pods = mounts.iter().filter(|point| !secluded(point));
        found.extend(of_pods.map(|point| format!("mount {}", point.display())));
        found.extend(groups_below(&self.cgroup));
        let daemon = self.child.as_ref().map(|child| format!("{} ", child.id()));
        let processes = processes_below(&self.scratch.path().display().to_string());
        found.extend(
            processes
                .into_iter()
                .filter(|line| daemon.as_ref().is_none_or(|daemon| !line.starts_with(daemon))),
        );
        found.into_iter().collect()
    }

    /// Waits until nothing of sandboxes and containers is left; ends are told after the answer.
    pub fn assert_clean(&self, after: &str) {
        wait_until(&format!("no traces after {after}"), BOUND, || {
            let traces = self.traces();
            if traces.is_empty() {
                Ok(())
            } else {
                Err(format!("{traces:#?}"))
            }
        });
    }
}

impl Daemon {
    /// Kills and removes what groups there are, in the order in which they can be removed.
    fn groups_are_gone(&self, cgroups: &Cgroups) -> bool {
        let groups = containers_groups(&self.cgroup);
        let gone = |group: &PathBuf| cgroups.kill(group).and_then(|()| cgroups.remove(group)).is_ok();
        groups.iter().filter(|group| !gone(group)).count() == 0
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.scratch.join("daemon.log")).unwrap_or_default();
            let ended = self.child.as_mut().map(|child| child.try_wait());
            eprintln!("daemon: {ended:?} {log}");
        }
        self.kill();
        for process in processes_below(&self.scratch.path().display().to_string()) {
            if let Some(pid) = process.split(' ').next().and_then(|pid| pid.parse().ok()) {
                let pid = nix::unistd::Pid::from_raw(pid);
                // It may have ended meanwhile.
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref()).unwrap();
        // Those that are killed leave their groups a moment later.
        let started = std::time::Instant::now();
        while !self.groups_are_gone(&cgroups) && started.elapsed() < BOUND {
            std::thread::yield_now();
        }
    }
}
