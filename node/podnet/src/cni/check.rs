use std::net::IpAddr;
use std::path::Path;

use knode_netlink::{Handle, Link, Netns};
use serde_json::Value;

use super::call::Attached;
use super::error::CniError;
use crate::error::Error;
use crate::name;

/// Whether an attachment is as it was made and as `prevResult` says: leases, cable, addresses and default routes.
pub(super) fn check(attached: &Attached, ips: &[IpAddr], prev: &Value) -> Result<(), CniError> {
    let container = &attached.container;
    if ips.is_empty() {
        let message = format!("container {container} has no address here");
        return Err(CniError::new(CniError::UNKNOWN_CONTAINER, message));
    }
    let told = told(prev);
    if !told.is_empty() && (told.len() != ips.len() || !told.iter().all(|ip| ips.contains(ip))) {
        return Err(broken(format!(
            "container {container} has {ips:?}, prevResult says {told:?}"
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
    as_told(&link, prev, &path)?;
    let addresses = inside.addresses(Some(link.index)).map_err(failed())?;
    let routes = inside.routes(Some(link.index)).map_err(failed())?;
    for ip in ips {
        if !addresses.iter().any(|a| a.net.addr() == *ip) {
            return Err(broken(format!("the interface {interface} does not have {ip}")));
        }
        let same_family = |other: IpAddr| other.is_ipv4() == ip.is_ipv4();
        let default = routes
            .iter()
            .find(|r| r.is_default() && same_family(r.destination.addr()));
        if default.is_none() {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!("no default route of {family} leads through {interface}");
            return Err(broken(message));
        }
    }
    Ok(())
}

/// The addresses that a result names.
fn told(prev: &Value) -> Vec<IpAddr> {
    let recorded = prev["ips"].as_array().into_iter().flatten();
    let ip = |entry: &Value| entry["address"].as_str()?.split('/').next()?.parse().ok();
    recorded.filter_map(ip).collect()
}

/// Whether the interface inside is the one that a result describes.
fn as_told(link: &Link, prev: &Value, netns: &Path) -> Result<(), CniError> {
    let interfaces = prev["interfaces"].as_array().into_iter().flatten();
    let mut inside = interfaces.filter(|i| i["sandbox"].as_str().is_some_and(|s| !s.is_empty()));
    let Some(told) = inside.find(|i| i["name"] == link.name.as_str()) else {
        return Ok(());
    };
    let sandbox = told["sandbox"].as_str().unwrap_or_default();
    if Path::new(sandbox) != netns {
        let message = format!("prevResult says {sandbox}, CNI_NETNS is {}", netns.display());
        return Err(broken(message));
    }
    let mac = told["mac"].as_str().unwrap_or_default().to_ascii_lowercase();
    let has = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if !mac.is_empty() && mac != has {
        let message = format!("the interface {} has {has}, prevResult says {mac}", link.name);
        return Err(broken(message));
    }
    Ok(())
}

fn broken(what: String) -> CniError {
    CniError::new(CniError::FAILED, what)
}
