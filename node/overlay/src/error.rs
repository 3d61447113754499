use std::io;
use std::path::PathBuf;

use crate::store::StoreError;
use crate::underlay::UnderlayError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in the overlay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not built yet.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// No interface to send through.
    #[error("choose the interface to the other nodes")]
    Underlay(#[from] UnderlayError),
    /// The lease store.
    #[error("{op}")]
    Store {
        /// What was asked of it.
        op: &'static str,
        /// Why it failed.
        #[source]
        source: StoreError,
    },
    /// The node's subnet does not lie in the pod network.
    #[error("the node's subnet {subnet} lies outside the pod network {network}")]
    SubnetOutside {
        /// The subnet.
        subnet: ipnet::IpNet,
        /// The network.
        network: ipnet::IpNet,
    },
    /// Links, routes, neighbours.
    #[error("{what}")]
    Netlink {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: knode_netlink::Error,
    },
    /// The masquerading ruleset.
    #[error("{what}")]
    Nft {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: knode_nft::Error,
    },
    /// The host's own filters.
    #[error("look at or change the host's iptables")]
    Iptables(#[source] knode_nft::iptables::Error),
    /// A file.
    #[error("{op} {}", path.display())]
    File {
        /// What was done.
        op: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A command of the administrator's cannot be run.
    #[error("run command {command:?}")]
    CommandStart {
        /// The command.
        command: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A command of the administrator's failed.
    #[error("command {command:?} ended with {status}: {output}")]
    Command {
        /// The command.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        output: String,
    },
    /// The file of WireGuard's private key holds none.
    #[error("{} holds no WireGuard key", .0.display())]
    KeyFile(PathBuf),
    /// The runtime is shutting down.
    #[error("stopped while {0}")]
    Stopped(&'static str),
}

impl Error {
    pub(crate) fn netlink(what: &'static str) -> impl FnOnce(knode_netlink::Error) -> Self {
        move |source| Self::Netlink { what, source }
    }

    pub(crate) fn nft(what: &'static str) -> impl FnOnce(knode_nft::Error) -> Self {
        move |source| Self::Nft { what, source }
    }

    pub(crate) fn store(op: &'static str) -> impl FnOnce(StoreError) -> Self {
        move |source| Self::Store { op, source }
    }

    pub(crate) fn file(op: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { op, path, source }
    }
}
