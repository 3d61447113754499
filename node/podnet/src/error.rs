use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::Protocol;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong when pods are connected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node has no subnet yet.
    #[error("the pod network is not ready: the node's subnet is not known yet")]
    NotReady,
    /// The subnet is too small for a bridge and a pod.
    #[error("subnet {0} has no room for pods")]
    SubnetTooSmall(IpNet),
    /// The subnet changed under running pods.
    #[error("bridge {bridge} has {has} and pods use it, but the node's subnet is {want} now")]
    SubnetChanged {
        /// The bridge.
        bridge: String,
        /// Its present address.
        has: IpNet,
        /// The subnet that it should serve.
        want: IpNet,
    },
    /// Something else has the bridge's name.
    #[error("link {0} exists and is no bridge")]
    NotABridge(String),
    /// All addresses are taken.
    #[error("no free address in {subnet}: {taken} are taken")]
    Exhausted {
        /// The subnet.
        subnet: IpNet,
        /// How many are taken.
        taken: usize,
    },
    /// A sandbox id that cannot be recorded.
    #[error("sandbox id {0:?} is empty or has control characters")]
    SandboxId(String),
    /// Another process uses the lease directory.
    #[error("lease directory {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// A file of the lease directory.
    #[error("{op} {}", path.display())]
    LeaseFile {
        /// What was done.
        op: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A link, address, route or setting.
    #[error("{what}")]
    Netlink {
        /// What was being set up.
        what: String,
        /// Why it failed.
        #[source]
        source: knode_netlink::Error,
    },
    /// A step of `add` went wrong and was undone.
    #[error("connect sandbox {sandbox} as {}", list(ips))]
    Attach {
        /// The sandbox.
        sandbox: String,
        /// Its would-be addresses.
        ips: Vec<IpAddr>,
        /// Why it failed.
        #[source]
        source: Box<Error>,
    },
    /// Sandboxes were disconnected together and it went wrong.
    #[error("disconnect sandbox {sandbox}")]
    Together {
        /// The sandbox.
        sandbox: String,
        /// Why it failed.
        #[source]
        source: Arc<Error>,
    },
    /// An address that was asked for is none of the pods' ones.
    #[error("{0} is no address for a pod of this node")]
    AddressOutside(IpAddr),
    /// An address that was asked for has somebody else.
    #[error("{ip} is taken by {holder}")]
    AddressTaken {
        /// The address.
        ip: IpAddr,
        /// The sandbox that has it.
        holder: String,
    },
    /// Another pod has the port.
    #[error(
        "host port {port}/{protocol}{} is taken by the pod {holder}{}",
        of(host_ip),
        of_sandbox(sandbox)
    )]
    HostPortTaken {
        /// Transport.
        protocol: Protocol,
        /// Address of the host that was asked for, if one was.
        host_ip: Option<IpAddr>,
        /// The port.
        port: u16,
        /// Address of the pod that has it.
        holder: IpAddr,
        /// That pod's sandbox, where it is known.
        sandbox: Option<String>,
    },
    /// The host's address and the pod's are of different families.
    #[error(
        "host port of {host_ip}: the pod has no address of that family, only {}",
        list(pod)
    )]
    HostPortFamily {
        /// Address of the host that was asked for.
        host_ip: IpAddr,
        /// Addresses of the pod.
        pod: Vec<IpAddr>,
    },
    /// Rules for host ports.
    #[error("{what}")]
    Nft {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: knode_nft::Error,
    },
    /// Not built yet.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The runtime is shutting down.
    #[error("stopped while {0}")]
    Stopped(&'static str),
}

impl Error {
    /// Wraps a netlink error with what was being done.
    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(knode_netlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Netlink { what, source }
    }

    pub(crate) fn nft(what: &'static str) -> impl FnOnce(knode_nft::Error) -> Self {
        move |source| Self::Nft { what, source }
    }
}

fn of(host_ip: &Option<IpAddr>) -> String {
    host_ip.map(|ip| format!(" of {ip}")).unwrap_or_default()
}

fn of_sandbox(sandbox: &Option<String>) -> String {
    let named = sandbox.as_ref().map(|id| format!(" (sandbox {id})"));
    named.unwrap_or_default()
}

fn list(ips: &[IpAddr]) -> String {
    let texts: Vec<_> = ips.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}
