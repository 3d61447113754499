use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knode_netlink::MacAddr;
use knode_netlink::generic::wireguard::Key;
use serde::Deserialize;

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
    /// IPv4 in IPv4.
    Ipip,
    /// WireGuard.
    Wireguard {
        /// Public key of its device.
        key: Key,
        /// UDP port of its device; 0 in leases of flannel before it told.
        port: u16,
    },
    /// Subnets alone; nobody carries packets.
    Alloc,
    /// Commands of the administrator, with what the first one said.
    Extension(Option<String>),
    /// Any other, by its name.
    Other(String),
}

/// `BackendData` of VXLAN.
#[derive(Deserialize)]
struct VxlanData {
    #[serde(rename = "VNI", default)]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    mac: String,
}

/// `BackendData` of WireGuard.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireguardData {
    public_key: String,
    #[serde(default)]
    port: u16,
}

impl BackendData {
    /// Its name in leases.
    pub fn kind(&self) -> &str {
        match self {
            Self::Vxlan { .. } => "vxlan",
            Self::HostGw => "host-gw",
            Self::Ipip => "ipip",
            Self::Wireguard { .. } => "wireguard",
            Self::Alloc => "",
            Self::Extension(_) => "extension",
            Self::Other(name) => name,
        }
    }

    /// Its data in leases, JSON.
    pub fn data(&self) -> String {
        match self {
            Self::Vxlan { vni, mac } => format!(r#"{{"VNI":{vni},"VtepMAC":"{mac}"}}"#),
            Self::Wireguard { key, port } => {
                format!(r#"{{"PublicKey":"{}","Port":{port}}}"#, Base64(key))
            }
            Self::Extension(Some(said)) => go_string(said),
            Self::HostGw | Self::Ipip | Self::Alloc | Self::Extension(None) | Self::Other(_) => {
                "null".to_owned()
            }
        }
    }

    /// Reads name and data; `None` when the data of a known backend cannot be read.
    pub fn parse(kind: &str, data: &str) -> Option<Self> {
        Some(match kind {
            "vxlan" => {
                let data: VxlanData = serde_json::from_str(data).ok()?;
                Self::Vxlan {
                    vni: data.vni,
                    mac: data.mac.parse().ok()?,
                }
            }
            "wireguard" => {
                let data: WireguardData = serde_json::from_str(data).ok()?;
                Self::Wireguard {
                    key: key(&data.public_key)?,
                    port: data.port,
                }
            }
            // Without a first command upstream leaves the data out, or empty.
            "extension" if data.is_empty() => Self::Extension(None),
            "extension" => Self::Extension(serde_json::from_str(data).ok()?),
            "host-gw" => Self::HostGw,
            "ipip" => Self::Ipip,
            "" | "alloc" => Self::Alloc,
            other => Self::Other(other.to_owned()),
        })
    }

    /// Reads what a lease with an IPv6 address says for IPv6. Only some backends have such a side.
    pub(crate) fn parse_v6(kind: &str, data: Option<&str>) -> Option<Self> {
        match kind {
            "vxlan" | "wireguard" => Self::parse(kind, data?),
            "host-gw" => Some(Self::HostGw),
            _ => None,
        }
    }
}

/// A JSON string as Go writes it: safe inside of HTML.
fn go_string(text: &str) -> String {
    let mut quoted = serde_json::Value::from(text).to_string();
    for (plain, escaped) in [('&', "\\u0026"), ('<', "\\u003c"), ('>', "\\u003e")] {
        quoted = quoted.replace(plain, escaped);
    }
    quoted
}

/// A key as WireGuard's tools write it.
struct Base64<'a>(&'a Key);

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.0))
    }
}

/// Reads a key as WireGuard's tools write it.
pub(crate) fn key(text: &str) -> Option<Key> {
    let bytes = STANDARD.decode(text.trim()).ok()?;
    bytes.try_into().ok().map(Key)
}

/// Writes a key as WireGuard's tools do.
pub(crate) fn key_text(key: &Key) -> String {
    Base64(key).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_backends_are_kept_apart() {
        assert_eq!(BackendData::parse("host-gw", "null"), Some(BackendData::HostGw));
        assert_eq!(BackendData::parse("ipip", "null"), Some(BackendData::Ipip));
        assert_eq!(BackendData::parse("", "null"), Some(BackendData::Alloc));
        assert_eq!(
            BackendData::parse("ali-vpc", "{}"),
            Some(BackendData::Other("ali-vpc".into()))
        );
        assert_eq!(BackendData::parse("vxlan", "null"), None);
        assert_eq!(
            BackendData::parse("vxlan", r#"{"VNI":1,"VtepMAC":"nonsense"}"#),
            None
        );
    }

    #[test]
    fn wireguards_data_is_upstreams() {
        let seen = r#"{"PublicKey":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=","Port":51820}"#;
        let data = BackendData::parse("wireguard", seen).unwrap();
        let key = Key([7; 32]);
        assert_eq!(data, BackendData::Wireguard { key, port: 51820 });
        assert_eq!(data.data(), seen);
        assert_eq!(BackendData::parse("wireguard", r#"{"PublicKey":"short"}"#), None);
    }

    #[test]
    fn an_extensions_data_is_what_its_command_said() {
        let data = BackendData::parse("extension", r#""12:34:56:78:9a:bc""#).unwrap();
        assert_eq!(data, BackendData::Extension(Some("12:34:56:78:9a:bc".into())));
        assert_eq!(data.data(), r#""12:34:56:78:9a:bc""#);
        for none in ["", "null"] {
            assert_eq!(
                BackendData::parse("extension", none),
                Some(BackendData::Extension(None))
            );
        }
    }
}
