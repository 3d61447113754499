//! An engine of its own for each test, with a busybox image and a network that only keeps books.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod daemon;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use knode_cri::*;
use knode_engine::net::{NetError, NetRequest, NetResult, NetStatus, PodNetwork};
use knode_engine::{Engine, EngineConfig, teardown};
use knode_images::{ImageStore, Registries, StoreConfig};
use knode_linux::cgroup::{Cgroups, DEFAULT_ROOT};
use knode_testkit::scratch::Scratch;
use knode_testkit::wait::wait_until_async;

pub const IMAGE: &str = "localhost/test/busybox:1";

/// Long for a machine that runs other tests at the same time.
pub const BOUND: Duration = Duration::from_secs(30);

/// Keeps books of who is attached, and refuses what a real network would refuse.
#[derive(Default)]
pub struct Ledger {
    pub attached: Mutex<HashSet<String>>,
    pub refuse: Mutex<Option<String>>,
}

#[async_trait]
impl PodNetwork for Ledger {
    async fn add(&self, request: &NetRequest) -> Result<NetResult, NetError> {
        if let Some(reason) = self.refuse.lock().unwrap().clone() {
            return Err(reason.into());
        }
        std::fs::File::open(&request.netns)?;
        assert!(
            self.attached.lock().unwrap().insert(request.sandbox_id.clone()),
            "attached twice"
        );
        Ok(NetResult {
            ips: vec![IpAddr::from([10, 9, 8, 7])],
        })
    }

    async fn remove(&self, request: &NetRequest) -> Result<(), NetError> {
        self.attached.lock().unwrap().remove(&request.sandbox_id);
        Ok(())
    }

    async fn status(&self) -> NetStatus {
        match self.refuse.lock().unwrap().clone() {
            None => NetStatus::ready(),
            Some(reason) => NetStatus::not_ready(reason),
        }
    }
}

pub struct Fixture {
    pub engine: Option<Arc<Engine>>,
    pub config: EngineConfig,
    pub network: Arc<Ledger>,
    pub cgroup: String,
    pub scratch: Scratch,
    next: AtomicU32,
}

impl Fixture {
    pub async fn new(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        if std::env::var_os("KNODE_TEST_LOG").is_some() {
            // Another test of this process may have set it up.
            let _ = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::DEBUG)
                .try_init();
        }
        let scratch = Scratch::new(name);
        let images = ImageStore::open(StoreConfig {
            root: scratch.join("images"),
            registries: Registries::default(),
        });
        let images = images.unwrap();
        let archive = scratch.join("busybox.tar");
        knode_testkit::image::busybox().build().write_oci(&archive);
        images.import_archive(&archive).await.unwrap();
        let network = Arc::new(Ledger::default());
        let mut config = EngineConfig::new(
            scratch.join("engine"),
            scratch.join("run"),
            images,
            network.clone(),
        );
        config.self_exe = PathBuf::from(env!("CARGO_BIN_EXE_knode-engine-entry"));
        let engine = Engine::open(config.clone()).await.unwrap();
        let cgroup = format!("/knode-test-{}-{name}", std::process::id());
        Self {
            engine: Some(engine),
            config,
            network,
            cgroup,
            scratch,
            next: AtomicU32::new(0),
        }
    }

    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    /// Ends the engine and opens it anew, as after a restart of the daemon.
    pub async fn reopen(&mut self) {
        self.engine = None;
        self.engine = Some(Engine::open(self.config.clone()).await.unwrap());
    }

    pub fn sandbox_config(&self) -> PodSandboxConfig {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
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
                cgroup_parent: self.cgroup.clone(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub async fn sandbox(&self) -> String {
        self.sandbox_with(self.sandbox_config()).await.unwrap()
    }

    pub async fn sandbox_with(&self, config: PodSandboxConfig) -> CriResult<String> {
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: String::new(),
        };
        Ok(self.engine().run_pod_sandbox(request).await?.pod_sandbox_id)
    }

    pub async fn create(&self, sandbox: &str, config: ContainerConfig) -> CriResult<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: None,
        };
        Ok(self.engine().create_container(request).await?.container_id)
    }

    pub async fn start(&self, container: &str) -> CriResult<()> {
        let request = StartContainerRequest {
            container_id: container.into(),
        };
        self.engine().start_container(request).await.map(|_| ())
    }

    /// Creates and starts a container that runs `script` in a shell.
    pub async fn run(&self, sandbox: &str, script: &str) -> String {
        let id = self.create(sandbox, shell(script)).await.unwrap();
        self.start(&id).await.unwrap();
        id
    }

    pub async fn status(&self, container: &str) -> ContainerStatus {
        let request = ContainerStatusRequest {
            container_id: container.into(),
            verbose: false,
        };
        self.engine()
            .container_status(request)
            .await
            .unwrap()
            .status
            .unwrap()
    }

    pub async fn wait_exited(&self, container: &str) -> ContainerStatus {
        wait_until_async("the container to end", BOUND, || async {
            let status = self.status(container).await;
            if status.state() == ContainerState::ContainerExited {
                Ok(status)
            } else {
                Err(format!("{status:?}"))
            }
        })
        .await
    }

    pub async fn exec(&self, container: &str, words: &[&str]) -> CriResult<ExecSyncResponse> {
        self.exec_for(container, words, 0).await
    }

    pub async fn exec_for(
        &self,
        container: &str,
        words: &[&str],
        timeout: i64,
    ) -> CriResult<ExecSyncResponse> {
        let cmd = words.iter().map(|word| word.to_string()).collect();
        self.engine()
            .exec_sync(ExecSyncRequest {
                container_id: container.into(),
                cmd,
                timeout,
            })
            .await
    }

    /// Standard output of a command that must succeed.
    pub async fn output(&self, container: &str, script: &str) -> String {
        let answer = self.exec(container, &["sh", "-c", script]).await.unwrap();
        let errors = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert_eq!(answer.exit_code, 0, "{script}: {errors}");
        String::from_utf8(answer.stdout).unwrap()
    }

    pub async fn stop(&self, container: &str, timeout: i64) {
        let request = StopContainerRequest {
            container_id: container.into(),
            timeout,
        };
        self.engine().stop_container(request).await.unwrap();
    }

    pub async fn log(&self, container: &str) -> String {
        let path = self.status(container).await.log_path;
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub async fn wait_log(&self, container: &str, wanted: &str) -> String {
        wait_until_async("a line in the log", BOUND, || async {
            let log = self.log(container).await;
            if log.contains(wanted) {
                Ok(log)
            } else {
                Err(format!("{wanted:?} is not in {log:?}"))
            }
        })
        .await
    }

    /// As [`Fixture::end`], for tests with mounts of their own.
    pub async fn end_leaving_mounts(mut self) {
        self.engine = None;
        let errors = teardown(self.config.clone()).await;
        assert!(errors.is_empty(), "{errors:?}");
    }

    /// Ends everything and looks whether anything is left.
    pub async fn end(mut self) {
        self.engine = None;
        let errors = teardown(self.config.clone()).await;
        assert!(errors.is_empty(), "{errors:?}");
        let mounts = knode_linux::overlay::mount_points_below(self.scratch.path()).unwrap();
        assert!(mounts.is_empty(), "mounts are left: {mounts:?}");
        let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref()).unwrap();
        let group = PathBuf::from(&self.cgroup);
        assert!(cgroups.processes(&group).unwrap().is_empty());
        assert!(
            self.network.attached.lock().unwrap().is_empty(),
            "pods are still attached"
        );
        let left = processes_below(&self.scratch.path().display().to_string());
        assert!(left.is_empty(), "processes are left: {left:?}");
    }
}

impl Drop for Fixture {
    /// After a failed test what it started must not stay.
    fn drop(&mut self) {
        self.engine = None;
        let config = self.config.clone();
        let ending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(teardown(config))
        });
        match ending.join() {
            Ok(errors) if errors.is_empty() => {}
            other => eprintln!("teardown: {other:?}"),
        }
        let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref()).unwrap();
        let group = PathBuf::from(&self.cgroup);
        for result in [cgroups.kill(&group), cgroups.remove(&group)] {
            if let Err(error) = result {
                eprintln!("control group {}: {error}", group.display());
            }
        }
    }
}

/// Command lines and working files of processes that name `path`.
pub fn processes_below(path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() || name == std::process::id().to_string() {
            continue;
        }
        let open = std::fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let names = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        if names.into_iter().any(|target| target.starts_with(path)) {
            let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!("{name} {}", line.replace('\0', " ")));
        }
    }
    found
}

/// A container that runs `script` in a shell.
pub fn shell(script: &str) -> ContainerConfig {
    command(&["sh", "-c", script])
}

pub fn command(words: &[&str]) -> ContainerConfig {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: format!("c{number}"),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: IMAGE.into(),
            ..Default::default()
        }),
        command: words.iter().map(|word| word.to_string()).collect(),
        log_path: format!("c{number}/0.log"),
        ..Default::default()
    }
}

/// Changes the security settings of a container.
pub fn secured(
    mut config: ContainerConfig,
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> ContainerConfig {
    let linux = config.linux.get_or_insert_with(Default::default);
    change(linux.security_context.get_or_insert_with(Default::default));
    config
}

/// Changes the limits of a container.
pub fn limited(
    mut config: ContainerConfig,
    change: impl FnOnce(&mut LinuxContainerResources),
) -> ContainerConfig {
    let linux = config.linux.get_or_insert_with(Default::default);
    change(linux.resources.get_or_insert_with(Default::default));
    config
}
