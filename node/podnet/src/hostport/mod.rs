//! Ports of the host that lead to pods: two maps in an nftables table of our own. The maps are the state.

mod entry;
mod rules;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use knode_netlink::sysctl;
use knode_nft::{Socket, conntrack};

use crate::config::{PortMapping, Protocol};
use crate::error::{Error, Result};
use entry::Entry;

pub use rules::TABLE;

/// The host ports of this node.
#[derive(Debug)]
pub(crate) struct HostPorts {
    socket: Socket,
    entries: Vec<Entry>,
    /// The rules were put in place by this process.
    ready: bool,
}

impl HostPorts {
    /// Takes up what an earlier process left in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::open().map_err(Error::nft("open nftables"))?;
        let entries = rules::load(&mut socket).map_err(Error::nft("read the host ports"))?;
        Ok(Self {
            socket,
            entries,
            ready: false,
        })
    }

    /// Leads ports to the pod with this address; all or none.
    pub fn add(&mut self, bridge: &str, pod: Ipv4Addr, mappings: &[PortMapping]) -> Result<()> {
        let mut wanted = Vec::new();
        for mapping in mappings {
            let entry = Entry::new(mapping, pod)?;
            let others = self.entries.iter().chain(&wanted);
            if let Some(holder) = others.into_iter().find(|e| e.conflicts(&entry)) {
                return Err(taken(&entry, holder));
            }
            wanted.push(entry);
        }
        if wanted.is_empty() {
            return Ok(());
        }
        self.prepare(bridge)?;
        self.socket
            .commit(&rules::add(&wanted))
            .map_err(Error::nft("lead host ports to a pod"))?;
        self.forget_flows(&wanted)?;
        self.entries.extend(wanted);
        Ok(())
    }

    /// Takes all ports from the pod with this address; none is no error.
    pub fn remove(&mut self, pod: Ipv4Addr) -> Result<()> {
        let (gone, kept): (Vec<_>, Vec<_>) = self.entries.iter().cloned().partition(|e| e.target.0 == pod);
        if gone.is_empty() {
            return Ok(());
        }
        match self.socket.commit(&rules::remove(&gone)) {
            // Somebody deleted the table, and the ports with it.
            Err(error) if error.errno() == Some(nix::libc::ENOENT) => self.ready = false,
            other => other.map_err(Error::nft("take host ports from a pod"))?,
        }
        self.entries = kept;
        self.forget_flows(&gone)
    }

    /// Takes the ports from all pods but the living.
    pub fn retain(&mut self, living: &HashSet<Ipv4Addr>) -> Result<()> {
        let gone: HashSet<_> = self
            .entries
            .iter()
            .map(|e| e.target.0)
            .filter(|ip| !living.contains(ip))
            .collect();
        gone.into_iter().try_for_each(|ip| self.remove(ip))
    }

    fn prepare(&mut self, bridge: &str) -> Result<()> {
        if self.ready {
            return Ok(());
        }
        // Ports answer on 127.0.0.1 too; the rules keep pods from reaching the host's loopback that way.
        let key = format!("ipv4/conf/{bridge}/route_localnet");
        sysctl::set(&key, "1").map_err(Error::netlink("let host ports answer on loopback"))?;
        self.socket
            .commit(&rules::base(bridge))
            .map_err(Error::nft("set up host ports"))?;
        self.ready = true;
        Ok(())
    }

    /// Datagrams follow the flow that their first one made; flows of another time would lead astray.
    fn forget_flows(&mut self, entries: &[Entry]) -> Result<()> {
        let udp: Vec<_> = entries
            .iter()
            .filter(|e| e.protocol == Protocol::Udp)
            .cloned()
            .collect();
        if udp.is_empty() {
            return Ok(());
        }
        let failed = || Error::nft("forget old flows of a host port");
        let meant = |flow: &conntrack::Flow| udp.iter().any(|e| e.host_port == flow.original.dst_port);
        let number = Protocol::Udp.number();
        let flows =
            conntrack::flows(&mut self.socket, knode_nft::Family::Ip, number, meant).map_err(failed())?;
        for flow in flows {
            conntrack::delete(&mut self.socket, &flow).map_err(failed())?;
        }
        Ok(())
    }
}

/// Removes the table; none is no error.
pub(crate) fn teardown() -> Result<()> {
    let mut socket = Socket::open().map_err(Error::nft("open nftables"))?;
    socket
        .commit(&rules::removal())
        .map_err(Error::nft("remove the host ports"))
}

fn taken(entry: &Entry, holder: &Entry) -> Error {
    Error::HostPortTaken {
        protocol: entry.protocol,
        host_ip: entry.host_ip.map(IpAddr::V4),
        port: entry.host_port,
        holder: holder.target.0,
    }
}
