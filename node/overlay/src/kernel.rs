//! Reads the kernel and takes the planner's steps; decides nothing.

use std::net::{IpAddr, Ipv4Addr};

use knode_netlink::{
    Address, FdbEntry, Handle, LinkChange, Neighbour, Request, Route, Tolerate, add_ipip, add_vxlan,
    change_link, delete_address, delete_fdb, delete_link, delete_neighbour, delete_route, ethtool,
    replace_address, replace_fdb, replace_neighbour, replace_route, sysctl,
};

use crate::error::{Error, Result};
use crate::flags::Interfaces;
use crate::overlap::HostRoute;
use crate::plan::{Desired, Device, Observed, Step, Tunnel, blackhole, ipip_device, plan};
use crate::underlay::{self, Underlay, Wish};

/// The network configuration of one namespace. Its calls block.
#[derive(Debug, Clone)]
pub struct Kernel {
    handle: Handle,
}

impl Kernel {
    /// Opens the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn open() -> Result<Self> {
        Ok(Self {
            handle: Handle::open().map_err(Error::netlink("open route netlink"))?,
        })
    }

    /// The socket to it.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Chooses the interface to the other nodes.
    ///
    /// # Errors
    /// [`Error::Underlay`], [`Error::Netlink`].
    pub fn underlay(&self, wish: &Wish) -> Result<Underlay> {
        let failed = || Error::netlink("look for the interface to the other nodes");
        let links = self.handle.links().map_err(failed())?;
        let addresses = self.handle.addresses(None).map_err(failed())?;
        let routes = self.handle.routes(None).map_err(failed())?;
        Ok(underlay::choose(&links, &addresses, &routes, wish)?)
    }

    /// Chooses the interface to the other nodes as flanneld's flags say.
    ///
    /// # Errors
    /// [`Error::Underlay`], [`Error::Netlink`].
    pub fn underlay_among(&self, asked: &Interfaces) -> Result<Underlay> {
        let failed = || Error::netlink("look for the interface to the other nodes");
        let links = self.handle.links().map_err(failed())?;
        let addresses = self.handle.addresses(None).map_err(failed())?;
        let routes = self.handle.routes(None).map_err(failed())?;
        let route = match asked.can_reach {
            Some(target) => self.handle.route_to(target.into()).map_err(failed())?,
            None => None,
        };
        let source = match route.and_then(|r| r.source) {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        };
        Ok(underlay::search(&links, &addresses, &routes, asked, source)?)
    }

    /// The interface to the other nodes as it is now; `None` while it cannot be used.
    pub(crate) fn follow(&self, current: &Underlay) -> Result<Option<Underlay>> {
        let failed = || Error::netlink("look at the interface to the other nodes");
        let links = self.handle.links().map_err(failed())?;
        let addresses = self.handle.addresses(None).map_err(failed())?;
        Ok(underlay::follow(&links, &addresses, current))
    }

    /// Makes the kernel hold what is desired; returns the steps that it took, and the device's index.
    ///
    /// # Errors
    /// [`Error::Netlink`]; the other steps were taken all the same.
    pub fn reconcile(&self, desired: &Desired) -> Result<(Vec<Step>, Option<u32>)> {
        let observed = self.observe(desired)?;
        let steps = plan(desired, &observed);
        let index = self.apply(desired, &steps)?;
        Ok((steps, index))
    }

    /// What the kernel holds of `desired`'s concern.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn observe(&self, desired: &Desired) -> Result<Observed> {
        let failed = || Error::netlink("read the overlay's state");
        let mut observed = Observed {
            blackholes: self.handle.blackholes(desired.ipv6).map_err(failed())?,
            ..Observed::default()
        };
        if let Some(device) = &desired.device
            && let Some(link) = self.handle.link(device.name.as_str()).map_err(failed())?
        {
            let index = link.index;
            observed.addresses = self
                .handle
                .addresses(Some(index))
                .map_err(failed())?
                .into_iter()
                .map(|a| a.net)
                .collect();
            observed.neighbours = self.handle.neighbours(index).map_err(failed())?;
            observed.fdb = self.handle.fdb(index).map_err(failed())?;
            observed.routes = self.handle.routes(Some(index)).map_err(failed())?;
            observed.device = Some(link);
        }
        observed
            .routes
            .extend(self.handle.routes(Some(desired.underlay)).map_err(failed())?);
        observed.routes.retain(|r| r.table == Route::TABLE_MAIN);
        Ok(observed)
    }

    /// Refuses by name where the kernel has no device of IPv4 in IPv4.
    pub(crate) fn require_ipip(&self, local: Ipv4Addr) -> Result<()> {
        let (name, tunnel) = ipip_device(local);
        match self.handle.execute(add_ipip(name, &tunnel)).or_exists() {
            Err(knode_netlink::Error::Unsupported { .. }) => Err(Error::Unsupported(
                "backend ipip on this kernel, which has no ipip device (CONFIG_NET_IPIP)".to_owned(),
            )),
            other => other.map_err(Error::netlink("set up the tunnel device")),
        }
    }

    /// The Ethernet address of a link, if there is one of that name.
    pub(crate) fn mac_of(&self, name: &str) -> Result<Option<knode_netlink::MacAddr>> {
        let link = self
            .handle
            .link(name)
            .map_err(Error::netlink("look for the tunnel device"))?;
        Ok(link.and_then(|l| l.mac))
    }

    fn apply(&self, desired: &Desired, steps: &[Step]) -> Result<Option<u32>> {
        let devices: Vec<_> = steps.iter().flat_map(device_requests).collect();
        let made = self.handle.execute_each(devices);
        let index = match &desired.device {
            Some(device) => Some(self.device_ready(device, made)?),
            None => None,
        };
        let requests = steps
            .iter()
            .filter_map(|s| request(s, index.unwrap_or(0), desired.underlay))
            .collect();
        let results = self
            .handle
            .execute_all(requests)
            .map_err(Error::netlink("change the overlay's state"))?;
        // All were tried; what was to be deleted may have gone by itself.
        let first = results.into_iter().try_for_each(Tolerate::or_gone);
        first.map_err(Error::netlink("change the overlay's state"))?;
        Ok(index)
    }

    fn device_ready(&self, device: &Device, made: knode_netlink::Result<()>) -> Result<u32> {
        let failed = || Error::netlink("set up the tunnel device");
        made.map_err(failed())?;
        let link = self.handle.link(device.name.as_str()).map_err(failed())?;
        let missing = || knode_netlink::Error::NotFound {
            op: "get link",
            object: device.name.clone(),
        };
        let index = link.map(|l| l.index).ok_or_else(missing).map_err(failed())?;
        sysctl::set_if_present(&format!("ipv6/conf/{}/accept_ra", device.name), "0").map_err(failed())?;
        if device.own_checksums && ethtool::tx_checksum(&device.name).map_err(failed())? {
            ethtool::set_tx_checksum(&device.name, false).map_err(failed())?;
        }
        Ok(index)
    }
}

/// The host's routes with the names of their links, for [`crate::check_overlap`].
///
/// # Errors
/// [`Error::Netlink`].
pub fn host_routes() -> Result<Vec<HostRoute>> {
    let failed = || Error::netlink("read the host's routes");
    let handle = Handle::open().map_err(failed())?;
    let links = handle.links().map_err(failed())?;
    let name = |index: Option<u32>| {
        links
            .iter()
            .find(|l| Some(l.index) == index)
            .map(|l| l.name.clone())
    };
    let routes = handle.routes(None).map_err(failed())?;
    let main = routes.into_iter().filter(|r| r.table == Route::TABLE_MAIN);
    let routes = main.map(|r| HostRoute {
        destination: r.destination,
        link: name(r.link).unwrap_or_default(),
    });
    Ok(routes.collect())
}

fn device_requests(step: &Step) -> Vec<Request> {
    let change = |device: &Device| {
        let mac = match device.tunnel {
            Tunnel::Vxlan(mac, _) => Some(mac),
            Tunnel::Ipip(_) => None,
        };
        let change = LinkChange {
            up: Some(true),
            mtu: Some(device.mtu),
            mac,
            ..LinkChange::default()
        };
        change_link(device.name.as_str(), &change)
    };
    match step {
        Step::DeleteDevice(index) => vec![delete_link(*index)],
        Step::CreateDevice(d) => {
            let add = match &d.tunnel {
                Tunnel::Vxlan(mac, vxlan) => add_vxlan(&d.name, *mac, d.mtu, vxlan),
                Tunnel::Ipip(tunnel) => add_ipip(&d.name, tunnel),
            };
            vec![add, change(d)]
        }
        Step::ChangeDevice(d) => vec![change(d)],
        _ => Vec::new(),
    }
}

fn request(step: &Step, index: u32, underlay: u32) -> Option<Request> {
    let neighbour = |ip: IpAddr, mac| Neighbour {
        index,
        ip,
        mac: Some(mac),
        permanent: true,
    };
    Some(match step {
        Step::DeleteDevice(_) | Step::CreateDevice(_) | Step::ChangeDevice(_) => return None,
        Step::DropAddress(net) => delete_address(&Address { index, net: *net }),
        Step::SetAddress(net) => replace_address(&Address { index, net: *net }),
        Step::DropRoute(route) => delete_route(route),
        Step::DropNeighbour(entry) => delete_neighbour(entry),
        Step::DropFdb(entry) => delete_fdb(entry),
        Step::SetNeighbour(ip, mac) => replace_neighbour(&neighbour(*ip, *mac)),
        Step::SetFdb(mac, remote) => replace_fdb(&FdbEntry {
            index,
            mac: *mac,
            remote: Some(*remote),
            permanent: true,
        }),
        Step::SetRoute(peer) => replace_route(&Step::route(peer, index, underlay)),
        Step::SetBlackhole(network) => replace_route(&blackhole(*network)),
    })
}
