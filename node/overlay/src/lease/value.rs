use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use serde_json::Value;

use super::{BackendData, LeaseAttributes};

/// A lease as flannel has it in etcd (`pkg/lease`, `LeaseAttrs`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(rename = "PublicIP")]
    public_ip: Ipv4Addr,
    #[serde(rename = "PublicIPv6", default)]
    public_ipv6: Option<Ipv6Addr>,
    #[serde(default)]
    backend_type: String,
    #[serde(default)]
    backend_data: Value,
    #[serde(rename = "BackendV6Data")]
    backend_v6_data: Option<Value>,
}

impl LeaseAttributes {
    /// Upstream's text in etcd, byte for byte.
    pub fn to_json(&self) -> String {
        let ipv6 = self.public_ipv6.map(|ip| format!("\"{ip}\""));
        let mut text = format!(
            r#"{{"PublicIP":"{}","PublicIPv6":{}"#,
            self.public_ip,
            ipv6.as_deref().unwrap_or("null")
        );
        if !self.backend.kind().is_empty() {
            let kind = Value::from(self.backend.kind());
            text.push_str(&format!(r#","BackendType":{kind}"#));
        }
        let sides = [
            ("BackendData", Some(&self.backend)),
            ("BackendV6Data", self.backend_v6.as_ref()),
        ];
        for (name, side) in sides {
            let data = side.map(BackendData::data).filter(|d| d != "null");
            if let Some(data) = data {
                text.push_str(&format!(r#","{name}":{data}"#));
            }
        }
        text.push('}');
        text
    }

    /// Reads such a text; `None` when it is none or the data of a known backend cannot be read.
    pub fn from_json(text: &[u8]) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(text).ok()?;
        let v6 = wire.backend_v6_data.map(|d| d.to_string());
        let side = |_| BackendData::parse_v6(&wire.backend_type, v6.as_deref());
        Some(Self {
            public_ip: wire.public_ip,
            public_ipv6: wire.public_ipv6,
            backend: BackendData::parse(&wire.backend_type, &wire.backend_data.to_string())?,
            backend_v6: wire.public_ipv6.and_then(side),
        })
    }
}

#[cfg(test)]
mod tests {
    use knode_netlink::MacAddr;

    use super::*;

    /// Values that upstream's flanneld wrote, with what they mean.
    fn seen() -> Vec<(&'static str, LeaseAttributes)> {
        let public_ip = Ipv4Addr::new(192, 168, 77, 1);
        let vxlan = |last| BackendData::Vxlan {
            vni: 1,
            mac: MacAddr([10, 0, 0, 0, 0, last]),
        };
        let ipv4 = |backend| LeaseAttributes::ipv4(public_ip, backend);
        let dual = |backend, v6| LeaseAttributes {
            public_ipv6: Some("2001:db8::1".parse().unwrap()),
            backend_v6: Some(v6),
            ..ipv4(backend)
        };
        vec![
            (
                r#"{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}}"#,
                ipv4(vxlan(1)),
            ),
            (
                r#"{"PublicIP":"192.168.77.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"},"BackendV6Data":{"VNI":1,"VtepMAC":"0a:00:00:00:00:02"}}"#,
                dual(vxlan(1), vxlan(2)),
            ),
            (
                r#"{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendType":"host-gw"}"#,
                ipv4(BackendData::HostGw),
            ),
            (
                r#"{"PublicIP":"192.168.77.1","PublicIPv6":"2001:db8::1","BackendType":"host-gw"}"#,
                dual(BackendData::HostGw, BackendData::HostGw),
            ),
            (
                r#"{"PublicIP":"192.168.77.1","PublicIPv6":null}"#,
                ipv4(BackendData::Alloc),
            ),
            (
                r#"{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendType":"extension","BackendData":"12:34"}"#,
                ipv4(BackendData::Extension(Some("12:34".into()))),
            ),
            (
                r#"{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendType":"extension","BackendData":"a \u0026\u0026 \u003cb\u003e"}"#,
                ipv4(BackendData::Extension(Some("a && <b>".into()))),
            ),
            (
                r#"{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendType":"wireguard","BackendData":{"PublicKey":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=","Port":51820}}"#,
                ipv4(BackendData::Wireguard {
                    key: knode_netlink::generic::wireguard::Key([7; 32]),
                    port: 51820,
                }),
            ),
        ]
    }

    #[test]
    fn upstreams_leases_are_read_and_written_alike() {
        for (text, attributes) in seen() {
            let read = LeaseAttributes::from_json(text.as_bytes());
            assert_eq!(read.as_ref(), Some(&attributes), "{text}");
            assert_eq!(attributes.to_json(), text);
        }
    }
}
