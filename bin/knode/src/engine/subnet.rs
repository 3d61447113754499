//! The built-in pod network of an engine alone: its addresses are those of the command line, or those that a kubelet
//! tells; what pods send to outside gets the host's address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use ipnet::IpNet;
use knode_engine::net::{NetError, NetRequest, NetResult, NetStatus, PodNetwork};
use knode_netlink::Handle;
use knode_podnet::Subnet;
use tokio::sync::watch;

use crate::dual::Dual;

/// Names what this engine masquerades.
const NETWORK: &str = "engine";
/// Where the way to the world is not known: what every link carries.
const USUAL_MTU: u32 = 1500;
/// Addresses of nobody (RFC 5737, RFC 3849), the way to which is that to the world.
const WORLD: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// A pod network that listens to the kubelet where the command line says nothing.
pub struct Told {
    pub inner: Arc<dyn PodNetwork>,
    pub subnet: Arc<watch::Sender<Option<Subnet>>>,
    /// Where what the kubelet has told is kept, since it tells it once. None: the command line has said it.
    pub file: Option<PathBuf>,
}

#[async_trait]
impl PodNetwork for Told {
    async fn add(&self, request: &NetRequest) -> Result<NetResult, NetError> {
        self.inner.add(request).await
    }

    async fn remove(&self, request: &NetRequest) -> Result<(), NetError> {
        self.inner.remove(request).await
    }

    async fn status(&self) -> NetStatus {
        self.inner.status().await
    }

    async fn pod_cidr(&self, cidr: &str) {
        if let Some(file) = &self.file
            && let Err(error) = self.take(cidr, file)
        {
            tracing::error!(
                cidr,
                error = format!("{error:#}"),
                "the kubelet's pod addresses are not used"
            );
        }
        self.inner.pod_cidr(cidr).await;
    }
}

impl Told {
    fn take(&self, cidr: &str, file: &std::path::Path) -> anyhow::Result<()> {
        let networks: Dual<IpNet> = cidr.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        knode_pki::files::write_atomic(file, cidr.as_bytes(), knode_pki::files::PRIVATE)?;
        let subnet = of(&networks)?;
        self.subnet
            .send_if_modified(|now| now.replace(subnet) != Some(subnet));
        Ok(())
    }
}

/// What a kubelet has told an earlier run.
pub fn remembered(file: &std::path::Path) -> Option<Subnet> {
    let text = std::fs::read_to_string(file).ok()?;
    of(&text.trim().parse().ok()?).ok()
}

/// The networks as the pod network takes them.
pub fn of(networks: &Dual<IpNet>) -> anyhow::Result<Subnet> {
    Ok(Subnet {
        ipv4: networks.v4(),
        ipv6: networks.v6(),
        mtu: mtu()?,
    })
}

/// That of the link that leads to the world.
fn mtu() -> anyhow::Result<u32> {
    let handle = Handle::open().context("open route netlink")?;
    for address in WORLD {
        let way = handle.route_to(address).context("look for the way out")?;
        if let Some(index) = way.and_then(|way| way.link) {
            let link = handle.link(index).context("look at the link that leads out")?;
            return Ok(link.map_or(USUAL_MTU, |link| link.mtu.clamp(1280, 65_535)));
        }
    }
    Ok(USUAL_MTU)
}

/// Keeps the rules that go with the addresses.
pub async fn masquerade(mut subnet: watch::Receiver<Option<Subnet>>) -> String {
    loop {
        let now = *subnet.borrow_and_update();
        if let Some(now) = now {
            let ensured =
                tokio::task::spawn_blocking(move || knode_podnet::ensure_masquerade(NETWORK, now, &[]));
            match ensured.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return format!("masquerading failed: {}", knode_client::brief(&error)),
                Err(error) => return format!("masquerading failed: {error}"),
            }
        }
        if subnet.changed().await.is_err() {
            return "the pod network ended".into();
        }
    }
}

/// Takes the rules away.
pub fn forget_masquerade() -> Option<String> {
    let removed = knode_podnet::remove_masquerade(NETWORK);
    removed.err().map(|error| knode_client::brief(&error))
}
