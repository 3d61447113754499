//! What the engine needs of a pod network; whoever starts the engine supplies it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;

/// Transport protocol of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of the host that leads into a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    /// Protocol.
    pub protocol: Protocol,
    /// Port in the pod.
    pub container_port: u16,
    /// Port on the host, never 0.
    pub host_port: u16,
    /// Address of the host, `None` for all.
    pub host_ip: Option<IpAddr>,
}

/// How a pod finds names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Servers.
    pub servers: Vec<String>,
    /// Domains to search.
    pub searches: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

/// A pod that wants a network, or had one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetRequest {
    /// Sandbox id, the key of the attachment.
    pub sandbox_id: String,
    /// File that holds the pod's network namespace; its loopback is up already.
    pub netns: PathBuf,
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod uid.
    pub uid: String,
    /// Ports of the host.
    pub port_mappings: Vec<PortMapping>,
    /// Annotations of the pod (bandwidth limits and the like).
    pub annotations: BTreeMap<String, String>,
    /// How the pod finds names, `None` for as the host does.
    pub dns: Option<Dns>,
    /// Control group of the pod, absolute.
    pub cgroup_parent: PathBuf,
}

/// What the pod got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetResult {
    /// Addresses of the pod, the primary first.
    pub ips: Vec<IpAddr>,
}

/// Whether pods can be given a network now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetStatus {
    /// They can.
    pub ready: bool,
    /// One word why not.
    pub reason: String,
    /// Why not, for a person.
    pub message: String,
}

impl NetStatus {
    /// Pods can be given a network.
    pub fn ready() -> Self {
        Self {
            ready: true,
            reason: String::new(),
            message: String::new(),
        }
    }

    /// They cannot, because of `message`.
    pub fn not_ready(message: impl Into<String>) -> Self {
        Self {
            ready: false,
            reason: "NetworkPluginNotReady".into(),
            message: message.into(),
        }
    }
}

/// Error of a pod network, its chain kept.
pub type NetError = Box<dyn std::error::Error + Send + Sync>;

/// Connects pods.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Gives the pod its interfaces and addresses. Leaves nothing behind when it fails.
    async fn add(&self, request: &NetRequest) -> Result<NetResult, NetError>;

    /// Takes them away. Succeeds for a pod that has none, and when the namespace is gone.
    async fn remove(&self, request: &NetRequest) -> Result<(), NetError>;

    /// Whether pods can be given a network now.
    async fn status(&self) -> NetStatus;

    /// Told the node's pod network by the kubelet; networks that know it otherwise need not listen.
    async fn pod_cidr(&self, _cidr: &str) {}
}
