//! A pod's cable.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net};
use knode_netlink::{
    Address, Handle, LinkChange, MacAddr, Netns, Route, Tolerate, VethSpec, add_veth, change_link,
    delete_group, delete_link, replace_address, replace_route, sysctl,
};

use crate::error::{Error, Result};

/// Group of cables that are about to be removed.
const LEAVING: u32 = 0x6b6e_6f64;

/// How a sandbox is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its addresses, the first one primary.
    pub ips: Vec<IpAddr>,
    /// Its default router: the bridge.
    pub gateway: IpAddr,
    /// The host's end of its cable.
    pub host_link: String,
    /// Its interface's Ethernet address.
    pub mac: MacAddr,
}

/// A cable to lay.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub host_link: &'a str,
    pub interface: &'a str,
    pub bridge: u32,
    pub mtu: u32,
    pub address: Ipv4Net,
    pub gateway: Ipv4Addr,
}

impl Plan<'_> {
    /// The pod's Ethernet address, by its IP address: whoever has that next has the same, so no cache is stale.
    pub fn mac(&self) -> MacAddr {
        MacAddr::of_ipv4(self.address.addr())
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
    netns
        .run(|| configure(plan))
        .map_err(Error::netlink("enter the sandbox"))?
}

/// Removes cables, both ends of each; one that is not there is no error. Several cost hardly more than one: the
/// kernel waits for all processors once a deletion.
pub(crate) fn remove(handle: &Handle, host_links: &[String]) -> Result<()> {
    let failed = || Error::netlink("remove cables");
    if let [link] = host_links {
        return handle
            .execute(delete_link(link.as_str()))
            .or_gone()
            .map_err(failed());
    }
    let grouped = LinkChange {
        group: Some(LEAVING),
        ..LinkChange::default()
    };
    let requests = host_links
        .iter()
        .map(|link| change_link(link.as_str(), &grouped))
        .collect();
    let results = handle.execute_all(requests).map_err(failed())?;
    results
        .into_iter()
        .try_for_each(Tolerate::or_gone)
        .map_err(failed())?;
    handle.execute(delete_group(LEAVING)).or_gone().map_err(failed())
}

fn cable(handle: &Handle, netns: &Netns, plan: &Plan<'_>) -> knode_netlink::Result<()> {
    let spec = VethSpec {
        name: plan.host_link,
        mtu: plan.mtu,
        master: Some(plan.bridge),
        peer_name: plan.interface,
        peer_mac: Some(plan.mac()),
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
    sysctl::set_if_present(&format!("ipv6/conf/{}/accept_dad", plan.interface), "0").map_err(failed())?;
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
    let address = Address {
        index: link.index,
        net: IpNet::V4(plan.address),
    };
    let default = IpNet::V4(Ipv4Net::default());
    let route = Route::via(default, IpAddr::V4(plan.gateway), link.index);
    let requests = vec![
        change_link(link.index, &up),
        replace_address(&address),
        replace_route(&route),
    ];
    handle.execute_each(requests).map_err(failed())
}
