use std::collections::BTreeMap;
use std::path::Path;

use knode_netlink::generic::wireguard::{Key, Peer, Wireguard};
use knode_netlink::{
    Address, Event, Handle, LinkChange, LinkKind, Route, Tolerate, add_wireguard, change_link, delete_link,
    replace_address, replace_route,
};

use super::key_file;
use super::plan::{DEVICE, Wanted, changes};
use crate::error::{Error, Result};

/// The node's WireGuard devices. Calls block.
#[derive(Debug)]
pub(crate) struct Devices {
    handle: Handle,
    wireguard: Wireguard,
    private: Key,
    public: Key,
    /// Peers as they were set last, by device.
    known: BTreeMap<&'static str, Vec<Peer>>,
}

impl Devices {
    /// Reads or makes the key, and makes the first device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when this kernel has no WireGuard.
    pub fn open(handle: Handle, file: &Path, port: u16, mtu: u32) -> Result<Self> {
        require(&handle, DEVICE, mtu)?;
        let failed = || Error::netlink("set up the WireGuard device");
        let mut wireguard = Wireguard::open().map_err(failed())?;
        let private = key_file::load(file)?;
        wireguard.identify(DEVICE, &private, port).map_err(failed())?;
        let device = wireguard.device(DEVICE).map_err(failed())?;
        let missing = || Error::KeyFile(file.to_owned());
        Ok(Self {
            handle,
            wireguard,
            private,
            public: device.key.ok_or_else(missing)?,
            known: BTreeMap::new(),
        })
    }

    /// What the other nodes know this one by.
    pub fn public_key(&self) -> Key {
        self.public
    }

    /// Makes the kernel hold what is wanted; how many peers were changed.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn reconcile(&mut self, wanted: &[Wanted]) -> Result<usize> {
        let mut changed = 0;
        for device in wanted {
            changed += self.reconcile_device(device)?;
        }
        Ok(changed)
    }

    fn reconcile_device(&mut self, wanted: &Wanted) -> Result<usize> {
        let failed = || Error::netlink("set up the WireGuard device");
        require(&self.handle, wanted.name, wanted.mtu)?;
        let identify = self.wireguard.identify(wanted.name, &self.private, wanted.port);
        identify.map_err(failed())?;
        let link = self.handle.link(wanted.name).map_err(failed())?;
        let Some(link) = link else { return Ok(0) };
        let change = LinkChange {
            up: Some(true),
            mtu: Some(wanted.mtu),
            ..LinkChange::default()
        };
        let index = link.index;
        let mut requests = vec![change_link(index, &change)];
        let addresses = wanted.addresses.iter().map(|net| Address { index, net: *net });
        requests.extend(addresses.map(|address| replace_address(&address)));
        let routes = wanted.networks.iter().map(|net| Route::new(*net, index));
        requests.extend(routes.map(|route| replace_route(&route)));
        self.handle.execute_each(requests).map_err(failed())?;
        self.reconcile_peers(wanted)
    }

    fn reconcile_peers(&mut self, wanted: &Wanted) -> Result<usize> {
        let failed = || Error::netlink("change WireGuard's peers");
        let Some(peers) = &wanted.peers else { return Ok(0) };
        let have = self.wireguard.device(wanted.name).map_err(failed())?.peers;
        let known = self.known.get(wanted.name).map(Vec::as_slice);
        let changes = changes(peers, known.unwrap_or_default(), &have);
        self.wireguard.change(wanted.name, &changes).map_err(failed())?;
        self.known.insert(wanted.name, peers.clone());
        Ok(changes.len())
    }
}

/// Whether a change in the kernel may have undone something of these devices.
pub(crate) fn concerned(wanted: &[Wanted], event: &Event) -> bool {
    let ours = |name: &str| wanted.iter().any(|w| w.name == name);
    match event {
        Event::Lost => true,
        Event::LinkGone(link) => ours(&link.name),
        Event::Link(link) => ours(&link.name) && !link.up,
        Event::RouteGone(route) => wanted.iter().any(|w| w.networks.contains(&route.destination)),
        Event::AddressGone(address) => wanted.iter().any(|w| w.addresses.contains(&address.net)),
        _ => false,
    }
}

/// Makes the device where there is none; a link of another kind in its place is removed.
fn require(handle: &Handle, name: &str, mtu: u32) -> Result<()> {
    let failed = || Error::netlink("set up the WireGuard device");
    if let Some(link) = handle.link(name).map_err(failed())? {
        if link.kind == LinkKind::Wireguard {
            return Ok(());
        }
        handle.execute(delete_link(link.index)).map_err(failed())?;
    }
    match handle.execute(add_wireguard(name, mtu)).or_exists() {
        Err(knode_netlink::Error::Unsupported { .. }) => Err(Error::Unsupported(
            "backend wireguard on this kernel, which has no WireGuard device (CONFIG_WIREGUARD)".to_owned(),
        )),
        other => other.map_err(failed()),
    }
}
