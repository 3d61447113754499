use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::rr::Name;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::feed::Feed;
use super::http::{self, Role, Sources};
use super::server::{Server, SharedModel};
use super::{Config, Error, resolv};
use crate::forward::Forwarder;
use crate::metrics::Metrics;
use crate::zone::Zone;

/// A server whose sockets are bound.
pub struct Dns {
    server: Arc<Server>,
    feed: Feed,
    synced: watch::Sender<bool>,
    ending: Arc<AtomicBool>,
    lameduck: Duration,
    /// Whatever runs until the end.
    tasks: JoinSet<()>,
}

impl Dns {
    /// Binds the sockets and begins to answer. About the cluster nothing is said before its first lists are complete.
    ///
    /// # Errors
    /// [`Error`] when an address cannot be had.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let metrics: Arc<Metrics> = Arc::default();
        let follows = config.servers.is_empty();
        let servers = match follows {
            true => resolv::read(&config.resolv_conf),
            false => config.servers.clone(),
        };
        let forwarder = Forwarder::counted(&config.stubs, &servers, config.cache, metrics.clone());
        let forwarder = Arc::new(forwarder);
        let model = SharedModel::default();
        let zone = zone(&config)?;
        let server = Server::counted(zone, model.clone(), forwarder.clone(), metrics, false);
        let server = Arc::new(server);
        let mut tasks = JoinSet::new();
        for address in &config.listen {
            listen(*address, &server, &mut tasks).await?;
        }
        let ending = Arc::new(AtomicBool::new(false));
        let sources = Sources {
            server: server.clone(),
            ending: ending.clone(),
        };
        for (role, address) in [
            (Role::Health, config.health),
            (Role::Ready, config.ready),
            (Role::Metrics, config.metrics),
        ] {
            let Some(address) = address else { continue };
            let listener = bound(role.name(), address, TcpListener::bind(address).await)?;
            tasks.spawn(http::serve(listener, role, sources.clone()));
        }
        forwarder.look_for_loops();
        if follows {
            tasks.spawn(resolv::follow(config.resolv_conf, forwarder));
        }
        Ok(Self {
            server,
            feed: Feed::start(&config.client, model),
            synced: watch::Sender::new(false),
            ending,
            lameduck: config.lameduck,
            tasks,
        })
    }

    /// Becomes true when the first lists are complete.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Follows the cluster until `shutdown` resolves, and answers for the lameduck time after that. While the API
    /// server is away the last state counts.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let lameduck = self.lameduck;
        let ending = self.ending.clone();
        let end = async {
            shutdown.await;
            ending.store(true, Ordering::Relaxed);
            tokio::time::sleep(lameduck).await;
        };
        tokio::select! {
            () = end => {}
            () = self.follow() => {}
        }
        self.tasks.shutdown().await;
    }

    async fn follow(&mut self) {
        loop {
            self.feed.next().await;
            if self.feed.is_synced() && !self.server.is_synced() {
                self.server.is_synced_now();
                self.synced.send_replace(true);
                tracing::info!("names of the cluster are answered");
            }
        }
    }
}

fn zone(config: &Config) -> Result<Zone, Error> {
    let wrong = |_| Error::Domain(config.domain.clone());
    let mut origin = Name::from_ascii(&config.domain).map_err(wrong)?;
    if origin.is_empty() {
        return Err(Error::Domain(config.domain.clone()));
    }
    origin.set_fqdn(true);
    Ok(Zone {
        origin: origin.to_lowercase(),
        ttl: config.ttl,
        own_ips: config.listen.iter().map(SocketAddr::ip).collect(),
    })
}

async fn listen(address: SocketAddr, server: &Arc<Server>, tasks: &mut JoinSet<()>) -> Result<(), Error> {
    if address.ip().is_unspecified() {
        return Err(Error::Unspecified(address));
    }
    let socket = bound("DNS", address, UdpSocket::bind(address).await)?;
    let listener = bound("DNS", address, TcpListener::bind(address).await)?;
    tasks.spawn(server.clone().serve_udp(socket));
    tasks.spawn(server.clone().serve_tcp(listener));
    Ok(())
}

fn bound<T>(what: &'static str, address: SocketAddr, socket: std::io::Result<T>) -> Result<T, Error> {
    socket.map_err(|source| Error::Listen {
        what,
        address,
        source,
    })
}
