//! Leases, and how they are written.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use knode_netlink::MacAddr;
use serde::{Deserialize, Serialize};

/// A node's subnet and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The node's part of the pod network.
    pub subnet: Ipv4Net,
    /// The way to it.
    pub attributes: LeaseAttributes,
}

/// What a node tells the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAttributes {
    /// Where it can be reached.
    pub public_ip: Ipv4Addr,
    /// As what it takes packets.
    pub backend: BackendData,
}

/// Backend of a lease with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendData {
    /// VXLAN.
    Vxlan {
        /// Network identifier.
        vni: u32,
        /// Ethernet address of its tunnel device.
        mac: MacAddr,
    },
    /// Plain routes through the nodes.
    HostGw,
    /// Any other, by its name.
    Other(String),
}

/// All leases that a store knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    /// This node's own, as recorded.
    pub own: Option<Lease>,
    /// The others', by subnet.
    pub peers: BTreeMap<Ipv4Net, Lease>,
}

/// A lease as flannel writes it to etcd (`pkg/lease`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LeaseValue {
    /// Where the node can be reached.
    #[serde(rename = "PublicIP")]
    pub public_ip: Ipv4Addr,
    /// Likewise over IPv6.
    #[serde(rename = "PublicIPv6", default)]
    pub public_ipv6: Option<Ipv6Addr>,
    /// Name of the backend.
    pub backend_type: String,
    /// The backend's own data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_data: Option<serde_json::Value>,
}

/// `BackendData` of VXLAN.
#[derive(Debug, Serialize, Deserialize)]
struct VxlanData {
    #[serde(rename = "VNI", default)]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    mac: String,
}

impl BackendData {
    /// Its name in leases.
    pub fn kind(&self) -> &str {
        match self {
            Self::Vxlan { .. } => "vxlan",
            Self::HostGw => "host-gw",
            Self::Other(name) => name,
        }
    }

    /// Its data in leases, JSON.
    pub fn data(&self) -> String {
        match self {
            Self::Vxlan { vni, mac } => format!(r#"{{"VNI":{vni},"VtepMAC":"{mac}"}}"#),
            Self::HostGw | Self::Other(_) => "null".to_owned(),
        }
    }

    /// Reads name and data; `None` when the data of a known backend cannot be read.
    pub fn parse(kind: &str, data: &str) -> Option<Self> {
        match kind {
            "vxlan" => {
                let data: VxlanData = serde_json::from_str(data).ok()?;
                Some(Self::Vxlan {
                    vni: data.vni,
                    mac: data.mac.parse().ok()?,
                })
            }
            "host-gw" => Some(Self::HostGw),
            other => Some(Self::Other(other.to_owned())),
        }
    }
}

impl From<&LeaseAttributes> for LeaseValue {
    fn from(attributes: &LeaseAttributes) -> Self {
        let data = serde_json::from_str(&attributes.backend.data()).unwrap_or_default();
        Self {
            public_ip: attributes.public_ip,
            public_ipv6: None,
            backend_type: attributes.backend.kind().to_owned(),
            backend_data: Some(data).filter(|d: &serde_json::Value| !d.is_null()),
        }
    }
}

impl LeaseValue {
    /// Upstream's text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The attributes, when the backend's data can be read.
    pub fn attributes(&self) -> Option<LeaseAttributes> {
        let data = self
            .backend_data
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let backend = BackendData::parse(&self.backend_type, &data)?;
        Some(LeaseAttributes {
            public_ip: self.public_ip,
            backend,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = r#"{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}}"#;

    #[test]
    fn upstreams_lease_is_read_and_written_alike() {
        let value: LeaseValue = serde_json::from_str(SEEN).unwrap();
        let attributes = value.attributes().unwrap();
        assert_eq!(attributes.public_ip, Ipv4Addr::new(192, 168, 77, 1));
        assert_eq!(
            attributes.backend,
            BackendData::Vxlan {
                vni: 1,
                mac: MacAddr([10, 0, 0, 0, 0, 1])
            }
        );
        assert_eq!(
            serde_json::to_string(&LeaseValue::from(&attributes)).unwrap(),
            SEEN
        );
    }

    #[test]
    fn other_backends_are_kept_apart() {
        assert_eq!(BackendData::parse("host-gw", "null"), Some(BackendData::HostGw));
        assert_eq!(
            BackendData::parse("wireguard", "{}"),
            Some(BackendData::Other("wireguard".into()))
        );
        assert_eq!(BackendData::parse("vxlan", "null"), None);
        assert_eq!(
            BackendData::parse("vxlan", r#"{"VNI":1,"VtepMAC":"nonsense"}"#),
            None
        );
    }
}
