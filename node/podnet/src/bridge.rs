//! The bridge: made, taken up, repaired.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use knode_netlink::{
    Address, BridgeSpec, Handle, Link, LinkChange, LinkKind, MacAddr, Request, Tolerate, add_bridge,
    change_link, delete_address, replace_address, sysctl,
};

use crate::attach::{is_link_local, natural_mac, settle_all};
use crate::error::{Error, Result};
use crate::{Subnet, ipam, name};

/// What a bridge lacks of what it should be; pure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    mtu: Option<u32>,
    up: bool,
    add: Vec<IpNet>,
    remove: Vec<IpNet>,
}

/// Makes the bridge what `subnet` asks for and returns its index. Settings of the host that it needs are set.
pub(crate) fn ensure(handle: &Handle, bridge: &str, subnet: Subnet) -> Result<u32> {
    let gateways = gateways(subnet)?;
    let failed = || Error::netlink(format!("set up bridge {bridge}"));
    forward(subnet)?;
    if let Some(link) = handle.link(bridge).map_err(failed())? {
        return take_up(handle, &link, subnet, &gateways);
    }
    let spec = BridgeSpec {
        name: bridge,
        mac: gateways.first().map(|net| natural_mac(subnet, net.addr())),
        mtu: subnet.mtu,
    };
    handle.execute(add_bridge(&spec)).or_exists().map_err(failed())?;
    match handle.link(bridge).map_err(failed())? {
        Some(link) => take_up(handle, &link, subnet, &gateways),
        None => Err(failed()(knode_netlink::Error::NotFound {
            op: "get link",
            object: bridge.to_owned(),
        })),
    }
}

/// Whether pod cables are ports of the bridge with that index.
fn has_pods(handle: &Handle, bridge: u32) -> Result<bool> {
    let links = handle
        .links()
        .map_err(Error::netlink("list the bridge's ports"))?;
    let port = |l: &Link| l.master == Some(bridge) && name::is_host_link(&l.name);
    Ok(links.iter().any(port))
}

/// Packets of pods pass through the host, those within the bridge past its packet filter (services need it).
fn forward(subnet: Subnet) -> Result<()> {
    let ipv4 = || {
        sysctl::set("ipv4/ip_forward", "1")?;
        sysctl::set_if_present("bridge/bridge-nf-call-iptables", "1")
    };
    let ipv6 = || {
        sysctl::set("ipv6/conf/all/forwarding", "1")?;
        sysctl::set_if_present("bridge/bridge-nf-call-ip6tables", "1")
    };
    let mut settings = Ok(());
    if subnet.ipv4.is_some() {
        settings = settings.and_then(|()| ipv4());
    }
    if subnet.ipv6.is_some() {
        settings = settings.and_then(|()| ipv6());
    }
    settings.map_err(Error::netlink("let packets of pods pass"))
}

/// The bridge's addresses, IPv4 first.
fn gateways(subnet: Subnet) -> Result<Vec<IpNet>> {
    let gateway = |net: IpNet| Ok(IpNet::new_assert(ipam::gateway(net)?, net.prefix_len()));
    let gateways: Vec<_> = subnet.networks().map(gateway).collect::<Result<_>>()?;
    if gateways.is_empty() {
        return Err(Error::NotReady);
    }
    Ok(gateways)
}

fn take_up(handle: &Handle, link: &Link, subnet: Subnet, want: &[IpNet]) -> Result<u32> {
    if link.kind != LinkKind::Bridge {
        return Err(Error::NotABridge(link.name.clone()));
    }
    let failed = || Error::netlink(format!("set up bridge {}", link.name));
    let addresses = handle.addresses(Some(link.index)).map_err(failed())?;
    let addresses: Vec<_> = addresses.into_iter().map(|a| a.net).collect();
    let mut changes = compare(link, &addresses, want, subnet.mtu);
    if let Some((has, want)) = replaced(&changes)
        && has_pods(handle, link.index)?
    {
        return Err(Error::SubnetChanged {
            bridge: link.name.clone(),
            has,
            want: want.trunc(),
        });
    }
    settings(&link.name).map_err(failed())?;
    let settling = changes.add.clone();
    let own = link.mac.filter(|_| subnet.ipv6.is_some()).map(link_local);
    let has = addresses.iter().any(|net| is_link_local(*net));
    changes.add.extend(own.filter(|_| !has));
    handle
        .execute_each(requests(link.index, &changes))
        .and_then(|()| settle_all(handle, settling.into_iter()))
        .map_err(failed())?;
    Ok(link.index)
}

/// The link-local address that the kernel gives a link with this Ethernet address, when it has a carrier and does so
/// at all (`addr_gen_mode`). Until then a router asks nobody for the sake of packets that it forwards: a pod that has
/// not spoken yet could not be reached from other hosts.
fn link_local(mac: MacAddr) -> IpNet {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    let [a, c, d, f] = [(a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f];
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, a, c, d, f), 64).into()
}

/// The bridge listens to no router, and its own addresses are nobody else's: nothing to wait for.
fn settings(bridge: &str) -> knode_netlink::Result<()> {
    sysctl::set_if_present(&format!("ipv6/conf/{bridge}/accept_ra"), "0")?;
    sysctl::set_if_present(&format!("ipv6/conf/{bridge}/accept_dad"), "0")
}

fn compare(link: &Link, addresses: &[IpNet], want: &[IpNet], mtu: u32) -> Changes {
    let strange = |has: &&IpNet| !want.contains(has) && !is_link_local(**has);
    Changes {
        mtu: (link.mtu != mtu).then_some(mtu),
        up: !link.up,
        add: want.iter().filter(|w| !addresses.contains(w)).copied().collect(),
        remove: addresses.iter().filter(strange).copied().collect(),
    }
}

/// An address that another of its family is to replace. Pods have lost their router then.
fn replaced(changes: &Changes) -> Option<(IpNet, IpNet)> {
    let same_family = |a: &IpNet, b: &IpNet| a.addr().is_ipv4() == b.addr().is_ipv4();
    let pair = |want: &IpNet| {
        let has = changes.remove.iter().find(|has| same_family(has, want))?;
        Some((*has, *want))
    };
    changes.add.iter().find_map(pair)
}

fn requests(index: u32, changes: &Changes) -> Vec<Request> {
    let address = |net: &IpNet| Address { index, net: *net };
    let mut requests = Vec::new();
    if changes.up || changes.mtu.is_some() {
        let change = LinkChange {
            up: Some(true),
            mtu: changes.mtu,
            ..LinkChange::default()
        };
        requests.push(change_link(index, &change));
    }
    requests.extend(changes.remove.iter().map(|net| delete_address(&address(net))));
    requests.extend(changes.add.iter().map(|net| replace_address(&address(net))));
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridges_own_address_is_the_kernels() {
        let mac = MacAddr([0x0a, 0x58, 0xac, 0x1e, 0x41, 0x01]);
        assert_eq!(link_local(mac).to_string(), "fe80::858:acff:fe1e:4101/64");
    }
}
