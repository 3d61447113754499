//! For tests: the engine's entry points alone (there `/proc/self/exe` is the test's own program), and with `serve` an
//! engine on a socket whose network only keeps books, so that tests can kill it.
#![allow(clippy::print_stderr, reason = "there is nobody else to tell")]

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use knode_engine::net::{NetError, NetRequest, NetResult, NetStatus, PodNetwork};
use knode_engine::{Engine, EngineConfig};
use knode_images::{ImageStore, Registries, StoreConfig};

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = knode_engine::entry::dispatch(arguments.clone()) {
        std::process::exit(code);
    }
    let [word, directory] = arguments.as_slice() else {
        std::process::exit(2)
    };
    if word != "serve" {
        std::process::exit(2);
    }
    if let Err(error) = run(PathBuf::from(directory)) {
        eprintln!("serve: {error}");
        std::process::exit(1);
    }
}

/// Serves an engine that has everything below `directory`, until it is killed.
fn run(directory: PathBuf) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let images = ImageStore::open(StoreConfig {
            root: directory.join("images"),
            registries: Registries::default(),
        })?;
        let books = Books(directory.join("network"));
        std::fs::create_dir_all(&books.0)?;
        let config = EngineConfig::new(
            directory.join("engine"),
            directory.join("run"),
            images,
            Arc::new(books),
        );
        let engine = Engine::open(config).await?;
        let socket = directory.join("cri.sock");
        knode_cri::server::serve(&socket, engine.clone(), engine, std::future::pending()).await?;
        Ok(())
    })
}

/// A file for each pod that is attached, with what was asked for.
struct Books(PathBuf);

#[async_trait]
impl PodNetwork for Books {
    async fn add(&self, request: &NetRequest) -> Result<NetResult, NetError> {
        std::fs::File::open(&request.netns)?;
        let mut page = std::fs::File::create_new(self.0.join(&request.sandbox_id))?;
        std::io::Write::write_all(&mut page, format!("{request:#?}").as_bytes())?;
        Ok(NetResult {
            ips: vec![IpAddr::from([10, 9, 8, 7])],
        })
    }

    async fn remove(&self, request: &NetRequest) -> Result<(), NetError> {
        match std::fs::remove_file(self.0.join(&request.sandbox_id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn status(&self) -> NetStatus {
        NetStatus::ready()
    }
}
