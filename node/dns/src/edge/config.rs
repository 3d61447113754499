use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use knode_client::Client;

use crate::forward::{CacheLimits, Stub};

/// What the server runs with.
#[derive(Clone)]
pub struct Config {
    /// The API server, with the right to list and watch Services, Namespaces and EndpointSlices.
    pub client: Client,
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
    /// Seconds for which answers about the cluster are good.
    pub ttl: u32,
    /// Where questions are taken, by UDP and TCP; each a single address of the machine.
    pub listen: Vec<SocketAddr>,
    /// Who is asked about everything else; empty for those of `resolv_conf`.
    pub servers: Vec<SocketAddr>,
    /// The machine's resolv.conf, which is followed while running.
    pub resolv_conf: PathBuf,
    /// Domains that other servers know about.
    pub stubs: Vec<Stub>,
    /// What is remembered of others' answers.
    pub cache: CacheLimits,
    /// Where `/health` is served; `None` for nowhere.
    pub health: Option<SocketAddr>,
    /// Where `/ready` is served; `None` for nowhere.
    pub ready: Option<SocketAddr>,
    /// Where `/metrics` is served; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// How long it goes on answering after it was told to end, and says that it is not healthy.
    pub lameduck: Duration,
}

impl Config {
    /// kubeadm's Corefile, with nothing to listen on yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            domain: "cluster.local".into(),
            ttl: 30,
            listen: Vec::new(),
            servers: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            stubs: Vec::new(),
            cache: CacheLimits::default(),
            health: None,
            ready: None,
            metrics: None,
            lameduck: Duration::ZERO,
        }
    }
}
