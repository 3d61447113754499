use std::collections::BTreeMap;

use serde::Deserialize;

use super::ConfigError;

/// `KubeProxyConfiguration` of `kubeproxy.config.k8s.io/v1alpha1`, as far as it means anything here.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KubeProxyConfiguration {
    /// Group and version.
    pub api_version: Option<String>,
    /// Kind.
    pub kind: Option<String>,
    /// How the API server is reached.
    pub client_connection: ClientConnection,
    /// The node's name.
    pub hostname_override: Option<String>,
    /// Decides about the family of the default addresses.
    pub bind_address: Option<String>,
    /// Where health is served.
    pub healthz_bind_address: Option<String>,
    /// Where metrics are served.
    pub metrics_bind_address: Option<String>,
    /// `nftables`, `iptables`, `ipvs`.
    pub mode: Option<String>,
    /// Of the mode iptables.
    pub iptables: Masquerading,
    /// Of the mode nftables.
    pub nftables: Masquerading,
    /// How pods are told.
    pub detect_local_mode: Option<String>,
    /// With which values.
    pub detect_local: DetectLocal,
    /// The pod networks, separated by a comma.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: Option<String>,
    /// Where node ports are served.
    pub node_port_addresses: Option<Vec<String>>,
    /// The limits of connection tracking.
    pub conntrack: Conntrack,
    /// Everything else.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_norway::Value>,
}

/// `clientConnection`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClientConnection {
    /// The kubeconfig.
    pub kubeconfig: Option<String>,
}

/// `iptables` and `nftables`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Masquerading {
    /// The bit of the packet mark.
    pub masquerade_bit: Option<u8>,
    /// Masquerade everything.
    pub masquerade_all: Option<bool>,
}

/// `detectLocal`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DetectLocal {
    /// The bridge that pods come in by.
    pub bridge_interface: Option<String>,
    /// How the names of pods' interfaces begin.
    pub interface_name_prefix: Option<String>,
}

/// `conntrack`; the times as Go writes them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Conntrack {
    /// Connections for each core.
    pub max_per_core: Option<u32>,
    /// At least so many.
    pub min: Option<u32>,
    /// Of established connections.
    pub tcp_established_timeout: Option<String>,
    /// Of half closed ones.
    pub tcp_close_wait_timeout: Option<String>,
    /// Let packets outside the window through.
    pub tcp_be_liberal: Option<bool>,
    /// Of UDP flows without answers.
    pub udp_timeout: Option<String>,
    /// Of UDP flows with answers.
    pub udp_stream_timeout: Option<String>,
}

const KIND: &str = "KubeProxyConfiguration";
const VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";

impl KubeProxyConfiguration {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// [`ConfigError::Parse`], or [`ConfigError::Value`] for another kind or version.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let read: Self = serde_norway::from_str(text).map_err(ConfigError::Parse)?;
        let expected = [
            ("kind", &read.kind, KIND),
            ("apiVersion", &read.api_version, VERSION),
        ];
        for (name, value, expected) in expected {
            if value.as_deref() != Some(expected) {
                return Err(ConfigError::Value {
                    name: name.to_owned(),
                    value: value.clone().unwrap_or_default(),
                    problem: format!("expected {expected}"),
                });
            }
        }
        Ok(read)
    }
}
