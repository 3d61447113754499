//! Who carries the packets, beside routes, neighbours and forwarding entries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::Ipv4Net;
use knode_netlink::Event;
use knode_netlink::generic::wireguard::Key;

use super::{Overlay, edge};
use crate::config::{Backend, ExtensionConf, NetConf, WireguardConf};
use crate::error::Result;
use crate::extension;
use crate::lease::{Lease, Leases};
use crate::underlay::Underlay;
use crate::wireguard::{self, Devices, Wanted};

/// What a backend needs besides.
pub(super) enum Carrier {
    /// Nothing.
    Routes,
    /// WireGuard's devices and peers.
    Wireguard {
        conf: WireguardConf,
        devices: Arc<Mutex<Devices>>,
        public: Key,
        wanted: Vec<Wanted>,
    },
    /// The administrator's commands.
    Extension {
        commands: ExtensionConf,
        /// What the first one said, to be told to the others.
        said: Option<String>,
        /// Peers that the commands know.
        known: BTreeMap<Ipv4Net, Lease>,
    },
}

impl Carrier {
    /// Makes what has to be there before the lease; refuses where the kernel lacks it.
    pub async fn prepare(overlay: &Overlay) -> Result<Self> {
        Ok(match &overlay.config.conf.backend {
            Backend::Wireguard(conf) => Self::wireguard(overlay, conf.clone()).await?,
            Backend::Extension(commands) => {
                let said = match extension::pre_startup(commands) {
                    Some(call) => Some(extension::run(&call).await?),
                    None => None,
                };
                Self::Extension {
                    commands: commands.clone(),
                    said,
                    known: BTreeMap::new(),
                }
            }
            Backend::Ipip { .. } => {
                let (edge, ip) = (Arc::clone(&overlay.edge), overlay.underlay.ip);
                let require = move || edge.kernel.require_ipip(ip);
                edge::blocking("looking for IPIP", require).await?;
                Self::Routes
            }
            _ => Self::Routes,
        })
    }

    async fn wireguard(overlay: &Overlay, conf: WireguardConf) -> Result<Self> {
        let env = |name: &str| std::env::var(name).ok();
        let file = wireguard::key_file(env, &overlay.config.subnet_file);
        let handle = overlay.edge.kernel.handle().clone();
        let (port, mtu) = (conf.port, wireguard::mtu(&conf, &overlay.underlay));
        let open = move || Devices::open(handle, &file, port, mtu);
        let devices = edge::blocking("setting up WireGuard", open).await?;
        Ok(Self::Wireguard {
            conf,
            public: devices.public_key(),
            devices: Arc::new(Mutex::new(devices)),
            wanted: Vec::new(),
        })
    }

    /// What other nodes know this one's WireGuard by.
    pub fn public_key(&self) -> Key {
        match self {
            Self::Wireguard { public, .. } => *public,
            _ => Key([0; 32]),
        }
    }

    /// What the administrator's first command said.
    pub fn said(&self) -> Option<String> {
        match self {
            Self::Extension { said, .. } => said.clone(),
            _ => None,
        }
    }

    /// Whether a change in the kernel may have undone something.
    pub fn concerned(&self, event: &Event) -> bool {
        match self {
            Self::Wireguard { wanted, .. } => wireguard::concerned(wanted, event),
            _ => false,
        }
    }

    /// The largest packet, where it is this that decides.
    pub fn mtu(&self, underlay: &Underlay) -> Option<u32> {
        match self {
            Self::Wireguard { conf, .. } => Some(wireguard::mtu(conf, underlay)),
            _ => None,
        }
    }

    /// Brings everything to where it should be.
    pub async fn serve(
        &mut self,
        conf: &NetConf,
        underlay: &Underlay,
        own: &Lease,
        leases: Option<&Leases>,
    ) -> Result<()> {
        match self {
            Self::Routes => Ok(()),
            Self::Wireguard {
                conf: wireguard,
                devices,
                wanted,
                ..
            } => {
                *wanted = wireguard::desired(conf, wireguard, underlay, own, leases);
                let (devices, wanted) = (Arc::clone(devices), wanted.clone());
                let work = move || {
                    let mut devices = devices.lock().unwrap_or_else(PoisonError::into_inner);
                    devices.reconcile(&wanted)
                };
                let changed = edge::blocking("changing WireGuard's peers", work).await?;
                tracing::debug!(changed, "wireguard peers");
                Ok(())
            }
            Self::Extension { commands, known, .. } => {
                if let Some(leases) = leases {
                    let now = extension::peers(own, leases);
                    for call in extension::changes(commands, known, &now) {
                        if let Err(error) = extension::run(&call).await {
                            let error = &error as &dyn std::error::Error;
                            tracing::error!(error, "a command for a peer failed; it is not run again");
                        }
                    }
                    *known = now;
                }
                Ok(())
            }
        }
    }
}
