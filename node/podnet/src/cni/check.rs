use std::net::{IpAddr, Ipv4Addr};

use knode_netlink::{Handle, Netns};

use super::call::Attached;
use super::error::CniError;
use crate::error::Error;
use crate::name;

/// Whether an attachment is as it was made: lease, cable, address and default route.
pub(super) fn check(
    attached: &Attached,
    ip: Option<Ipv4Addr>,
    prev: &serde_json::Value,
) -> Result<(), CniError> {
    let broken = |what: String| CniError::new(CniError::FAILED, what);
    let container = &attached.container;
    let ip = ip.ok_or_else(|| {
        CniError::new(
            CniError::UNKNOWN_CONTAINER,
            format!("container {container} has no address here"),
        )
    })?;
    let recorded = prev["ips"].as_array().into_iter().flatten();
    let told = recorded.filter_map(|i| i["address"].as_str()?.split('/').next()?.parse::<IpAddr>().ok());
    let told: Vec<_> = told.collect();
    if !told.is_empty() && !told.contains(&ip.into()) {
        return Err(broken(format!(
            "container {container} has {ip}, prevResult says {told:?}"
        )));
    }
    let failed = || Error::netlink("look at a container's interface");
    let host = Handle::open().map_err(failed())?;
    let cable = name::host_link(&attached.id());
    if host.link(cable.as_str()).map_err(failed())?.is_none() {
        return Err(broken(format!("the cable {cable} is gone")));
    }
    let path = attached.netns.clone().unwrap_or_default();
    let netns = Netns::open(&path).map_err(failed())?;
    let inside = Handle::open_in(&netns).map_err(failed())?;
    let interface = attached.interface.as_str();
    let link = inside.link(interface).map_err(failed())?;
    let link = link.ok_or_else(|| broken(format!("the interface {interface} is gone")))?;
    let addresses = inside.addresses(Some(link.index)).map_err(failed())?;
    if !addresses.iter().any(|a| a.net.addr() == IpAddr::V4(ip)) {
        return Err(broken(format!("the interface {interface} does not have {ip}")));
    }
    let routes = inside.routes(Some(link.index)).map_err(failed())?;
    if !routes
        .iter()
        .any(|r| r.is_default() && r.destination.addr().is_ipv4())
    {
        return Err(broken(format!("no default route leads through {interface}")));
    }
    Ok(())
}
