//! Who may sign the clients of the kubelet's API: read at the start, and again whenever the files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use knode_pki::kubeconfig::Kubeconfig;
use rustls::ServerConfig;
use tokio::sync::watch;

use super::follow::follow;
use super::serving::ServingCertificate;
use crate::config::{NodeConfig, TlsOptions};
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
    options: TlsOptions,
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
        let tls = server::tls_config(serving.clone(), &seen, &config.tls)?;
        let (sender, receiver) = watch::channel(Arc::new(tls));
        let this = Self {
            source,
            serving,
            options: config.tls.clone(),
            seen,
            sender,
        };
        Ok((this, receiver))
    }

    /// Takes up what the files say, for ever.
    pub(crate) async fn follow(mut self) {
        follow("the authorities of the kubelet's clients", || self.take_up()).await;
    }

    fn take_up(&mut self) -> Result<Vec<PathBuf>> {
        let (text, files) = self.source.read()?;
        if text != self.seen {
            let tls = server::tls_config(self.serving.clone(), &text, &self.options)?;
            self.sender.send_replace(Arc::new(tls));
            self.seen = text;
            tracing::info!("the authorities of the kubelet's clients were taken up anew");
        }
        Ok(files)
    }
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
