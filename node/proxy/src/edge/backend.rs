use std::collections::BTreeSet;
use std::time::Duration;

use knode_nft::{Applied, Error as NftError};

use super::{ConntrackLimits, Error, ProxyConfig, ProxyMode};
use crate::apply::{Applier, IptablesApplier, IptablesError, ServiceCount};
use crate::iptables::Forwarding;
use crate::model::{IpFamily, Model, Name};
use crate::plan::Plan;
use crate::table::TableConfig;

/// What the rules are written to.
pub(super) enum Backend {
    Nftables(Box<Applier>),
    Iptables(Box<IptablesApplier>),
}

/// Why the rules could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error("cannot program nftables")]
    Nftables(#[from] NftError),
    #[error("cannot program iptables")]
    Iptables(#[from] IptablesError),
}

/// Calls the same method of either.
macro_rules! either {
    ($self:expr, $backend:ident => $call:expr) => {
        match $self {
            Backend::Nftables($backend) => $call,
            Backend::Iptables($backend) => $call,
        }
    };
}

impl Backend {
    pub fn open(config: &ProxyConfig) -> Result<Self, Error> {
        let table = config.table.clone();
        match config.options.mode {
            ProxyMode::Nftables => Applier::open(table)
                .map(|applier| Self::Nftables(Box::new(applier)))
                .map_err(Error::Nftables),
            ProxyMode::Iptables => {
                let limits = config.options.conntrack.as_ref();
                let forwarding = if limits.is_some_and(|limits: &ConntrackLimits| limits.be_liberal) {
                    Forwarding::Liberal
                } else {
                    Forwarding::DropInvalid
                };
                IptablesApplier::open(table, forwarding)
                    .map(|applier| Self::Iptables(Box::new(applier)))
                    .map_err(Error::Iptables)
            }
        }
    }

    /// The netlink address that changes of ours carry, so that they are not taken for those of others.
    pub fn portid(&self) -> Option<u32> {
        match self {
            Self::Nftables(applier) => Some(applier.portid()),
            Self::Iptables(_) => None,
        }
    }

    /// Whether a change of this table concerns us; those of iptables are noticed by the canary.
    pub fn owns(&self, table: &knode_nft::TableRef) -> bool {
        match self {
            Self::Nftables(applier) => applier.owns(table),
            Self::Iptables(_) => false,
        }
    }

    pub fn config(&self) -> &TableConfig {
        either!(self, applier => applier.config())
    }

    pub fn configure(&mut self, config: TableConfig) -> bool {
        either!(self, applier => applier.configure(config))
    }

    pub fn plan(&self, family: IpFamily) -> &Plan {
        either!(self, applier => applier.plan(family))
    }

    pub fn took(&self, family: IpFamily) -> Option<Duration> {
        either!(self, applier => applier.took(family))
    }

    pub fn settle(&mut self, model: &Model, dirty: &BTreeSet<Name>) {
        either!(self, applier => applier.settle(model, dirty));
    }

    pub async fn take_over(&mut self, model: &Model) -> Result<Applied, SyncError> {
        Ok(match self {
            Self::Nftables(applier) => applier.take_over(model)?,
            Self::Iptables(applier) => applier.take_over(model).await?,
        })
    }

    pub async fn update(&mut self, model: &Model, dirty: BTreeSet<Name>) -> Result<Applied, SyncError> {
        Ok(match self {
            Self::Nftables(applier) => applier.update(model, dirty)?,
            Self::Iptables(applier) => applier.update(model, dirty).await?,
        })
    }

    pub async fn verify(&mut self, model: &Model) -> Result<Applied, SyncError> {
        Ok(match self {
            Self::Nftables(applier) => applier.verify()?,
            Self::Iptables(applier) => applier.verify(model).await?,
        })
    }

    /// Whether iptables are as they were left, as far as the canary tells; nftables are watched.
    pub async fn is_intact(&self) -> Result<bool, SyncError> {
        Ok(match self {
            Self::Nftables(_) => true,
            Self::Iptables(applier) => applier.is_intact().await?,
        })
    }

    /// What the kernel counted; nothing in iptables.
    pub fn counts(&mut self) -> Result<Vec<ServiceCount>, SyncError> {
        match self {
            Self::Nftables(applier) => Ok(applier.counts()?),
            Self::Iptables(_) => Ok(Vec::new()),
        }
    }
}
