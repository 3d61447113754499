//! What this node tells the others.

use std::fs::File;
use std::io::Read;
use std::net::Ipv6Addr;
use std::path::Path;

use knode_netlink::MacAddr;

use super::Overlay;
use super::carrier::Carrier;
use crate::config::{Backend, VxlanConf};
use crate::error::{Error, Result};
use crate::lease::{BackendData, LeaseAttributes};
use crate::store::Previous;
use crate::underlay::UnderlayError;
use crate::wireguard;

impl Overlay {
    pub(super) async fn attributes(&self, carrier: &Carrier) -> Result<LeaseAttributes> {
        let op = "ask for what an earlier start left";
        let told = self.config.wish.public_ip.unwrap_or(self.underlay.ip);
        let previous = self.persist(op, || self.store.previous(told)).await?;
        let public_ip = previous.public_ip_overwrite.unwrap_or(told);
        let backend = &self.config.conf.backend;
        if *backend == Backend::HostGw && public_ip != self.underlay.ip {
            let why = format!("backend host-gw behind NAT ({public_ip} is not the interface's address)");
            return Err(Error::Unsupported(why));
        }
        let (backend, backend_v6) = self.sides(carrier, &previous)?;
        Ok(LeaseAttributes {
            public_ip,
            public_ipv6: self.public_ipv6(&previous)?,
            backend,
            backend_v6: backend_v6.filter(|_| self.config.conf.ipv6.is_some()),
        })
    }

    /// The address to tell for IPv6; none where the network, or what the backend tells, has none.
    fn public_ipv6(&self, previous: &Previous) -> Result<Option<Ipv6Addr>> {
        let conf = &self.config.conf;
        if conf.ipv6.is_none() || matches!(conf.backend, Backend::Alloc | Backend::Ipip { .. }) {
            return Ok(None);
        }
        let missing = || UnderlayError::NoIpv6(self.underlay.name.clone());
        let link = self.underlay.ipv6.ok_or_else(missing)?;
        let told = self.config.wish.public_ipv6.unwrap_or_else(|| link.addr());
        Ok(Some(previous.public_ipv6_overwrite.unwrap_or(told)))
    }

    fn sides(&self, carrier: &Carrier, previous: &Previous) -> Result<(BackendData, Option<BackendData>)> {
        Ok(match &self.config.conf.backend {
            Backend::Vxlan(conf) => {
                let v4 = self.vxlan(conf, previous.mac, "flannel")?;
                let v6 = match self.config.conf.ipv6 {
                    Some(_) => Some(self.vxlan(conf, previous.mac_v6, "flannel-v6")?),
                    None => None,
                };
                (v4, v6)
            }
            Backend::Wireguard(conf) => {
                let (key, (port, port_v6)) = (carrier.public_key(), wireguard::ports(conf));
                let side = |port| BackendData::Wireguard { key, port };
                (side(port), Some(side(port_v6)))
            }
            Backend::HostGw => (BackendData::HostGw, Some(BackendData::HostGw)),
            Backend::Ipip { .. } => (BackendData::Ipip, None),
            Backend::Extension(_) => (BackendData::Extension(carrier.said()), None),
            Backend::Alloc => (BackendData::Alloc, None),
            Backend::Other(name) => (BackendData::Other(name.clone()), None),
        })
    }

    /// The station that the others know, else that of the device that is there, else a new one.
    fn vxlan(&self, conf: &VxlanConf, known: Option<MacAddr>, name: &str) -> Result<BackendData> {
        let mac = match known {
            Some(mac) => mac,
            None => self
                .edge
                .kernel
                .mac_of(&format!("{name}.{}", conf.vni))?
                .map_or_else(random_mac, Ok)?,
        };
        Ok(BackendData::Vxlan { vni: conf.vni, mac })
    }
}

fn random_mac() -> Result<MacAddr> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 6];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut bytes));
    read.map_err(Error::file("read", path))?;
    Ok(MacAddr::local(bytes))
}
