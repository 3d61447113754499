use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use knode_nft::{Family, Monitor, Socket};

use super::Subnet;
use crate::config::NetConf;
use crate::error::{Error, Result};
use crate::iptables;
use crate::kernel::Kernel;
use crate::lease::Lease;
use crate::masquerade::{self, Masquerade};
use crate::plan::{Desired, Step};
use crate::underlay::Underlay;

/// So many steps at once leave much memory behind.
const MANY: usize = 100;

/// Sockets to the kernel; used from blocking threads.
pub(super) struct Edge {
    pub kernel: Kernel,
    nft: Mutex<Socket>,
    nft_address: u32,
}

/// What a reconciliation came to.
pub(super) struct Outcome {
    pub steps: Vec<Step>,
    /// The device's index of each family.
    pub devices: Vec<Option<u32>>,
}

impl Edge {
    pub fn open() -> Result<Self> {
        let nft = Socket::open().map_err(Error::nft("open nftables"))?;
        let nft_address = nft.portid();
        Ok(Self {
            kernel: Kernel::open()?,
            nft: Mutex::new(nft),
            nft_address,
        })
    }

    /// Notices of others' changes to the rules.
    pub fn monitor(&self) -> Result<Monitor> {
        Monitor::open(Some(self.nft_address)).map_err(Error::nft("watch the rules"))
    }

    /// Goes on with the other family after an error, and returns the first.
    pub async fn reconcile(self: &Arc<Self>, desired: &[Desired]) -> Result<Outcome> {
        let (edge, desired) = (Arc::clone(self), desired.to_vec());
        let work = move || {
            let (mut steps, mut devices, mut failed) = (Vec::new(), Vec::new(), None);
            for side in &desired {
                match edge.kernel.reconcile(side) {
                    Ok((taken, device)) => {
                        steps.extend(taken);
                        devices.push(device);
                    }
                    Err(error) => {
                        devices.push(None);
                        failed = failed.or(Some(error));
                    }
                }
            }
            if steps.len() >= MANY {
                // What was read and planned for hundreds of peers is not needed again soon.
                knode_linux::memory::trim();
            }
            failed.map_or(Ok(Outcome { steps, devices }), Err)
        };
        blocking("changing the overlay", work).await
    }

    pub async fn follow(self: &Arc<Self>, current: &Underlay) -> Result<Option<Underlay>> {
        let (edge, current) = (Arc::clone(self), current.clone());
        blocking("looking at the interface", move || edge.kernel.follow(&current)).await
    }

    /// Puts the rules in place; a family that has none any more loses its table.
    pub async fn masquerade(self: &Arc<Self>, rules: Vec<Masquerade>) -> Result<()> {
        let edge = Arc::clone(self);
        let work = move || {
            let mut socket = edge.nft.lock().unwrap_or_else(PoisonError::into_inner);
            for family in [Family::Ip, Family::Ip6] {
                match rules.iter().find(|r| r.family() == family) {
                    Some(rules) => rules.apply(&mut socket)?,
                    None => masquerade::remove_if_present(&mut socket, family)?,
                }
            }
            Ok(())
        };
        blocking("setting up masquerading", work).await
    }
}

impl Edge {
    /// Lets the pod networks' packets pass where the host's iptables would drop them.
    pub async fn accept(self: &Arc<Self>, networks: Vec<IpNet>) -> Result<()> {
        let edge = Arc::clone(self);
        let work = move || {
            let mut socket = edge.nft.lock().unwrap_or_else(PoisonError::into_inner);
            networks
                .iter()
                .try_for_each(|network| iptables::accept(&mut socket, *network))
        };
        blocking("looking at the host's filters", work).await
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Stopped(doing))?
}

impl Subnet {
    /// `mtu` is given where no device of `desired` decides it.
    pub(super) fn of(conf: &NetConf, desired: &[Desired], own: &Lease, mtu: Option<u32>) -> Self {
        let smallest = desired.iter().map(|d| d.mtu).min().unwrap_or_default();
        Self {
            ipv4: own.subnet,
            ipv6: conf.ipv6.and(own.ipv6_subnet),
            mtu: mtu.unwrap_or(smallest),
        }
    }
}
