//! The bridge: made, taken up, repaired.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use knode_netlink::{
    Address, BridgeSpec, Handle, Link, LinkChange, LinkKind, MacAddr, Request, Tolerate, add_bridge,
    change_link, delete_address, replace_address, sysctl,
};

use crate::error::{Error, Result};
use crate::{Subnet, ipam, name};

/// What a bridge lacks of what it should be; pure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    mtu: Option<u32>,
    up: bool,
    add: Option<Ipv4Net>,
    remove: Vec<Ipv4Net>,
}

/// Makes the bridge what `subnet` asks for and returns its index. Settings of the host that it needs are set.
pub(crate) fn ensure(handle: &Handle, bridge: &str, subnet: Subnet) -> Result<u32> {
    let gateway = ipam::gateway(subnet.ipv4)?;
    let failed = || Error::netlink(format!("set up bridge {bridge}"));
    if let Some(link) = handle.link(bridge).map_err(failed())? {
        let ports = ports(handle, link.index)?;
        return take_up(handle, &link, subnet, gateway, !ports.is_empty());
    }
    let spec = BridgeSpec {
        name: bridge,
        mac: Some(MacAddr::of_ipv4(gateway)),
        mtu: subnet.mtu,
    };
    handle.execute(add_bridge(&spec)).or_exists().map_err(failed())?;
    forward()?;
    match handle.link(bridge).map_err(failed())? {
        Some(link) => take_up(handle, &link, subnet, gateway, false),
        None => Err(failed()(knode_netlink::Error::NotFound {
            op: "get link",
            object: bridge.to_owned(),
        })),
    }
}

/// Pod cables that are ports of the bridge with that index.
pub(crate) fn ports(handle: &Handle, bridge: u32) -> Result<Vec<Link>> {
    let links = handle
        .links()
        .map_err(Error::netlink("list the bridge's ports"))?;
    Ok(links
        .into_iter()
        .filter(|l| l.master == Some(bridge) && name::is_host_link(&l.name))
        .collect())
}

/// Packets of pods pass through the host, those within the bridge past its packet filter (services need it).
pub(crate) fn forward() -> Result<()> {
    let settings = sysctl::set("ipv4/ip_forward", "1")
        .and_then(|()| sysctl::set_if_present("bridge/bridge-nf-call-iptables", "1"));
    settings.map_err(Error::netlink("let packets of pods pass"))
}

fn take_up(handle: &Handle, link: &Link, subnet: Subnet, gateway: Ipv4Addr, in_use: bool) -> Result<u32> {
    if link.kind != LinkKind::Bridge {
        return Err(Error::NotABridge(link.name.clone()));
    }
    let failed = || Error::netlink(format!("set up bridge {}", link.name));
    let addresses = handle.addresses(Some(link.index)).map_err(failed())?;
    let addresses: Vec<_> = addresses.into_iter().filter_map(|a| ipv4(a.net)).collect();
    let want = Ipv4Net::new_assert(gateway, subnet.ipv4.prefix_len());
    let changes = compare(link, &addresses, want, subnet.mtu);
    if let Some(has) = changes.remove.first().filter(|_| in_use && changes.add.is_some()) {
        return Err(Error::SubnetChanged {
            bridge: link.name.clone(),
            has: *has,
            want: subnet.ipv4,
        });
    }
    handle
        .execute_each(requests(link.index, &changes))
        .map_err(failed())?;
    Ok(link.index)
}

fn ipv4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

fn compare(link: &Link, addresses: &[Ipv4Net], want: Ipv4Net, mtu: u32) -> Changes {
    Changes {
        mtu: (link.mtu != mtu).then_some(mtu),
        up: !link.up,
        add: (!addresses.contains(&want)).then_some(want),
        remove: addresses.iter().copied().filter(|a| *a != want).collect(),
    }
}

fn requests(index: u32, changes: &Changes) -> Vec<Request> {
    let address = |net: Ipv4Net| Address {
        index,
        net: IpNet::V4(net),
    };
    let mut requests = Vec::new();
    if changes.up || changes.mtu.is_some() {
        let change = LinkChange {
            up: Some(true),
            mtu: changes.mtu,
            ..LinkChange::default()
        };
        requests.push(change_link(index, &change));
    }
    requests.extend(changes.remove.iter().map(|net| delete_address(&address(*net))));
    requests.extend(changes.add.map(|net| replace_address(&address(net))));
    requests
}
