//! What the engine asks for: environment and standard input; pure.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::Deserialize;
use serde_json::Value;

use super::VERSIONS;
use super::error::CniError;
use crate::config::{PortMapping, Protocol, Subnet};

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
    /// The node's part of the pod network; otherwise the subnet file tells it.
    pub subnet: Option<Ipv4Net>,
    /// With `subnet`: largest packet, bytes.
    pub mtu: Option<u32>,
    #[serde(default = "subnet_file")]
    pub subnet_file: PathBuf,
    #[serde(default = "data_dir")]
    pub data_dir: PathBuf,
    #[serde(default = "bridge")]
    pub bridge: String,
    #[serde(default)]
    pub runtime_config: RuntimeConfig,
    pub prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    pub valid: Option<Vec<Valid>>,
}

/// What the engine adds for one container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RuntimeConfig {
    #[serde(default)]
    port_mappings: Option<Vec<Mapping>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_port: i64,
    container_port: i64,
    #[serde(default)]
    protocol: String,
    #[serde(rename = "hostIP", default)]
    host_ip: String,
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

fn data_dir() -> PathBuf {
    "/var/lib/cni/networks/knode".into()
}

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
        Ok(())
    }

    /// Whether results are written in the form of before 1.0.
    pub fn is_old(&self) -> bool {
        self.cni_version.starts_with("0.")
    }

    /// The ports of the host that lead to the container.
    pub fn port_mappings(&self) -> Result<Vec<PortMapping>, CniError> {
        let mappings = self.runtime_config.port_mappings.iter().flatten();
        mappings.map(Mapping::read).collect()
    }
}

impl Mapping {
    fn read(&self) -> Result<PortMapping, CniError> {
        let wrong = |what: String| CniError::new(CniError::CONFIG, format!("portMappings: {what}"));
        let port = |n: i64| match u16::try_from(n) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(wrong(format!("{n} is no port"))),
        };
        let protocol = match self.protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(wrong(format!("{other:?} is no transport"))),
        };
        let host_ip = match self.host_ip.as_str() {
            "" => None,
            text => {
                let ip: Result<IpAddr, _> = text.parse();
                Some(ip.map_err(|_| wrong(format!("{text:?} is no address")))?)
            }
        };
        Ok(PortMapping {
            protocol,
            host_port: port(self.host_port)?,
            container_port: port(self.container_port)?,
            host_ip,
        })
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
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !container.starts_with(|c: char| c.is_ascii_alphanumeric()) || !container.chars().all(allowed) {
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

/// Reads the overlay's subnet file.
pub(super) fn subnet_of(text: &str) -> Option<Subnet> {
    let get = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    let net: Ipv4Net = get("FLANNEL_SUBNET")?.parse().ok()?;
    Some(Subnet {
        ipv4: net.trunc(),
        mtu: get("FLANNEL_MTU")?.parse().ok()?,
    })
}
