//! Addresses: which are free (pure), and who has which (files).

mod files;
mod pool;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;

use crate::error::{Error, Result};
use files::LeaseFiles;

pub(crate) use pool::gateway;

/// Leases of addresses to sandboxes. The files are the truth; the map spares reading them.
#[derive(Debug)]
pub(crate) struct Ipam {
    files: LeaseFiles,
    taken: BTreeMap<Ipv4Addr, String>,
    last: Option<Ipv4Addr>,
}

impl Ipam {
    /// Takes up the leases in `directory`, making it when missing, and removes what a crash left half-written.
    pub fn open(directory: &Path) -> Result<Self> {
        let files = LeaseFiles::open(directory)?;
        let taken = files.load()?;
        let last = files.last();
        Ok(Self { files, taken, last })
    }

    /// The sandbox's address: the one it has already in `subnet`, or a free one, recorded before it returns.
    pub fn acquire(&mut self, subnet: Ipv4Net, sandbox: &str) -> Result<Ipv4Addr> {
        if sandbox.is_empty() || sandbox.chars().any(char::is_control) {
            return Err(Error::SandboxId(sandbox.to_owned()));
        }
        if let Some((ip, _)) = self
            .taken
            .iter()
            .find(|(ip, owner)| *owner == sandbox && subnet.contains(*ip))
        {
            return Ok(*ip);
        }
        loop {
            let free = pool::next_free(subnet, self.last, |ip| self.taken.contains_key(&ip));
            let Some(ip) = free else {
                let taken = self.taken.keys().filter(|ip| subnet.contains(*ip)).count();
                return Err(Error::Exhausted { subnet, taken });
            };
            self.last = Some(ip);
            let owner = if self.files.create(ip, sandbox)? {
                sandbox
            } else {
                ""
            };
            // A file that we do not know of: somebody has it, whoever that is.
            self.taken.insert(ip, owner.to_owned());
            if owner == sandbox {
                self.files.remember_last(ip);
                return Ok(ip);
            }
        }
    }

    /// Gives back all addresses of a sandbox; none is no error.
    pub fn release(&mut self, sandbox: &str) -> Result<Vec<Ipv4Addr>> {
        self.release_where(|owner| owner == sandbox)
    }

    /// Gives back the addresses of all sandboxes but the living; returns what was given back.
    pub fn retain(&mut self, live: &HashSet<String>) -> Result<Vec<Ipv4Addr>> {
        self.release_where(|owner| !live.contains(owner))
    }

    /// Sandboxes that have addresses.
    pub fn owners(&self) -> impl Iterator<Item = (Ipv4Addr, &str)> {
        self.taken.iter().map(|(ip, owner)| (*ip, owner.as_str()))
    }

    fn release_where(&mut self, gone: impl Fn(&str) -> bool) -> Result<Vec<Ipv4Addr>> {
        let ips: Vec<_> = self
            .owners()
            .filter(|(_, owner)| gone(owner))
            .map(|(ip, _)| ip)
            .collect();
        for ip in &ips {
            self.files.remove(*ip)?;
            self.taken.remove(ip);
        }
        Ok(ips)
    }
}
