//! The server: started on a store, served over TLS, and in process.

mod bootstrap;
mod compaction;
mod listener;
mod local;
pub(crate) mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use knode_store::Store;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::alloc::{Allocators, Pools};
use crate::auth::{Authenticator, Authorizer};
use crate::cache::Cache;
use crate::config::{ApiServerConfig, Credentials};
use crate::core::Core;
use crate::handler::Handler;
use crate::user::UserInfo;

pub use local::LocalService;

/// Why a server doesn't start or serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the store holds can't be read.
    #[error("cannot load the cluster's state")]
    Load(#[source] knode_store::Error),
    /// An object that every cluster has can't be made.
    #[error("cannot create {what}: {why}")]
    Bootstrap {
        /// The object.
        what: String,
        /// What the registry says.
        why: String,
    },
    /// A certificate or key can't be used.
    #[error("cannot use {what}")]
    Tls {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A certificate, key or verifier can't be read.
    #[error("cannot read {what}: {why}")]
    Pem {
        /// Which one.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The port is taken.
    #[error("port {} of {} is taken by {holder}", address.port(), address.ip())]
    PortTaken {
        /// The address.
        address: SocketAddr,
        /// The process that has it, as `process n (name)`, as far as it can be told.
        holder: String,
    },
    /// The address can't be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// An API server that runs on a store. Clones share it.
#[derive(Clone)]
pub struct ApiServer {
    handler: Arc<Handler>,
    /// What the next connection is made with.
    tls: Arc<watch::Sender<Arc<rustls::ServerConfig>>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiServer")
    }
}

impl ApiServer {
    /// Loads the cluster's state and makes sure of the objects that every cluster has. Nothing is served yet.
    ///
    /// # Errors
    /// [`Error::Tls`] and [`Error::Pem`] about certificates, [`Error::Load`] about the store,
    /// [`Error::Bootstrap`] if an object can't be made.
    pub async fn start(config: ApiServerConfig, store: Store) -> Result<Self, Error> {
        let trust = Arc::new(tls::Trust::new(&config.credentials.client_ca_pem)?);
        let tls = Arc::new(tls::server_config(&config.credentials, &trust)?);
        let kubelets = crate::kubelet::Kubelets::new(&config.credentials)?;
        let cache = Cache::start(&store).await.map_err(Error::Load)?;
        let allocators = Allocators::new(Pools::new(&config.service_cidrs, config.node_port_range.clone()));
        let authenticator = Authenticator::new(&config, cache.clone(), trust);
        let authorizer = Authorizer::new(cache.clone());
        let closing = watch::Sender::new(false);
        let core = Arc::new(Core {
            config,
            store,
            cache,
            allocators,
            authenticator,
            authorizer,
            kubelets,
            closing,
        });
        if let Some(services) = core.cached_table("", "services") {
            services
                .all("")
                .iter()
                .for_each(|service| core.allocators.adopt(&service.value()));
        }
        bootstrap::ensure(&core).await?;
        tokio::spawn(compaction::run(core.store.clone(), core.closing.subscribe()));
        tokio::spawn(compaction::expire_objects(core.clone()));
        Ok(Self {
            handler: Arc::new(Handler::new(core)),
            tls: Arc::new(watch::Sender::new(tls)),
        })
    }

    /// Shows these certificates and believes these authorities from now on: at the next connection of a client or to
    /// a kubelet, and at the next request of a client whose connection is there. On an error nothing changes.
    ///
    /// # Errors
    /// [`Error::Tls`], [`Error::Pem`].
    pub fn renew(&self, credentials: &Credentials) -> Result<(), Error> {
        let core = self.handler.core();
        let kubelets = core.kubelets.prepare(credentials)?;
        let tls = tls::renewed(credentials, core.authenticator.trust())?;
        core.kubelets.replace(kubelets);
        self.tls.send_replace(Arc::new(tls));
        Ok(())
    }

    /// A service for clients in this process, which speak as this user. It fits `kube::Client::new`.
    pub fn service(&self, user: UserInfo) -> LocalService {
        LocalService::new(self.handler.clone(), user)
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// [`Error::PortTaken`] names the process that has the port; [`Error::Listen`].
    pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
        TcpListener::bind(address)
            .await
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::AddrInUse => Error::PortTaken {
                    address,
                    holder: knode_linux::port::holder(address.port()),
                },
                _ => Error::Listen { address, source },
            })
    }

    /// Serves HTTPS on a listener until `shutdown` resolves; then watches end and other requests are
    /// finished, for at most a few seconds.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        listener::serve(self.handler.clone(), self.tls.subscribe(), listener, shutdown).await;
    }

    /// Ends all watches. Clients in this process notice that the server ends.
    pub fn close(&self) {
        self.handler.core().closing.send_replace(true);
    }
}
