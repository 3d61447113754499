//! What the node agent has to be told.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use serde_json::Value;

use crate::certificate::GivenCertificate;
use crate::eviction::EvictionConfig;
use crate::garbage::ImageGcPolicy;
use crate::shutdown::ShutdownConfig;

/// Counts devices that plugins offer.
pub trait DeviceCounts: Send + Sync + 'static {
    /// By resource: how many there are, and how many can be given away. Of one whose plugin has gone for good, none.
    fn counts(&self) -> BTreeMap<String, (usize, usize)>;
}

/// No devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDevices;

impl DeviceCounts for NoDevices {
    fn counts(&self) -> BTreeMap<String, (usize, usize)> {
        BTreeMap::new()
    }
}

/// What is set aside for the system and for Kubernetes itself (`systemReserved`, `kubeReserved`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a processor.
    pub milli_cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes of the node's file system.
    pub storage: u64,
}

/// How the kubelet's API speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificate to serve with; without, one is requested from the cluster.
    pub certificate: Option<GivenCertificate>,
    /// Cipher suites of TLS 1.2 by their names, others of them are not spoken; none for all good ones. Those of TLS 1.3
    /// are not chosen.
    pub cipher_suites: Vec<String>,
    /// Nothing older than TLS 1.3.
    pub only_1_3: bool,
}

/// Settings of the node's side of the kubelet. Paths are absolute.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Name of the Node object; also its hostname.
    pub node_name: String,
    /// The machine's addresses, the preferred one first; at least one.
    pub node_ips: Vec<IpAddr>,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
    /// Taints to register with.
    pub taints: Vec<Taint>,
    /// How many pods may run here; upstream's default is 110.
    pub max_pods: u32,
    /// How many for each processor, within `max_pods`; 0 for no limit of that kind.
    pub pods_per_core: u32,
    /// Images that the node's status names, the largest first; none for all. Upstream's default is 50.
    pub max_images: Option<usize>,
    /// What of the machine pods don't get.
    pub reserved: Reserved,
    /// Version that the node reports, `v1.36.…`.
    pub version: String,
    /// `/var/lib/kubelet`: its file system is the node's "nodefs".
    pub root_dir: PathBuf,
    /// Directory of certificates, `/var/lib/kubelet/pki`.
    pub cert_dir: PathBuf,
    /// Kubeconfig of the node; written by the bootstrap.
    pub kubeconfig: PathBuf,
    /// Kubeconfig with which a certificate is requested when there is none.
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// How long the node's certificates shall live (`spec.expirationSeconds`, 600 s at least); the signer decides
    /// without.
    pub certificate_lifetime: Option<Duration>,
    /// Certificates of those who may sign clients of the kubelet's API; without, those of the kubeconfig's cluster.
    pub client_ca: Option<PathBuf>,
    /// How the kubelet's API speaks TLS.
    pub tls: TlsOptions,
    /// Address of the kubelet's API, `0.0.0.0:10250`.
    pub listen: SocketAddr,
    /// Address of the unauthenticated health check, `127.0.0.1:10248`; none turns it off.
    pub healthz: Option<SocketAddr>,
    /// Logs of all pods, `/var/log/pods`.
    pub pod_logs_dir: PathBuf,
    /// Control group of all pods, from the root of the hierarchy, where what is set aside is kept from them: how much of
    /// its memory is left counts like the machine's.
    pub pods_cgroup: Option<PathBuf>,
    /// When memory, disk and processes count as scarce, and what is done about it.
    pub eviction: EvictionConfig,
    /// What is done when the machine shuts down.
    pub shutdown: ShutdownConfig,
    /// When unused images are taken away.
    pub image_gc: ImageGcPolicy,
    /// What `/configz` shows under `kubeletconfig`.
    pub configz: Value,
    /// Whether `/logs/` serves the machine's log files.
    pub system_logs: bool,
    /// What `/flagz` shows: flags by name.
    pub flags: BTreeMap<String, String>,
}
