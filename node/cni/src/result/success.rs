//! A result's fields, the union of all versions (`pkg/types/{040,100}/types.go`).

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::ResultError;
use crate::version::Version;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Success {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    ips: Vec<Ip>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Map::is_empty")]
    dns: Map<String, Value>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Interface {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_path: Option<String>,
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pci_id: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Ip {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<i64>,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Route {
    dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<String>,
    /// What only 1.1.0 has: mtu, advmss, priority, table, scope.
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl Success {
    pub fn validate(&self) -> Result<(), ResultError> {
        self.ips.iter().try_for_each(|ip| {
            ip.parsed()?;
            self.interface_of(ip).map(drop)
        })
    }

    pub fn addresses(&self, interface: &str) -> Result<Vec<IpAddr>, ResultError> {
        let mut found = Vec::new();
        for ip in &self.ips {
            if self.interface_of(ip)?.is_none_or(|i| i.name == interface) {
                found.push(ip.parsed()?);
            }
        }
        Ok(found)
    }

    fn interface_of(&self, ip: &Ip) -> Result<Option<&Interface>, ResultError> {
        let Some(index) = ip.interface else {
            return Ok(None);
        };
        let found = usize::try_from(index).ok().and_then(|i| self.interfaces.get(i));
        let missing = || ResultError::Interface(index, self.interfaces.len());
        found.map(Some).ok_or_else(missing)
    }

    /// The form of a version: what it does not have is left out.
    pub fn into_json(mut self, version: Version) -> Result<Value, serde_json::Error> {
        for ip in &mut self.ips {
            let family = if ip.address.contains(':') { "6" } else { "4" };
            ip.version = (version < Version::V1_0_0).then(|| family.to_owned());
        }
        if version < Version::V1_1_0 {
            for interface in &mut self.interfaces {
                (interface.mtu, interface.socket_path, interface.pci_id) = (None, None, None);
            }
            self.routes.iter_mut().for_each(|r| r.more.clear());
        }
        let mut value = serde_json::to_value(self)?;
        value["cniVersion"] = version.as_str().into();
        Ok(value)
    }
}

impl Ip {
    fn parsed(&self) -> Result<IpAddr, ResultError> {
        let parts = self.address.split_once('/').and_then(|(ip, length)| {
            let (ip, length) = (ip.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?);
            let most = if ip.is_ipv4() { 32 } else { 128 };
            (length <= most).then_some(ip)
        });
        parts.ok_or_else(|| ResultError::Address(self.address.clone()))
    }
}

/// Go writes an empty list as null.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}
