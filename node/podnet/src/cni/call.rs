//! What the engine asks for: environment and standard input; pure.

use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use serde_json::Value;

use super::VERSIONS;
use super::error::CniError;
use super::runtime::RuntimeConfig;
use crate::config::Subnet;

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub command: Command,
    pub conf: NetConf,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Add(Attached),
    Delete(Attached),
    Check(Attached),
    Gc,
    Status,
    Version,
}

/// Whose interface it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attached {
    pub container: String,
    pub interface: String,
    /// Of a container that is gone there may be none.
    pub netns: Option<PathBuf>,
}

/// The network's configuration, as far as it concerns this plugin.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetConf {
    #[serde(default)]
    pub cni_version: String,
    #[serde(default)]
    pub name: String,
    /// Under which name the plugin is called.
    #[serde(rename = "type", default)]
    pub plugin: String,
    /// The node's part of the pod network; otherwise the subnet file tells it.
    pub subnet: Option<Ipv4Net>,
    /// The same of IPv6.
    pub ipv6_subnet: Option<Ipv6Net>,
    /// With a subnet: largest packet, bytes.
    pub mtu: Option<u32>,
    #[serde(default = "subnet_file")]
    pub subnet_file: PathBuf,
    data_dir: Option<PathBuf>,
    /// Whether packets that leave the pod network get the host's address; otherwise, whether the overlay leaves that to
    /// the plugin.
    pub ip_masq: Option<bool>,
    /// Passed on in the result.
    pub dns: Option<Value>,
    #[serde(default = "bridge")]
    pub bridge: String,
    #[serde(default)]
    pub runtime_config: RuntimeConfig,
    pub prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    pub valid: Option<Vec<Valid>>,
}

/// An attachment that lives.
#[derive(Debug, Deserialize)]
pub(super) struct Valid {
    #[serde(rename = "containerID")]
    pub container: String,
    pub ifname: String,
}

fn subnet_file() -> PathBuf {
    "/run/flannel/subnet.env".into()
}

/// Where upstream's host-local keeps its leases too, a directory for each network.
const DATA_DIR: &str = "/var/lib/cni/networks";

fn bridge() -> String {
    "cni0".into()
}

impl Call {
    /// Reads a call.
    pub fn parse(env: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Self, CniError> {
        let get = |key: &str| env(key).filter(|v| !v.is_empty());
        let verb = get("CNI_COMMAND").ok_or_else(|| missing("CNI_COMMAND"))?;
        let unread = |e: serde_json::Error| {
            CniError::new(CniError::DECODE, format!("read the network's configuration: {e}"))
        };
        let conf: NetConf = match input.trim_ascii() {
            [] if verb == "VERSION" => NetConf::default(),
            text => serde_json::from_slice(text).map_err(unread)?,
        };
        let command = match verb.as_str() {
            "VERSION" => Command::Version,
            "ADD" => Command::Add(attached(&get, true)?),
            "CHECK" => Command::Check(attached(&get, true)?),
            "DEL" => Command::Delete(attached(&get, false)?),
            "GC" => Command::Gc,
            "STATUS" => Command::Status,
            other => {
                let message = format!("CNI_COMMAND {other:?} is none of the specification's");
                return Err(CniError::new(CniError::ENVIRONMENT, message));
            }
        };
        conf.speaks(&command)?;
        Ok(Self { command, conf })
    }
}

impl NetConf {
    /// Whether the version is spoken and has the command.
    fn speaks(&self, command: &Command) -> Result<(), CniError> {
        if *command == Command::Version {
            return Ok(());
        }
        let position = VERSIONS.iter().position(|v| *v == self.cni_version);
        let since = match command {
            Command::Check(_) => "0.4.0",
            Command::Gc | Command::Status => "1.1.0",
            _ => VERSIONS[0],
        };
        if position < VERSIONS.iter().position(|v| *v == since) {
            let message = format!(
                "cniVersion {:?} is not spoken here, or has no such command",
                self.cni_version
            );
            return Err(CniError::new(CniError::VERSION, message));
        }
        if self.name.is_empty() {
            return Err(CniError::new(CniError::CONFIG, "the network has no name"));
        }
        if !is_name(&self.name) {
            let message = format!("{:?} is no name of a network", self.name);
            return Err(CniError::new(CniError::CONFIG, message));
        }
        Ok(())
    }

    /// Directory of the network's leases.
    pub fn data_dir(&self) -> PathBuf {
        let default = || PathBuf::from(DATA_DIR).join(&self.name);
        self.data_dir.clone().unwrap_or_else(default)
    }

    /// The node's part of the pod network, if the configuration tells it.
    pub fn own_subnet(&self) -> Option<Subnet> {
        let some = self.subnet.is_some() || self.ipv6_subnet.is_some();
        some.then_some(Subnet {
            ipv4: self.subnet.map(|net| net.trunc()),
            ipv6: self.ipv6_subnet.map(|net| net.trunc()),
            mtu: self.mtu?,
        })
    }

    /// Whether results tell the size of packets.
    pub fn has_mtu(&self) -> bool {
        VERSIONS.iter().position(|v| *v == self.cni_version) >= VERSIONS.iter().position(|v| *v == "1.1.0")
    }

    /// Whether results are written in the form of before 1.0.
    pub fn is_old(&self) -> bool {
        self.cni_version.starts_with("0.")
    }
}

impl Attached {
    /// Under which the attachment's address is recorded.
    pub fn id(&self) -> String {
        id(&self.container, &self.interface)
    }
}

pub(super) fn id(container: &str, interface: &str) -> String {
    format!("{container}/{interface}")
}

fn attached(get: &impl Fn(&str) -> Option<String>, living: bool) -> Result<Attached, CniError> {
    let netns = get("CNI_NETNS").map(PathBuf::from);
    if living && netns.is_none() {
        return Err(missing("CNI_NETNS"));
    }
    let container = get("CNI_CONTAINERID").ok_or_else(|| missing("CNI_CONTAINERID"))?;
    if !is_name(&container) {
        let message = format!("CNI_CONTAINERID {container:?} is no container's");
        return Err(CniError::new(CniError::ENVIRONMENT, message));
    }
    let interface = get("CNI_IFNAME").ok_or_else(|| missing("CNI_IFNAME"))?;
    if !knode_netlink::is_link_name(&interface) {
        let message = format!("CNI_IFNAME {interface:?} is no interface's");
        return Err(CniError::new(CniError::ENVIRONMENT, message));
    }
    Ok(Attached {
        container,
        interface,
        netns,
    })
}

fn missing(variable: &str) -> CniError {
    CniError::new(CniError::ENVIRONMENT, format!("{variable} is missing"))
}

/// What the specification allows as names of networks and containers.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed)
}

/// What the overlay's subnet file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub subnet: Subnet,
    /// The whole pod network, of each family.
    pub networks: Vec<IpNet>,
    /// The overlay masquerades.
    pub masqueraded: bool,
}

/// Reads the overlay's subnet file; what it says must be right, and one family at least must be there.
pub(super) fn subnet_of(text: &str) -> Option<Told> {
    let get = |key: &str| {
        let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        value.filter(|v| !v.is_empty())
    };
    let net = |key: &str| get(key).map(str::parse::<IpNet>).transpose().ok();
    let (mut ipv4, mut ipv6) = (None, None);
    for net in [net("FLANNEL_SUBNET")?, net("FLANNEL_IPV6_SUBNET")?] {
        match net {
            Some(IpNet::V4(net)) => ipv4 = Some(net.trunc()),
            Some(IpNet::V6(net)) => ipv6 = Some(net.trunc()),
            None => {}
        }
    }
    let subnet = Subnet {
        ipv4,
        ipv6,
        mtu: get("FLANNEL_MTU")?.parse().ok()?,
    };
    let networks = [net("FLANNEL_NETWORK")?, net("FLANNEL_IPV6_NETWORK")?];
    subnet.networks().next()?;
    Some(Told {
        subnet,
        networks: networks.into_iter().flatten().collect(),
        masqueraded: get("FLANNEL_IPMASQ") == Some("true"),
    })
}
