//! What must be so before anything is made.

use std::net::{IpAddr, SocketAddr, TcpListener};

use ipnet::IpNet;
use knode_linux::port::{Listener, listener};
use knode_netlink::Handle;
use knode_overlay::{Kernel, Underlay, Wish, check_overlap, host_routes};

use crate::dual::{Dual, Family};

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
    #[error("no interface has the node's address {0}")]
    NoSuchAddress(IpAddr),
    #[error("look at the machine's addresses")]
    Addresses(#[source] knode_netlink::Error),
    #[error("--node-ip {0} is no address by which others can reach this machine")]
    Unspecified(IpAddr),
    #[error(
        "{interface} has no IPv6 address for other nodes, which IPv6 addresses of pods and services need: name one with --node-ip"
    )]
    NoIpv6 { interface: String },
    #[error("--pod-cidr {0}: IPv6 alone is not supported; name an IPv4 network too")]
    NoIpv4(Dual<IpNet>),
    #[error(
        "--service-cidr {services} has {family} addresses, but pods have none (--pod-cidr {pods}): nobody could serve them"
    )]
    ServiceFamily {
        services: IpNet,
        pods: Dual<IpNet>,
        family: Family,
    },
    #[error("--service-cidr {0}: the shortest prefix of IPv6 services is /64")]
    ServiceRange(IpNet),
    #[error("--node-cidr-mask-size-{family} {mask}: a node's part can't be larger than the whole of {range}")]
    NodeMask {
        family: &'static str,
        mask: u8,
        range: IpNet,
    },
    #[error(
        "--advertise-address {address}: the service `kubernetes` has an {family} address, and needs one of this family behind it"
    )]
    AdvertiseFamily { address: IpAddr, family: Family },
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

/// Refuses pod addresses that the services or the host's own routes use, and families that don't go together.
pub fn ranges(pods: &Dual<IpNet>, services: &Dual<IpNet>) -> Result<(), Obstacle> {
    families(pods, services)?;
    let routes = host_routes().map_err(Obstacle::Network)?;
    let services: Vec<IpNet> = services.iter().collect();
    for pods in pods.iter() {
        check_overlap(pods, &services, &routes)?;
    }
    Ok(())
}

fn families(pods: &Dual<IpNet>, services: &Dual<IpNet>) -> Result<(), Obstacle> {
    if pods.v4().is_none() {
        return Err(Obstacle::NoIpv4(*pods));
    }
    for range in services.iter() {
        let family = Family::of(&range);
        if pods.of(family).is_none() {
            return Err(Obstacle::ServiceFamily {
                services: range,
                pods: *pods,
                family,
            });
        }
        if family == Family::V6 && range.prefix_len() < 64 {
            return Err(Obstacle::ServiceRange(range));
        }
    }
    Ok(())
}

/// Refuses an address of the API server to which the service `kubernetes` can't lead.
pub fn advertised(address: IpAddr, family: Family) -> Result<(), Obstacle> {
    if Family::of(&address) == family {
        Ok(())
    } else {
        Err(Obstacle::AdvertiseFamily { address, family })
    }
}

/// Prefix length of a node's part of each range of pods.
pub fn node_mask(range: IpNet, ipv4: Option<u8>, ipv6: Option<u8>) -> Result<u8, Obstacle> {
    let (family, asked, usual) = match Family::of(&range) {
        Family::V4 => ("ipv4", ipv4, 24),
        Family::V6 => ("ipv6", ipv6, 64),
    };
    match asked {
        Some(mask) if mask < range.prefix_len() => Err(Obstacle::NodeMask { family, mask, range }),
        Some(mask) => Ok(mask),
        None => Ok(range.prefix_len().max(usual)),
    }
}

/// Says so when the ports of services are also those that the kernel gives to connections: a connection that has one
/// keeps its service from being reached by it.
pub fn node_ports(first: u16, last: u16) -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    ephemeral_overlap(
        (first, last),
        &read("ip_local_port_range"),
        &read("ip_local_reserved_ports"),
    )
}

/// The warning for a range of node ports, by the kernel's own ranges.
fn ephemeral_overlap((first, last): (u16, u16), local: &str, reserved: &str) -> Option<String> {
    let mut ends = local.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(low)), Some(Ok(high))) = (ends.next(), ends.next()) else {
        return None;
    };
    let (from, to) = (first.max(low), last.min(high));
    let is_reserved = |part: &str| {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        matches!((a.parse::<u16>(), b.parse::<u16>()), (Ok(a), Ok(b)) if a <= from && to <= b)
    };
    if from > to || reserved.trim().split(',').any(is_reserved) {
        return None;
    }
    Some(format!(
        "the node ports {first}-{last} overlap the ports {low}-{high} that the kernel gives to connections: a connection \
         that happens to have {from}-{to} can keep a service from being reached. Take 30000-32767, or reserve them: \
         sysctl -w net.ipv4.ip_local_reserved_ports={from}-{to}"
    ))
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

/// The addresses that other nodes reach this machine by: those asked for, and of the other families that are needed
/// those of the same interface. The order is that of the request if it has both, else that of the needs.
pub fn node_ips(asked: Option<Dual<IpAddr>>, needed: &[Family]) -> Result<Dual<IpAddr>, Obstacle> {
    let interface = asked.map(holder_of_all).transpose()?;
    let wish = Wish {
        node_ip: asked.and_then(|asked| asked.v4()),
        interface,
        ..Wish::default()
    };
    match asked {
        Some(asked) if needed.iter().all(|family| asked.of(*family).is_some()) => Ok(asked),
        asked => {
            let kernel = Kernel::open().map_err(Obstacle::Network)?;
            complete(asked, needed, &kernel.underlay(&wish).map_err(Obstacle::Address)?)
        }
    }
}

fn complete(
    asked: Option<Dual<IpAddr>>,
    needed: &[Family],
    underlay: &Underlay,
) -> Result<Dual<IpAddr>, Obstacle> {
    let found = |family: &Family| match asked.and_then(|asked| asked.of(*family)) {
        Some(asked) => Ok(asked),
        None if *family == Family::V4 => Ok(underlay.ip.into()),
        None => underlay
            .ipv6
            .map(|net| net.addr().into())
            .ok_or(Obstacle::NoIpv6 {
                interface: underlay.name.clone(),
            }),
    };
    let needed = needed.iter().map(found).collect::<Result<Vec<IpAddr>, _>>()?;
    let all = needed.into_iter().chain(asked.iter().flat_map(Dual::iter));
    Ok(Dual::first_of_each(all).unwrap_or(Dual::single(underlay.ip.into())))
}

/// The interface that has the first of these addresses; each must be somewhere.
fn holder_of_all(asked: Dual<IpAddr>) -> Result<String, Obstacle> {
    let handle = Handle::open().map_err(Obstacle::Addresses)?;
    let (addresses, links) = (
        handle.addresses(None).map_err(Obstacle::Addresses)?,
        handle.links().map_err(Obstacle::Addresses)?,
    );
    let mut names = Vec::new();
    for ip in asked.iter() {
        if ip.is_unspecified() {
            return Err(Obstacle::Unspecified(ip));
        }
        let holder = addresses.iter().find(|address| address.net.addr() == ip);
        let holder = holder.ok_or(Obstacle::NoSuchAddress(ip))?;
        names.extend(
            links
                .iter()
                .find(|link| link.index == holder.index)
                .map(|link| link.name.clone()),
        );
    }
    names
        .into_iter()
        .next()
        .ok_or(Obstacle::NoSuchAddress(asked.primary()))
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

    fn underlay(ipv6: Option<&str>) -> Underlay {
        Underlay {
            index: 2,
            name: "eth0".into(),
            ip: [192, 0, 2, 1].into(),
            network: "192.0.2.0/24".parse().unwrap(),
            ipv6: ipv6.map(|net| net.parse().unwrap()),
            mtu: 1500,
        }
    }

    #[test]
    fn missing_families_are_the_interfaces() {
        let told = |asked: Option<&str>, needed: &[Family], ipv6: Option<&str>| {
            let asked = asked.map(|text| text.parse().unwrap());
            match complete(asked, needed, &underlay(ipv6)) {
                Ok(ips) => ips.to_string(),
                Err(error) => error.to_string(),
            }
        };
        let (four, six) = (Family::V4, Family::V6);
        let net = Some("2001:db8::1/64");
        assert_eq!(told(None, &[four], net), "192.0.2.1");
        assert_eq!(told(None, &[four, six], net), "192.0.2.1,2001:db8::1");
        assert_eq!(told(None, &[six, four], net), "2001:db8::1,192.0.2.1");
        assert_eq!(
            told(Some("2001:db8::9"), &[four, six], net),
            "192.0.2.1,2001:db8::9"
        );
        assert_eq!(told(Some("192.0.2.9"), &[six], net), "2001:db8::1,192.0.2.9");
        assert!(told(None, &[four, six], None).starts_with("eth0 has no IPv6 address"));
    }

    #[test]
    fn ranges_of_families_that_do_not_go_together() {
        let told = |pods: &str, services: &str| {
            let refused = families(&pods.parse().unwrap(), &services.parse().unwrap());
            refused.err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(told("172.30.0.0/16,fd00:30::/48", "10.254.0.0/16"), "");
        assert_eq!(
            told("172.30.0.0/16,fd00:30::/48", "fd00:254::/112,10.254.0.0/16"),
            ""
        );
        assert!(told("fd00:30::/48", "fd00:254::/112").contains("IPv6 alone is not supported"));
        let lonely = told("172.30.0.0/16", "10.254.0.0/16,fd00:254::/112");
        assert!(
            lonely.contains("fd00:254::/112 has IPv6 addresses, but pods have none"),
            "{lonely}"
        );
        let wide = told("172.30.0.0/16,fd00:30::/48", "fd00:254::/48");
        assert!(wide.contains("shortest prefix of IPv6 services is /64"), "{wide}");
    }

    #[test]
    fn a_nodes_part_is_no_larger_than_the_range() {
        let told = |range: &str, ipv4, ipv6| match node_mask(range.parse().unwrap(), ipv4, ipv6) {
            Ok(mask) => mask.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(told("172.30.0.0/16", None, Some(80)), "24");
        assert_eq!(told("fd00:30::/48", Some(25), None), "64");
        assert_eq!(told("172.30.0.0/25", None, None), "25");
        assert_eq!(told("172.30.0.0/16", Some(22), None), "22");
        assert_eq!(
            told("172.30.0.0/16", Some(12), None),
            "--node-cidr-mask-size-ipv4 12: a node's part can't be larger than the whole of 172.30.0.0/16"
        );
    }

    #[test]
    fn the_api_servers_address_is_of_the_services_family() {
        assert!(advertised([192, 0, 2, 1].into(), Family::V4).is_ok());
        let refused = advertised([192, 0, 2, 1].into(), Family::V6)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("192.0.2.1") && refused.contains("IPv6"),
            "{refused}"
        );
    }

    #[test]
    fn node_ports_among_those_of_connections_are_told() {
        let told = |ports, reserved| ephemeral_overlap(ports, "32768\t60999\n", reserved);
        let warning = told((30000, 50000), "\n").unwrap();
        assert!(
            warning.contains("32768-60999") && warning.contains("ip_local_reserved_ports=32768-50000"),
            "{warning}"
        );
        assert_eq!(told((30000, 32767), ""), None);
        assert_eq!(told((30000, 50000), "8080,32768-50000\n"), None);
        assert!(told((30000, 50000), "32768-40000").is_some());
    }

    #[test]
    fn a_name_is_lower_case() {
        assert_eq!(node_name(Some("Edge-1")).unwrap(), "edge-1");
    }
}
