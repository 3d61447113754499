//! Ports of the host that lead to pods: two maps in an nftables table of our own for each
//! family of addresses. The maps are the state.

mod entry;
mod rules;

use std::collections::HashSet;
use std::net::IpAddr;

use knode_netlink::sysctl;
use knode_nft::{Socket, conntrack};

use crate::config::{PortMapping, Protocol};
use crate::error::{Error, Result};
use entry::Entry;
use rules::Ip;

pub use rules::TABLE;

/// The host ports of this node.
#[derive(Debug)]
pub(crate) struct HostPorts {
    socket: Socket,
    entries: Vec<Entry>,
    /// The families whose rules were put in place by this process.
    ready: Vec<Ip>,
}

impl HostPorts {
    /// Takes up what an earlier process left in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::open().map_err(Error::nft("open nftables"))?;
        let mut entries = Vec::new();
        for ip in Ip::BOTH {
            entries.extend(rules::load(&mut socket, ip).map_err(Error::nft("read the host ports"))?);
        }
        Ok(Self {
            socket,
            entries,
            ready: Vec::new(),
        })
    }

    /// Leads ports, and no others, to the pod with these addresses. After an error what was done so far is to be
    /// removed.
    pub fn add(
        &mut self,
        bridge: &str,
        pod: &[IpAddr],
        mappings: &[PortMapping],
        sandbox_of: impl Fn(IpAddr) -> Option<String>,
    ) -> Result<()> {
        let mut wanted: Vec<Entry> = Vec::new();
        for mapping in mappings {
            for entry in Entry::of(mapping, pod)? {
                let others = self.entries.iter().filter(|e| !pod.contains(&e.target.0));
                if let Some(holder) = others.chain(&wanted).find(|e| e.conflicts(&entry)) {
                    return Err(taken(&entry, holder, sandbox_of(holder.target.0)));
                }
                wanted.push(entry);
            }
        }
        // What an earlier try left.
        pod.iter().try_for_each(|ip| self.remove(*ip))?;
        for ip in Ip::BOTH {
            let entries: Vec<_> = wanted.iter().filter(|e| Ip::of(e) == ip).cloned().collect();
            if !entries.is_empty() {
                self.add_family(bridge, ip, entries)?;
            }
        }
        Ok(())
    }

    fn add_family(&mut self, bridge: &str, ip: Ip, entries: Vec<Entry>) -> Result<()> {
        self.prepare(bridge, ip)?;
        self.socket
            .commit(&rules::add(ip, &entries))
            .map_err(Error::nft("lead host ports to a pod"))?;
        self.entries.extend(entries.iter().cloned());
        self.forget_flows(ip, &entries)
    }

    /// Takes all ports from the pod with this address; none is no error.
    pub fn remove(&mut self, pod: IpAddr) -> Result<()> {
        let (gone, kept): (Vec<_>, Vec<_>) = self.entries.iter().cloned().partition(|e| e.target.0 == pod);
        let Some(ip) = gone.first().map(Ip::of) else {
            return Ok(());
        };
        match self.socket.commit(&rules::remove(ip, &gone)) {
            // Somebody deleted the table, and the ports with it.
            Err(error) if error.errno() == Some(nix::libc::ENOENT) => self.ready.retain(|ready| *ready != ip),
            other => other.map_err(Error::nft("take host ports from a pod"))?,
        }
        self.entries = kept;
        self.forget_flows(ip, &gone)
    }

    /// Takes the ports from all pods but the living.
    pub fn retain(&mut self, living: &HashSet<IpAddr>) -> Result<()> {
        let gone: HashSet<_> = self
            .entries
            .iter()
            .map(|e| e.target.0)
            .filter(|ip| !living.contains(ip))
            .collect();
        gone.into_iter().try_for_each(|ip| self.remove(ip))
    }

    fn prepare(&mut self, bridge: &str, ip: Ip) -> Result<()> {
        if self.ready.contains(&ip) {
            return Ok(());
        }
        if ip == Ip::V4 {
            // Ports answer on 127.0.0.1 too; the rules keep pods from reaching the host's loopback that way.
            let key = format!("ipv4/conf/{bridge}/route_localnet");
            sysctl::set(&key, "1").map_err(Error::netlink("let host ports answer on loopback"))?;
        }
        self.socket
            .commit(&rules::base(bridge, ip))
            .map_err(Error::nft("set up host ports"))?;
        self.ready.push(ip);
        Ok(())
    }

    /// Datagrams follow the flow that their first one made; flows of another time would lead astray.
    fn forget_flows(&mut self, ip: Ip, entries: &[Entry]) -> Result<()> {
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
        let flows = conntrack::flows(&mut self.socket, ip.family(), number, meant).map_err(failed())?;
        for flow in flows {
            conntrack::delete(&mut self.socket, &flow).map_err(failed())?;
        }
        Ok(())
    }
}

/// Removes the tables; none is no error.
pub(crate) fn teardown() -> Result<()> {
    let mut socket = Socket::open().map_err(Error::nft("open nftables"))?;
    Ip::BOTH
        .into_iter()
        .try_for_each(|ip| rules::tear_down(&mut socket, ip))
        .map_err(Error::nft("remove the host ports"))
}

fn taken(entry: &Entry, holder: &Entry, sandbox: Option<String>) -> Error {
    Error::HostPortTaken {
        protocol: entry.protocol,
        host_ip: entry.host_ip,
        port: entry.host_port,
        holder: holder.target.0,
        sandbox,
    }
}
