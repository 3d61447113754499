//! Addresses: which are free (pure), and who has which (files).

mod files;
mod pool;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::config::Subnet;
use crate::error::{Error, Result};
use files::LeaseFiles;

pub(crate) use pool::{counterpart, gateway};

/// Leases of addresses to sandboxes. The files are the truth; the map spares reading them.
#[derive(Debug)]
pub(crate) struct Ipam {
    files: LeaseFiles,
    taken: BTreeMap<IpAddr, String>,
    /// Where the round of each family goes on, IPv4 first.
    last: [Option<IpAddr>; 2],
}

/// Which address of a subnet a sandbox is to have.
#[derive(Debug, Clone, Copy)]
struct Wish {
    subnet: IpNet,
    /// This or none.
    only: Option<IpAddr>,
    /// This if it is free.
    rather: Option<IpAddr>,
}

impl Ipam {
    /// Takes up the leases in `directory`, making it when missing, and removes what a crash left half-written.
    pub fn open(directory: &Path) -> Result<Self> {
        let files = LeaseFiles::open(directory)?;
        let taken = files.load()?;
        let last = files.last();
        Ok(Self { files, taken, last })
    }

    /// The sandbox's addresses, one of each network of `subnet`: those it has already, those of `wanted`, or free ones,
    /// recorded before it returns. The families' addresses have the same place in their networks where possible, so
    /// that each goes with one Ethernet address whoever has it. None or all.
    pub fn acquire(&mut self, subnet: Subnet, sandbox: &str, wanted: &[IpAddr]) -> Result<Vec<IpAddr>> {
        if sandbox.is_empty() || sandbox.chars().any(char::is_control) {
            return Err(Error::SandboxId(sandbox.to_owned()));
        }
        let outside = |ip: &&IpAddr| !subnet.networks().any(|net| pool::contains(net, **ip));
        if let Some(ip) = wanted.iter().find(outside) {
            return Err(Error::AddressOutside(*ip));
        }
        let before: Vec<_> = self.addresses(sandbox);
        let mut first: Option<(IpNet, IpAddr)> = None;
        let mut ips = Vec::new();
        for network in subnet.networks() {
            let wish = Wish {
                subnet: network,
                only: wanted.iter().copied().find(|ip| network.contains(ip)),
                rather: first.and_then(|(other, ip)| counterpart(network, other, ip)),
            };
            match self.acquire_one(wish, sandbox) {
                Ok(ip) => ips.push(ip),
                Err(error) => {
                    let fresh = ips.iter().filter(|ip| !before.contains(ip));
                    fresh.copied().try_for_each(|ip| self.give_back(ip))?;
                    return Err(error);
                }
            }
            first = first.or(ips.first().map(|ip| (network, *ip)));
        }
        Ok(ips)
    }

    /// Gives back all addresses of a sandbox; none is no error.
    pub fn release(&mut self, sandbox: &str) -> Result<Vec<IpAddr>> {
        self.release_where(|owner| owner == sandbox)
    }

    /// Gives back the addresses of all sandboxes but the living; returns what was given back.
    pub fn retain(&mut self, live: &HashSet<String>) -> Result<Vec<IpAddr>> {
        self.release_where(|owner| !live.contains(owner))
    }

    /// Sandboxes that have addresses.
    pub fn owners(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.taken.iter().map(|(ip, owner)| (*ip, owner.as_str()))
    }

    /// The addresses of a sandbox, IPv4 first.
    pub fn addresses(&self, sandbox: &str) -> Vec<IpAddr> {
        let own = self.owners().filter(|(_, owner)| *owner == sandbox);
        own.map(|(ip, _)| ip).collect()
    }

    fn acquire_one(&mut self, wish: Wish, sandbox: &str) -> Result<IpAddr> {
        let mut has = self.addresses(sandbox);
        has.retain(|ip| wish.subnet.contains(ip));
        if let Some(ip) = wish.only {
            if !has.contains(&ip) {
                self.take_only(ip, sandbox)?;
            }
            has.retain(|other| *other != ip);
            has.into_iter().try_for_each(|other| self.give_back(other))?;
            return Ok(ip);
        }
        if let Some(ip) = has.first() {
            return Ok(*ip);
        }
        if let Some(ip) = wish.rather
            && self.take(ip, sandbox)?
        {
            return Ok(ip);
        }
        self.take_next(wish.subnet, sandbox)
    }

    fn take_only(&mut self, ip: IpAddr, sandbox: &str) -> Result<()> {
        if self.take(ip, sandbox)? {
            return Ok(());
        }
        let holder = self.taken.get(&ip).cloned().unwrap_or_default();
        Err(Error::AddressTaken { ip, holder })
    }

    fn take_next(&mut self, subnet: IpNet, sandbox: &str) -> Result<IpAddr> {
        let family = usize::from(matches!(subnet, IpNet::V6(_)));
        loop {
            let free = pool::next_free(subnet, self.last[family], |ip| self.taken.contains_key(&ip));
            let Some(ip) = free else {
                let taken = self.taken.keys().filter(|ip| subnet.contains(*ip)).count();
                return Err(Error::Exhausted { subnet, taken });
            };
            self.last[family] = Some(ip);
            if self.take(ip, sandbox)? {
                self.files.remember_last(ip);
                return Ok(ip);
            }
        }
    }

    /// Leases one address; `false` when it is taken.
    fn take(&mut self, ip: IpAddr, sandbox: &str) -> Result<bool> {
        if self.taken.contains_key(&ip) {
            return Ok(false);
        }
        let created = self.files.create(ip, sandbox)?;
        // A file that we do not know of: somebody has it, whoever that is.
        let owner = if created { sandbox } else { "" };
        self.taken.insert(ip, owner.to_owned());
        Ok(created)
    }

    fn give_back(&mut self, ip: IpAddr) -> Result<()> {
        self.files.remove(ip)?;
        self.taken.remove(&ip);
        Ok(())
    }

    fn release_where(&mut self, gone: impl Fn(&str) -> bool) -> Result<Vec<IpAddr>> {
        let of_gone = self.owners().filter(|(_, owner)| gone(owner));
        let ips: Vec<_> = of_gone.map(|(ip, _)| ip).collect();
        ips.iter().try_for_each(|ip| self.give_back(*ip))?;
        Ok(ips)
    }
}
