//! Ports, routes, links, rules, and others.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use knode_netlink::Handle;
use knode_nft::{Family, Socket, TableRef};
use knode_overlay::{Kernel, Underlay, Wish, host_routes};
use tokio::net::TcpStream;

use crate::cluster::State;
use crate::doctor::DoctorArgs;
use crate::doctor::facts::{Firewall, Links, Networks, Port, Protocol, Reached, Table, Taken, Wanted};
use crate::preflight::{self, Obstacle};

// Upstream's defaults, and ours.
const KUBELET_PORT: u16 = 10250;
const HEALTHZ_PORT: u16 = 10248;
const PROXY_HEALTH_PORT: u16 = 10256;
const PROXY_METRICS_PORT: u16 = 10249;
const VXLAN_PORT: u16 = 8472;
/// Our own tables judge nothing that a node needs.
const OWN: &str = "knode";
const PATIENCE: Duration = Duration::from_secs(5);

pub fn networks(args: &DoctorArgs, state: &State) -> Networks {
    let kept = state.control_plane.as_ref();
    let pods = args
        .pod_cidr
        .or(kept.map(|kept| kept.pod_cidr))
        .unwrap_or(args.default_pods());
    let services = args
        .service_cidr
        .or(kept.map(|kept| kept.service_cidr))
        .unwrap_or(args.default_services());
    Networks {
        pods: pods.iter().collect(),
        services: services.iter().collect(),
        node_ports: args.node_port_range,
        routes: host_routes().map_err(|e| knode_client::brief(&e)),
    }
}

fn underlay() -> Result<Underlay, String> {
    let kernel = Kernel::open().map_err(|e| knode_client::brief(&e))?;
    kernel
        .underlay(&Wish::default())
        .map_err(|e| knode_client::brief(&e))
}

pub fn links() -> Links {
    let all = Handle::open()
        .and_then(|handle| handle.links())
        .unwrap_or_default();
    let overlay = all.iter().find(|link| link.name.starts_with("flannel."));
    Links {
        underlay: Some(underlay().map(|link| (link.name, link.mtu))),
        overlay: overlay.map(|link| (link.name.clone(), link.mtu)),
    }
}

pub fn ports(args: &DoctorArgs, state: &State) -> Vec<Port> {
    let tcp = |address: IpAddr, number, what| Port {
        number,
        protocol: Protocol::Tcp,
        what,
        taken: match preflight::port(SocketAddr::new(address, number), what) {
            Ok(()) => None,
            Err(Obstacle::PortTaken { by, .. }) => Some(Taken::By(by)),
            Err(other) => Some(Taken::Because(knode_client::brief(&other))),
        },
    };
    let (any, local) = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into());
    let mut all = vec![
        tcp(any, KUBELET_PORT, "kubelet"),
        tcp(local, HEALTHZ_PORT, "kubelet's health"),
        tcp(any, PROXY_HEALTH_PORT, "proxy's health"),
        tcp(local, PROXY_METRICS_PORT, "proxy's metrics"),
    ];
    if let Some(listen) = args.control_plane(state) {
        all.push(tcp(listen.ip(), listen.port(), "API server"));
    }
    all.extend(vxlan_port());
    all
}

/// A tunnel of the kernel holds the port too; ours is no obstacle.
fn vxlan_port() -> Option<Port> {
    let links = Handle::open()
        .and_then(|handle| handle.links())
        .unwrap_or_default();
    if links.iter().any(|link| link.name.starts_with("flannel.")) {
        return None;
    }
    let bound = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, VXLAN_PORT));
    Some(Port {
        number: VXLAN_PORT,
        protocol: Protocol::Udp,
        what: "overlay",
        taken: bound.err().map(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => Taken::By(None),
            _ => Taken::Because(error.to_string()),
        }),
    })
}

pub fn firewall(networks: &Networks, control_plane: Option<SocketAddr>) -> Firewall {
    let one = |protocol, port, what| Wanted {
        protocol,
        first: port,
        last: port,
        what,
    };
    let ports = networks.node_ports;
    let node_ports = |protocol| Wanted {
        protocol,
        first: ports.first,
        last: ports.last,
        what: "NodePorts",
    };
    let mut wanted = vec![
        one(Protocol::Tcp, KUBELET_PORT, "kubelet, from the API server"),
        one(Protocol::Udp, VXLAN_PORT, "overlay, from other nodes"),
        node_ports(Protocol::Tcp),
        node_ports(Protocol::Udp),
    ];
    if let Some(listen) = control_plane {
        wanted.push(one(Protocol::Tcp, listen.port(), "API server"));
    }
    Firewall {
        tables: tables().map_err(|e| knode_client::brief(&e)),
        wanted,
        arrival: underlay().ok().map(|link| (link.name, link.index)),
        legacy: ["ip_tables_names", "ip6_tables_names"].iter().any(|name| {
            let text = fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
            text.lines().any(|table| table == "filter")
        }),
    }
}

fn tables() -> Result<Vec<Table>, knode_nft::Error> {
    let mut socket = Socket::open()?;
    let mut all = Vec::new();
    for family in [Family::Inet, Family::Ip] {
        for table in socket.tables(family)? {
            if !table.name.starts_with(OWN) {
                all.push(read(&mut socket, &table)?);
            }
        }
    }
    Ok(all)
}

fn read(socket: &mut Socket, table: &TableRef) -> Result<Table, knode_nft::Error> {
    let chains = socket
        .chains(table)?
        .into_iter()
        .filter_map(|listed| listed.object.ok());
    let (chains, rules) = (chains.collect(), socket.rules(table)?);
    let mut sets = BTreeMap::new();
    for set in socket
        .sets(table)?
        .into_iter()
        .filter_map(|listed| listed.object.ok())
    {
        sets.insert(set.name.clone(), socket.elements(table, &set.name, set.interval)?);
    }
    Ok(Table {
        name: table.to_string(),
        chains,
        rules: rules
            .into_iter()
            .filter_map(|listed| listed.object.ok())
            .collect(),
        sets,
    })
}

pub async fn reach(args: &DoctorArgs, state: &State) -> Vec<Reached> {
    let servers = args
        .api_server
        .iter()
        .map(|address| ("API server", address.clone()));
    let own = state.control_plane.as_ref().map(|kept| {
        let ip = if kept.listen.ip().is_unspecified() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            kept.listen.ip()
        };
        ("API server", SocketAddr::new(ip, kept.listen.port()).to_string())
    });
    // A control plane of ours that is not running is no fault.
    let own = own.filter(|_| super::lock::holder(&args.layout().lock_file()).is_some());
    let etcd = args.etcd.iter().map(|address| ("etcd", address.clone()));
    let registries = args.registry.iter().map(|address| ("registry", address.clone()));
    let asked = servers.chain(own).chain(etcd).chain(registries);
    futures::future::join_all(asked.map(|(what, address)| connect(what, address))).await
}

async fn connect(what: &'static str, address: String) -> Reached {
    let target = endpoint(&address, what);
    let attempt = tokio::time::timeout(PATIENCE, TcpStream::connect(target)).await;
    let result = match attempt {
        Ok(Ok(_connected)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {PATIENCE:?}")),
    };
    Reached {
        what,
        address,
        result,
    }
}

/// `host:port` of a URL, or of a host with or without a port.
fn endpoint(address: &str, what: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let authority = rest.split('/').next().unwrap_or(rest);
    let has_port = authority
        .rsplit(':')
        .next()
        .is_some_and(|port| port.parse::<u16>().is_ok());
    if has_port && (authority.matches(':').count() == 1 || authority.starts_with('[')) {
        return authority.to_owned();
    }
    let port = match (scheme, what) {
        ("http", _) => 80,
        (_, "etcd") => 2379,
        (_, "API server") if scheme.is_empty() => 6443,
        _ => 443,
    };
    format!("{authority}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_urls_and_names() {
        assert_eq!(endpoint("https://h:6443/x", "API server"), "h:6443");
        assert_eq!(endpoint("https://h", "API server"), "h:443");
        assert_eq!(endpoint("h", "API server"), "h:6443");
        assert_eq!(endpoint("http://r", "registry"), "r:80");
        assert_eq!(endpoint("10.0.0.1", "etcd"), "10.0.0.1:2379");
        assert_eq!(endpoint("https://[fd00::1]:2379", "etcd"), "[fd00::1]:2379");
    }
}
