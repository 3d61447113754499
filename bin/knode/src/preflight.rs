//! What must be so before anything is made.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use ipnet::Ipv4Net;
use knode_linux::port::{Listener, listener};
use knode_overlay::{Kernel, Wish, check_overlap, host_routes};

use crate::node::OptionError;

/// What stands in the way.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    #[error(
        "{command} needs root: it makes namespaces, mounts and network links; run it as root or with sudo"
    )]
    NotRoot { command: &'static str },
    #[error("port {port} ({what}) is taken by {}; end that process or choose another port", holder(.by))]
    PortTaken {
        port: u16,
        what: &'static str,
        by: Option<Listener>,
    },
    #[error("listen on {address} ({what})")]
    Listen {
        address: SocketAddr,
        what: &'static str,
        source: std::io::Error,
    },
    #[error("look at the machine's network")]
    Network(#[source] knode_overlay::Error),
    #[error(transparent)]
    Overlap(#[from] knode_overlay::Overlap),
    #[error("this machine's address can't be told: name it with --node-ip")]
    Address(#[source] knode_overlay::Error),
    #[error("--node-ip {0}: pods' packets between hosts travel over IPv4; name an IPv4 address")]
    AddressFamily(IpAddr),
    #[error(transparent)]
    Option(#[from] OptionError),
    #[error("the host name can't be read; name the node with --node-name")]
    HostName(#[source] nix::Error),
}

fn holder(by: &Option<Listener>) -> String {
    by.as_ref()
        .map_or_else(|| "another process".into(), ToString::to_string)
}

/// Refuses everybody but root.
pub fn root(command: &'static str) -> Result<(), Obstacle> {
    nix::unistd::geteuid()
        .is_root()
        .then_some(())
        .ok_or(Obstacle::NotRoot { command })
}

/// Refuses pod addresses that the services or the host's own routes use.
pub fn ranges(pods: Ipv4Net, services: Ipv4Net) -> Result<(), Obstacle> {
    let routes = host_routes().map_err(Obstacle::Network)?;
    Ok(check_overlap(pods.into(), &[services.into()], &routes)?)
}

/// Refuses a port on which somebody listens, and says who.
pub fn port(address: SocketAddr, what: &'static str) -> Result<(), Obstacle> {
    match TcpListener::bind(address) {
        Ok(_free) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => Err(Obstacle::PortTaken {
            port: address.port(),
            what,
            by: listener(address.port()),
        }),
        Err(source) => Err(Obstacle::Listen {
            address,
            what,
            source,
        }),
    }
}

/// The address that other nodes reach this machine by: the one asked for, or that of the underlay interface.
pub fn node_ip(asked: Option<IpAddr>) -> Result<Ipv4Addr, Obstacle> {
    let asked = match asked {
        Some(IpAddr::V6(ip)) => return Err(Obstacle::AddressFamily(ip.into())),
        Some(IpAddr::V4(ip)) => Some(ip),
        None => None,
    };
    let kernel = Kernel::open().map_err(Obstacle::Network)?;
    let underlay = kernel
        .underlay(&Wish {
            node_ip: asked,
            ..Wish::default()
        })
        .map_err(Obstacle::Address)?;
    Ok(underlay.ip)
}

/// The node's name: the one asked for, or the host name, lower case as upstream's kubelet does.
pub fn node_name(asked: Option<&str>) -> Result<String, Obstacle> {
    let name = match asked {
        Some(name) => name.to_owned(),
        None => nix::unistd::gethostname()
            .map_err(Obstacle::HostName)?
            .to_string_lossy()
            .into_owned(),
    };
    Ok(name.trim().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_holder() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = port(held.local_addr().unwrap(), "the test's")
            .unwrap_err()
            .to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
    }

    #[test]
    fn a_name_is_lower_case() {
        assert_eq!(node_name(Some("Edge-1")).unwrap(), "edge-1");
    }
}
