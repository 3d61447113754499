//! A pod's cable.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use knode_netlink::{
    Address, Handle, LinkChange, MacAddr, Netns, Request, Route, Tolerate, VethSpec, add_veth, announce,
    change_link, delete_group, replace_address, replace_route, settle, settle_link, sysctl,
};

use crate::bandwidth::{self, Bandwidth};
use crate::config::Subnet;
use crate::error::{Error, Result};
use crate::{ipam, name};

/// Group of links that are about to be removed.
const LEAVING: u32 = 0x6b6e_6f64;
/// The kernel is expected to have finished after so long; mostly it takes no time.
const SETTLING: Duration = Duration::from_secs(5);

/// How a sandbox is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its addresses, IPv4 first, which is the primary one.
    pub ips: Vec<IpAddr>,
    /// Its default router for each of its addresses: the bridge.
    pub gateways: Vec<IpAddr>,
    /// The host's end of its cable.
    pub host_link: String,
    /// Its interface's Ethernet address.
    pub mac: MacAddr,
}

/// One of the pod's addresses with its network's prefix, and the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub net: IpNet,
    pub gateway: IpAddr,
}

/// A cable to lay.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub host_link: &'a str,
    pub interface: &'a str,
    pub bridge: u32,
    pub mtu: u32,
    /// IPv4 first.
    pub addresses: &'a [Assigned],
    pub mac: MacAddr,
    /// Addresses that others may remember with another Ethernet address.
    pub announced: &'a [IpAddr],
    pub bandwidth: Bandwidth,
}

/// The Ethernet address that goes with an IP address: whoever has that next has the same, so no cache is stale. An
/// IPv6 address goes with the IPv4 address that has the same place in its network, if there is one.
pub(crate) fn natural_mac(subnet: Subnet, ip: IpAddr) -> MacAddr {
    let counterpart = match (ip, subnet.ipv4, subnet.ipv6) {
        (IpAddr::V6(_), Some(ipv4), Some(ipv6)) => {
            ipam::counterpart(IpNet::V4(ipv4), IpNet::V6(ipv6), ip).unwrap_or(ip)
        }
        _ => ip,
    };
    match counterpart {
        IpAddr::V4(ip) => MacAddr::of_ipv4(ip),
        IpAddr::V6(ip) => MacAddr::of_ipv4(Ipv4Addr::from(u128::from(ip) as u32)),
    }
}

/// Lays the cable and configures the pod's end. What was under the host link's name before is replaced: it is of
/// an earlier try.
pub(crate) fn connect(handle: &Handle, netns: &Path, plan: &Plan<'_>) -> Result<()> {
    let netns = Netns::open(netns).map_err(Error::netlink("enter the sandbox"))?;
    match cable(handle, &netns, plan) {
        Err(knode_netlink::Error::AlreadyExists { .. }) => {
            remove(handle, &[plan.host_link.to_owned()])?;
            cable(handle, &netns, plan).map_err(Error::netlink("lay the cable"))?;
        }
        other => other.map_err(Error::netlink("lay the cable"))?,
    }
    bandwidth::limit(handle, plan.host_link, plan.mtu, plan.bandwidth)?;
    // Before the pod is up, so that it does not hear somebody speak in its name.
    announce(plan.bridge, plan.mac, plan.announced).map_err(Error::netlink("announce the pod"))?;
    netns
        .run(|| configure(plan))
        .map_err(Error::netlink("enter the sandbox"))??;
    settle_link(handle, plan.host_link, SETTLING).map_err(Error::netlink("wait for the cable"))
}

/// Removes cables, both ends of each, and what holds back what comes in by them; one that is not there is no error.
/// Several cost hardly more than one: the kernel waits for all processors once a deletion.
pub(crate) fn remove(handle: &Handle, host_links: &[String]) -> Result<()> {
    let failed = || Error::netlink("remove cables");
    let grouped = LinkChange {
        group: Some(LEAVING),
        ..LinkChange::default()
    };
    let both = host_links.iter().flat_map(|link| [link.clone(), name::ifb(link)]);
    let mut requests: Vec<_> = both.map(|link| change_link(link.as_str(), &grouped)).collect();
    requests.push(delete_group(LEAVING));
    let results = handle.execute_all(requests).map_err(failed())?;
    results
        .into_iter()
        .try_for_each(Tolerate::or_gone)
        .map_err(failed())
}

fn cable(handle: &Handle, netns: &Netns, plan: &Plan<'_>) -> knode_netlink::Result<()> {
    let spec = VethSpec {
        name: plan.host_link,
        mtu: plan.mtu,
        master: Some(plan.bridge),
        peer_name: plan.interface,
        peer_mac: Some(plan.mac),
        peer_netns: Some(netns),
    };
    let hairpin = LinkChange {
        hairpin: Some(true),
        ..LinkChange::default()
    };
    let results = handle.execute_all(vec![add_veth(&spec), change_link(plan.host_link, &hairpin)])?;
    results.into_iter().collect()
}

/// Runs inside the sandbox.
fn configure(plan: &Plan<'_>) -> Result<()> {
    let failed = || Error::netlink(format!("configure {}", plan.interface));
    settings(plan).map_err(failed())?;
    let handle = Handle::open().map_err(failed())?;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    handle.execute(change_link("lo", &up)).map_err(failed())?;
    let link = handle.link(plan.interface).map_err(failed())?.ok_or_else(|| {
        failed()(knode_netlink::Error::NotFound {
            op: "get link",
            object: plan.interface.to_owned(),
        })
    })?;
    let mut requests = vec![change_link(link.index, &up)];
    requests.extend(plan.addresses.iter().flat_map(|a| requests_of(a, link.index)));
    handle.execute_each(requests).map_err(failed())?;
    settle_all(&handle, plan.addresses.iter().map(|a| a.net)).map_err(failed())
}

/// Waits until the addresses can be used, which only those of IPv6 are not at once.
pub(crate) fn settle_all(
    handle: &Handle,
    addresses: impl Iterator<Item = IpNet>,
) -> knode_netlink::Result<()> {
    let ipv6 = addresses.filter_map(|net| match net.addr() {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    });
    settle(handle, &ipv6.collect::<Vec<_>>(), SETTLING)
}

/// IPv6 as a pod needs it: addresses that can be used at once, no router but ours.
fn settings(plan: &Plan<'_>) -> knode_netlink::Result<()> {
    let key = |name: &str| format!("ipv6/conf/{}/{name}", plan.interface);
    sysctl::set_if_present(&key("accept_dad"), "0")?;
    sysctl::set_if_present(&key("accept_ra"), "0")?;
    if plan.addresses.iter().any(|a| a.gateway.is_ipv6()) {
        sysctl::set_if_present(&key("disable_ipv6"), "0")?;
    }
    Ok(())
}

fn requests_of(assigned: &Assigned, index: u32) -> [Request; 2] {
    let everywhere = match assigned.net {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::default()),
    };
    debug_assert_eq!(everywhere.addr().is_ipv6(), assigned.gateway.is_ipv6());
    let address = Address {
        index,
        net: assigned.net,
    };
    let route = Route::via(everywhere, assigned.gateway, index);
    [replace_address(&address), replace_route(&route)]
}

/// Whether an address is one that the kernel gives to links by itself.
pub(crate) fn is_link_local(net: IpNet) -> bool {
    match net.addr() {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(ipv4: Option<&str>, ipv6: Option<&str>) -> Subnet {
        Subnet {
            ipv4: ipv4.map(|net| net.parse().unwrap()),
            ipv6: ipv6.map(|net| net.parse().unwrap()),
            mtu: 1450,
        }
    }

    fn mac(subnet: Subnet, ip: &str) -> String {
        natural_mac(subnet, ip.parse().unwrap()).to_string()
    }

    #[test]
    fn both_addresses_of_a_place_have_one_ethernet_address() {
        let dual = subnet(Some("172.30.65.0/24"), Some("fd00:65::/64"));
        assert_eq!(mac(dual, "172.30.65.7"), "0a:58:ac:1e:41:07");
        assert_eq!(mac(dual, "fd00:65::7"), "0a:58:ac:1e:41:07");
        assert_eq!(
            mac(dual, "fd00:65::1:7"),
            "0a:58:00:01:00:07",
            "no such place in IPv4"
        );
        assert_eq!(
            mac(subnet(None, Some("fd00:65::/64")), "fd00:65::7"),
            "0a:58:00:00:00:07"
        );
    }
}
