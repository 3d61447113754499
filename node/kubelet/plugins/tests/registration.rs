//! Plugins that come, go and change in a directory, and what their handler hears of it.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use knode_kubelet_plugins::v1::registration_server::{Registration, RegistrationServer};
use knode_kubelet_plugins::v1::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use knode_kubelet_plugins::{Handler, Plugin, Refusal, Watcher};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// Takes plugins of version `v1`, and notes what happens.
#[derive(Default)]
struct Notes {
    heard: watch::Sender<Vec<String>>,
    /// Says no to that many registrations.
    refuse: Mutex<u32>,
}

impl Notes {
    fn note(&self, text: String) {
        self.heard.send_modify(|all| all.push(text));
    }

    async fn wait(&self, what: &[&str]) {
        let mut heard = self.heard.subscribe();
        let met = heard.wait_for(|all| all.len() >= what.len());
        let met = tokio::time::timeout(Duration::from_secs(20), met).await.is_ok();
        assert_eq!(*self.heard.borrow(), what, "in time: {met}");
    }
}

#[async_trait]
impl Handler for Notes {
    fn kind(&self) -> &'static str {
        "TestPlugin"
    }

    async fn validate(&self, plugin: &Plugin) -> Result<(), Refusal> {
        match plugin.versions.iter().any(|one| one == "v1") {
            true => Ok(()),
            false => Err(Refusal(format!("versions {:?}", plugin.versions))),
        }
    }

    async fn register(&self, plugin: &Plugin) -> Result<(), Refusal> {
        let mut refuse = self.refuse.lock().unwrap();
        if *refuse > 0 {
            *refuse -= 1;
            return Err(Refusal("not now".to_owned()));
        }
        self.note(format!("+{} at {}", plugin.name, plugin.endpoint.display()));
        Ok(())
    }

    async fn deregister(&self, plugin: &Plugin) {
        self.note(format!("-{}", plugin.name));
    }
}

/// A plugin that presents itself, and remembers what it was told.
#[derive(Clone)]
struct Fake {
    info: PluginInfo,
    told: watch::Sender<Vec<RegistrationStatus>>,
}

#[tonic::async_trait]
impl Registration for Fake {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        self.told.send_modify(|all| all.push(request.into_inner()));
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

impl Fake {
    fn new(kind: &str, name: &str, version: &str) -> Self {
        let info = PluginInfo {
            r#type: kind.to_owned(),
            name: name.to_owned(),
            endpoint: "/run/x.sock".to_owned(),
            supported_versions: vec![version.to_owned()],
        };
        let told = watch::Sender::default();
        Self { info, told }
    }

    fn serve(&self, socket: &Path) -> JoinHandle<()> {
        let listener = UnixListener::bind(socket).unwrap();
        let service = RegistrationServer::new(self.clone());
        tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .unwrap();
        })
    }

    async fn told(&self) -> RegistrationStatus {
        let mut told = self.told.subscribe();
        let first = told.wait_for(|all| !all.is_empty());
        let first = tokio::time::timeout(Duration::from_secs(20), first).await;
        first.expect("told within 20 s").unwrap()[0].clone()
    }
}

struct Setup {
    directory: PathBuf,
    notes: Arc<Notes>,
    watcher: JoinHandle<()>,
}

impl Setup {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("plugins-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let notes = Arc::new(Notes::default());
        let watcher = Watcher::new(&directory, vec![notes.clone()]).unwrap();
        let watcher = tokio::spawn(async move { match watcher.run().await {} });
        Self {
            directory,
            notes,
            watcher,
        }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.watcher.abort();
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

#[tokio::test]
async fn a_plugin_comes_is_replaced_and_goes() {
    let setup = Setup::new("comes");
    let below = setup.directory.join("driver");
    std::fs::create_dir(&below).unwrap();
    let socket = below.join("reg.sock");
    let plugin = Fake::new("TestPlugin", "one", "v1");
    let server = plugin.serve(&socket);
    setup.notes.wait(&["+one at /run/x.sock"]).await;
    assert!(plugin.told().await.plugin_registered);

    // A plugin that starts anew removes its old socket.
    server.abort();
    std::fs::remove_file(&socket).unwrap();
    let again = Fake::new("TestPlugin", "one", "v1");
    let server = again.serve(&socket);
    let heard = ["+one at /run/x.sock", "-one", "+one at /run/x.sock"];
    setup.notes.wait(&heard).await;
    assert!(again.told().await.plugin_registered);

    server.abort();
    std::fs::remove_file(&socket).unwrap();
    setup.notes.wait(&[heard[0], heard[1], heard[2], "-one"]).await;
}

#[tokio::test]
async fn plugins_hear_why_they_are_not_taken() {
    let setup = Setup::new("refused");
    let (kind, version) = (
        Fake::new("OtherPlugin", "x", "v1"),
        Fake::new("TestPlugin", "x", "v2"),
    );
    let one = kind.serve(&setup.directory.join("kind.sock"));
    let other = version.serve(&setup.directory.join("version.sock"));
    let status = kind.told().await;
    assert!(!status.plugin_registered);
    assert_eq!(status.error, "no handler registered for plugin type: OtherPlugin");
    assert_eq!(
        version.told().await.error,
        "plugin validation failed: versions [\"v2\"]"
    );
    assert_eq!(setup.notes.heard.borrow().len(), 0);
    one.abort();
    other.abort();
}

#[tokio::test]
async fn a_plugin_that_was_refused_is_asked_again() {
    let setup = Setup::new("again");
    *setup.notes.refuse.lock().unwrap() = 2;
    let plugin = Fake::new("TestPlugin", "one", "v1");
    let server = plugin.serve(&setup.directory.join("a.sock"));
    setup.notes.wait(&["-one", "-one", "+one at /run/x.sock"]).await;
    assert_eq!(plugin.told().await.error, "plugin registration failed: not now");
    server.abort();
}
