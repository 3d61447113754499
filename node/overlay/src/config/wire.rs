//! The JSON; Go reads its names in any case.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;
use serde_json::Value;

use super::NetConfError;

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) struct Wire {
    #[serde(rename = "enableipv4", default = "yes")]
    pub enable_ipv4: bool,
    #[serde(rename = "enableipv6", default)]
    pub enable_ipv6: bool,
    pub network: Option<Ipv4Net>,
    #[serde(rename = "subnetlen")]
    pub subnet_len: Option<u8>,
    #[serde(rename = "subnetmin")]
    pub subnet_min: Option<Ipv4Addr>,
    #[serde(rename = "subnetmax")]
    pub subnet_max: Option<Ipv4Addr>,
    #[serde(rename = "ipv6network")]
    pub ipv6_network: Option<Ipv6Net>,
    #[serde(rename = "ipv6subnetlen")]
    pub ipv6_subnet_len: Option<u8>,
    #[serde(rename = "ipv6subnetmin")]
    pub ipv6_subnet_min: Option<Ipv6Addr>,
    #[serde(rename = "ipv6subnetmax")]
    pub ipv6_subnet_max: Option<Ipv6Addr>,
    pub backend: Option<WireBackend>,
}

/// All backends' fields.
#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", default)]
pub(super) struct WireBackend {
    #[serde(rename = "type")]
    pub kind: String,
    pub vni: Option<u32>,
    pub port: Option<u16>,
    pub mtu: Option<u32>,
    pub gbp: bool,
    pub learning: bool,
    #[serde(rename = "directrouting")]
    pub direct_routing: bool,
    #[serde(rename = "listenport")]
    pub listen_port: Option<u16>,
    #[serde(rename = "listenportv6")]
    pub listen_port_v6: Option<u16>,
    pub psk: String,
    #[serde(rename = "persistentkeepaliveinterval")]
    pub keepalive: u16,
    pub mode: Option<String>,
    #[serde(rename = "prestartupcommand")]
    pub pre_startup: String,
    #[serde(rename = "poststartupcommand")]
    pub post_startup: String,
    #[serde(rename = "shutdowncommand")]
    pub shutdown: String,
    #[serde(rename = "subnetaddcommand")]
    pub subnet_add: String,
    #[serde(rename = "subnetremovecommand")]
    pub subnet_remove: String,
}

impl Wire {
    pub fn parse(text: &str) -> Result<Self, NetConfError> {
        let value: Value = serde_json::from_str(text).map_err(NetConfError::Parse)?;
        let mut value = lower(value);
        if let Some(backend) = value.get_mut("backend") {
            *backend = lower(backend.take());
        }
        serde_json::from_value(value).map_err(NetConfError::Parse)
    }
}

fn lower(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let lower = |(name, value): (String, Value)| (name.to_ascii_lowercase(), value);
            Value::Object(fields.into_iter().map(lower).collect())
        }
        other => other,
    }
}

fn yes() -> bool {
    true
}
