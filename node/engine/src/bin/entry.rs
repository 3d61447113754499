//! For tests: the engine's entry points alone (there `/proc/self/exe` is the test's own program), with `serve` an
//! engine on a socket whose network only keeps books, so that tests can kill it, and with `teardown` its end.
#![allow(clippy::print_stderr, reason = "there is nobody else to tell")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use knode_engine::net::{NetError, NetRequest, NetResult, NetStatus, PodNetwork};
use knode_engine::{CgroupDriver, Engine, EngineConfig, OciProgram, Runtimes, teardown};
use knode_images::{ImageStore, Registries, StoreConfig};

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = knode_engine::entry::dispatch(arguments.clone()) {
        std::process::exit(code);
    }
    let [word, directory] = arguments.as_slice() else {
        std::process::exit(2)
    };
    let directory = PathBuf::from(directory);
    let result = match word.to_str() {
        Some("serve") => run(async { serve(directory).await }),
        Some("teardown") => run(async { end(directory).await }),
        _ => std::process::exit(2),
    };
    if let Err(error) = result {
        eprintln!("{}: {error}", word.display());
        std::process::exit(1);
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn run(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

/// Serves an engine that has everything below `directory`, until it is killed.
async fn serve(directory: PathBuf) -> Outcome {
    let engine = Engine::open(config(&directory)?).await?;
    let socket = directory.join("cri.sock");
    knode_cri::server::serve(&socket, engine.clone(), engine, std::future::pending()).await?;
    Ok(())
}

async fn end(directory: PathBuf) -> Outcome {
    let errors = teardown(config(&directory)?).await;
    match errors.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// An engine that has everything below `directory`, where `systemd` says that it asks systemd for control groups, `selinux`
/// that it labels containers, `runtimes.json` may name OCI programs, `certs.d` tell how
/// registries are reached, and `network-refuses` why there is no network.
fn config(directory: &Path) -> Result<EngineConfig, Box<dyn std::error::Error>> {
    let certs = directory.join("certs.d");
    let registries = Registries {
        certs_dir: certs.is_dir().then_some(certs),
        ..Registries::default()
    };
    let images = ImageStore::open(StoreConfig {
        root: directory.join("images"),
        registries,
    })?;
    let books = Books(directory.to_owned());
    std::fs::create_dir_all(directory.join("network"))?;
    let mut config = EngineConfig::new(
        directory.join("engine"),
        directory.join("run"),
        images,
        Arc::new(books),
    );
    if directory.join("systemd").exists() {
        config.cgroup_driver = CgroupDriver::Systemd;
    }
    config.selinux = directory.join("selinux").exists();
    if let Ok(text) = std::fs::read(directory.join("runtimes.json")) {
        let programs: BTreeMap<String, OciProgram> = serde_json::from_slice(&text)?;
        config.runtimes = Runtimes::new(programs, None)?;
    }
    Ok(config)
}

/// A file for each pod that is attached, with what was asked for.
struct Books(PathBuf);

impl Books {
    fn page(&self, sandbox: &str) -> PathBuf {
        self.0.join("network").join(sandbox)
    }

    fn refuses(&self) -> Option<String> {
        std::fs::read_to_string(self.0.join("network-refuses")).ok()
    }
}

#[async_trait]
impl PodNetwork for Books {
    async fn add(&self, request: &NetRequest) -> Result<NetResult, NetError> {
        if let Some(reason) = self.refuses() {
            return Err(reason.into());
        }
        std::fs::File::open(&request.netns)?;
        let mut page = std::fs::File::create_new(self.page(&request.sandbox_id))?;
        std::io::Write::write_all(&mut page, format!("{request:#?}").as_bytes())?;
        Ok(NetResult {
            ips: vec![
                IpAddr::from([10, 9, 8, 7]),
                IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 7]),
            ],
        })
    }

    async fn remove(&self, request: &NetRequest) -> Result<(), NetError> {
        match std::fs::remove_file(self.page(&request.sandbox_id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn status(&self) -> NetStatus {
        match self.refuses() {
            None => NetStatus::ready(),
            Some(reason) => NetStatus::not_ready(reason),
        }
    }

    async fn pod_cidr(&self, cidr: &str) {
        if let Err(error) = std::fs::write(self.0.join("pod-cidr"), cidr) {
            eprintln!("pod-cidr: {error}");
        }
    }
}
