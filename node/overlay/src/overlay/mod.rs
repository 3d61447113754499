//! The runner: waits, and lets the planner's steps be taken.

mod edge;
mod session;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::Ipv4Net;
use knode_client::{Backoff, Retry};
use knode_netlink::MacAddr;
use tokio::sync::watch;

use crate::config::{Backend, NetConf};
use crate::error::{Error, Result};
use crate::lease::{BackendData, Lease, LeaseAttributes};
use crate::store::{LeaseStore, Previous};
use crate::underlay::{Underlay, Wish};
use edge::Edge;

/// How the overlay is set up on this node.
#[derive(Debug, Clone)]
pub struct Config {
    /// The pod network, the same on all nodes.
    pub conf: NetConf,
    /// Which interface leads to the other nodes.
    pub wish: Wish,
    /// Masquerade what leaves the pod network (`--ip-masq`).
    pub masquerade: bool,
    /// Where to write the subnet file (`/run/flannel/subnet.env`).
    pub subnet_file: PathBuf,
}

/// The node's part of the pod network, ready for pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Addresses of this node's pods.
    pub ipv4: Ipv4Net,
    /// Largest packet that crosses the overlay whole, bytes.
    pub mtu: u32,
}

/// The overlay of one node, in the namespace of the thread that opened it.
pub struct Overlay {
    config: Config,
    store: Arc<dyn LeaseStore>,
    edge: Arc<Edge>,
    underlay: Underlay,
    subnet: watch::Sender<Option<Subnet>>,
}

impl Overlay {
    /// Checks the configuration and chooses the interface to the other nodes. Changes nothing yet.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for backends that are not built, [`Error::Underlay`], [`Error::Netlink`], [`Error::Nft`].
    pub fn open(config: Config, store: Arc<dyn LeaseStore>) -> Result<Self> {
        let edge = Edge::open()?;
        let underlay = edge.kernel.underlay(&config.wish)?;
        Self::start(config, store, edge, underlay)
    }

    /// Likewise over an interface that was chosen already; of the wish in `config` only the address to tell counts.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for backends that are not built, [`Error::Netlink`], [`Error::Nft`].
    pub fn over(config: Config, store: Arc<dyn LeaseStore>, underlay: Underlay) -> Result<Self> {
        Self::start(config, store, Edge::open()?, underlay)
    }

    fn start(config: Config, store: Arc<dyn LeaseStore>, edge: Edge, underlay: Underlay) -> Result<Self> {
        supported(&config.conf)?;
        tracing::info!(interface = underlay.name, ip = %underlay.ip, mtu = underlay.mtu, "overlay over this interface");
        Ok(Self {
            config,
            store,
            edge: Arc::new(edge),
            underlay,
            subnet: watch::Sender::new(None),
        })
    }

    /// The node's subnet: `None` until the overlay carries packets.
    pub fn subnet(&self) -> watch::Receiver<Option<Subnet>> {
        self.subnet.subscribe()
    }

    /// The interface to the other nodes.
    pub fn underlay(&self) -> &Underlay {
        &self.underlay
    }

    /// Takes the lease and keeps the kernel as it should be, until dropped. What it made stays then.
    ///
    /// # Errors
    /// [`Error::Netlink`] or [`Error::Nft`] when the kernel's notices cannot be read, [`Error::SubnetOutside`],
    /// [`Error::Store`] when the store has ended. All else is tried again.
    pub async fn run(&self) -> Result<()> {
        let attributes = self.attributes().await?;
        let own = self.acquire(&attributes).await?;
        session::run(self, attributes, own).await
    }

    async fn attributes(&self) -> Result<LeaseAttributes> {
        let op = "ask for what an earlier start left";
        let told = self.config.wish.public_ip.unwrap_or(self.underlay.ip);
        let previous = self.persist(op, || self.store.previous(told)).await?;
        let public_ip = previous.public_ip_overwrite.unwrap_or(told);
        Ok(LeaseAttributes {
            public_ip,
            backend: self.backend(&previous)?,
        })
    }

    fn backend(&self, previous: &Previous) -> Result<BackendData> {
        let Backend::Vxlan(vxlan) = &self.config.conf.backend else {
            return Ok(BackendData::HostGw);
        };
        let mac = match previous.mac {
            Some(mac) => mac,
            None => self
                .edge
                .kernel
                .mac_of(&format!("flannel.{}", vxlan.vni))?
                .map_or_else(random_mac, Ok)?,
        };
        Ok(BackendData::Vxlan { vni: vxlan.vni, mac })
    }

    async fn acquire(&self, attributes: &LeaseAttributes) -> Result<Lease> {
        let lease = self
            .persist("take the node's lease", || self.store.acquire(attributes))
            .await?;
        let network = self.config.conf.network;
        if !network.contains(&lease.subnet) {
            return Err(Error::SubnetOutside {
                subnet: lease.subnet,
                network,
            });
        }
        tracing::info!(subnet = %lease.subnet, public_ip = %lease.attributes.public_ip, "subnet leased");
        Ok(lease)
    }

    /// Asks the store until it answers.
    async fn persist<T, F>(&self, op: &'static str, mut ask: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, crate::StoreError>>,
    {
        let mut retry = Retry::new(Backoff::API);
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error @ (crate::StoreError::Ended | crate::StoreError::Unsupported(_))) => {
                    return Err(Error::store(op)(error));
                }
                Err(error) => {
                    let error = Error::store(op)(error);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the lease store failed; trying again"
                    );
                    tokio::time::sleep(retry.failed()).await;
                }
            }
        }
    }

    async fn announce(&self) -> Result<()> {
        self.persist("announce that the network works", || self.store.announce_ready())
            .await
    }
}

/// Refuses by name what is not built.
fn supported(conf: &NetConf) -> Result<()> {
    let missing = match &conf.backend {
        _ if conf.ipv6_network.is_some() => "IPv6 in the overlay".to_owned(),
        Backend::Vxlan(_) | Backend::HostGw => return Ok(()),
        Backend::Other(name) if name == "udp" => {
            "backend udp, which flannel takes when the network's configuration names none; \
             {\"Backend\":{\"Type\":\"vxlan\"}} does its work"
                .to_owned()
        }
        Backend::Other(name) => format!("backend {name}"),
    };
    Err(Error::Unsupported(missing))
}

fn random_mac() -> Result<MacAddr> {
    let path = std::path::Path::new("/dev/urandom");
    let mut bytes = [0; 6];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(Error::file("read", path))?;
    Ok(MacAddr::local(bytes))
}
