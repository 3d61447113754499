//! The runner: waits, and lets the planner's steps be taken.

mod attributes;
mod carrier;
mod edge;
mod session;

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use knode_client::{Backoff, Retry};
use tokio::sync::watch;

use crate::config::{Backend, NetConf};
use crate::error::{Error, Result};
use crate::extension;
use crate::lease::{Lease, LeaseAttributes};
use crate::masquerade::Rules;
use crate::store::LeaseStore;
use crate::underlay::{Underlay, Wish};
use carrier::Carrier;
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
    /// Their IPv6 addresses, where the network has such.
    pub ipv6: Option<Ipv6Net>,
    /// Largest packet that crosses the overlay whole, bytes; of two families the smaller one's.
    pub mtu: u32,
}

/// The overlay of one node, in the namespace of the thread that opened it.
pub struct Overlay {
    config: Config,
    store: Arc<dyn LeaseStore>,
    edge: Arc<Edge>,
    underlay: Underlay,
    rules: Rules,
    blackhole: bool,
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

    /// Likewise over an interface that was chosen already; of the wish in `config` only the addresses to tell count.
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
            rules: Rules::default(),
            blackhole: false,
            subnet: watch::Sender::new(None),
        })
    }

    /// Has the rules otherwise than by default.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Drops what goes to addresses of the node's own subnet that no bridge and no pod's route takes
    /// (`--ip-blackhole-route`). Without it a route that was left for that is removed.
    #[must_use]
    pub fn with_blackhole(self, blackhole: bool) -> Self {
        Self { blackhole, ..self }
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
    /// [`Error::Unsupported`] when the kernel lacks what the backend needs, [`Error::Underlay`] without an IPv6 address
    /// in a network that has IPv6, [`Error::Command`] when one of the administrator's commands at the start fails,
    /// [`Error::Netlink`] or [`Error::Nft`] when the kernel's notices cannot be read, [`Error::SubnetOutside`],
    /// [`Error::Store`] when the store has ended. All else is tried again.
    pub async fn run(&self) -> Result<()> {
        let carrier = Carrier::prepare(self).await?;
        let attributes = self.attributes(&carrier).await?;
        let own = self.acquire(&attributes).await?;
        if let Backend::Extension(commands) = &self.config.conf.backend
            && let Some(call) = extension::post_startup(&self.config.conf, commands, &own)
        {
            extension::run(&call).await?;
        }
        session::run(self, carrier, attributes, own).await
    }

    /// What an administrator wants done at the end (`ShutdownCommand` of the backend `extension`). The overlay's work
    /// stays as it is.
    ///
    /// # Errors
    /// [`Error::Command`], [`Error::CommandStart`].
    pub async fn shutdown(&self) -> Result<()> {
        if let Backend::Extension(commands) = &self.config.conf.backend
            && let Some(call) = extension::shutdown(commands)
        {
            extension::run(&call).await?;
        }
        Ok(())
    }

    async fn acquire(&self, attributes: &LeaseAttributes) -> Result<Lease> {
        let lease = self
            .persist("take the node's lease", || self.store.acquire(attributes))
            .await?;
        let conf = &self.config.conf;
        let ipv6 = conf
            .ipv6
            .and_then(|v6| Some((lease.ipv6_subnet?.into(), v6.network.into())));
        let sides: [Option<(IpNet, IpNet)>; 2] = [Some((lease.subnet.into(), conf.network.into())), ipv6];
        for (subnet, network) in sides.into_iter().flatten() {
            if !network.contains(&subnet) {
                return Err(Error::SubnetOutside { subnet, network });
            }
        }
        let public_ip = lease.attributes.public_ip;
        tracing::info!(subnet = %lease.subnet, ipv6 = ?lease.ipv6_subnet, %public_ip, "subnet leased");
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
        Backend::Other(name) if name == "udp" => {
            "backend udp, which flannel takes when the network's configuration names none; \
             {\"Backend\":{\"Type\":\"vxlan\"}} does its work"
                .to_owned()
        }
        Backend::Other(name) => format!("backend {name}"),
        Backend::Ipip { .. } if conf.ipv6.is_some() => "IPv6 through backend ipip".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::Unsupported(missing))
}
