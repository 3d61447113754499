use std::sync::{Arc, Mutex, PoisonError};

use knode_nft::{Monitor, Socket};

use super::Subnet;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::masquerade::Masquerade;
use crate::plan::{Desired, Step};
use crate::underlay::Underlay;

/// Sockets to the kernel; used from blocking threads.
pub(super) struct Edge {
    pub kernel: Kernel,
    nft: Mutex<Socket>,
    nft_address: u32,
}

/// What a reconciliation came to.
pub(super) struct Outcome {
    pub steps: Vec<Step>,
    pub device: Option<u32>,
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

    pub async fn reconcile(self: &Arc<Self>, desired: &Desired) -> Result<Outcome> {
        let (edge, desired) = (Arc::clone(self), desired.clone());
        let work = move || {
            edge.kernel
                .reconcile(&desired)
                .map(|(steps, device)| Outcome { steps, device })
        };
        blocking("changing the overlay", work).await
    }

    pub async fn follow(self: &Arc<Self>, current: &Underlay) -> Result<Option<Underlay>> {
        let (edge, current) = (Arc::clone(self), current.clone());
        blocking("looking at the interface", move || edge.kernel.follow(&current)).await
    }

    pub async fn masquerade(self: &Arc<Self>, rules: Masquerade) -> Result<()> {
        let edge = Arc::clone(self);
        let work = move || rules.apply(&mut edge.nft.lock().unwrap_or_else(PoisonError::into_inner));
        blocking("setting up masquerading", work).await
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
    pub(super) fn of(desired: &Desired, own: &crate::lease::Lease) -> Self {
        Self {
            ipv4: own.subnet,
            mtu: desired.mtu,
        }
    }
}
