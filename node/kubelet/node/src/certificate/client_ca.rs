//! Who may sign the clients of the kubelet's API: read at the start, and again whenever the files change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knode_linux::filewatch::FileWatch;
use knode_pki::kubeconfig::Kubeconfig;
use rustls::ServerConfig;
use tokio::sync::watch;

use super::serving::ServingCertificate;
use crate::config::NodeConfig;
use crate::{Error, Result, server};

/// Where the authorities stand: the file that is configured, or the kubeconfig of the node's own cluster.
enum Source {
    File(PathBuf),
    Kubeconfig(PathBuf),
}

/// Keeps what the kubelet's server speaks TLS with.
pub(crate) struct ClientCa {
    source: Source,
    serving: Arc<ServingCertificate>,
    seen: String,
    sender: watch::Sender<Arc<ServerConfig>>,
}

impl ClientCa {
    /// Reads the authorities; the receiver gets another configuration when they are replaced.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::NoAuthority`], [`Error::ClientCa`], [`Error::Tls`].
    pub(crate) fn start(
        config: &NodeConfig,
        serving: Arc<ServingCertificate>,
    ) -> Result<(Self, watch::Receiver<Arc<ServerConfig>>)> {
        let source = match &config.client_ca {
            Some(path) => Source::File(path.clone()),
            None => Source::Kubeconfig(config.kubeconfig.clone()),
        };
        let (seen, _) = source.read()?;
        let tls = server::tls_config(serving.clone(), &seen)?;
        let (sender, receiver) = watch::channel(Arc::new(tls));
        let this = Self {
            source,
            serving,
            seen,
            sender,
        };
        Ok((this, receiver))
    }

    /// Takes up what the files say, for ever.
    pub(crate) async fn follow(mut self) {
        let mut watched = BTreeSet::new();
        let watch = match FileWatch::new() {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(%error, "a replaced authority is noticed at the next start only");
                return std::future::pending().await;
            }
        };
        loop {
            match self.take_up() {
                // Between reading and watching something may have changed.
                Ok(files) if add(&watch, &mut watched, &files) => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the authorities of the kubelet's clients stay as they were"
                ),
            }
            if let Err(error) = watch.changed().await {
                tracing::warn!(%error, "a replaced authority is noticed at the next start only");
                return std::future::pending().await;
            }
        }
    }

    fn take_up(&mut self) -> Result<Vec<PathBuf>> {
        let (text, files) = self.source.read()?;
        if text != self.seen {
            let tls = server::tls_config(self.serving.clone(), &text)?;
            self.sender.send_replace(Arc::new(tls));
            self.seen = text;
            tracing::info!("the authorities of the kubelet's clients were taken up anew");
        }
        Ok(files)
    }
}

/// Watches the directories of the files; whether there is a new one among them.
fn add(watch: &FileWatch, watched: &mut BTreeSet<PathBuf>, files: &[PathBuf]) -> bool {
    let before = watched.len();
    for directory in files.iter().filter_map(|file| file.parent()).map(Path::to_owned) {
        if watched.contains(&directory) {
            continue;
        }
        match watch.add_directory(&directory) {
            Ok(()) => drop(watched.insert(directory)),
            Err(error) => tracing::warn!(directory = %directory.display(), %error, "not followed"),
        }
    }
    watched.len() > before
}

impl Source {
    /// The authorities, PEM, and the files in which they stand.
    fn read(&self) -> Result<(String, Vec<PathBuf>)> {
        let path = match self {
            Self::File(path) => return Ok((knode_pki::files::read(path)?, vec![path.clone()])),
            Self::Kubeconfig(path) => path,
        };
        let access = Kubeconfig::load_access(path)?;
        let ca = access
            .ca
            .ok_or_else(|| Error::NoAuthority { path: path.clone() })?;
        let named = ca.path().map(Path::to_owned);
        let files = std::iter::once(path.clone()).chain(named).collect();
        Ok((ca.read()?, files))
    }
}
