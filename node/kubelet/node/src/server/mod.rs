//! The kubelet's API: HTTPS on 10250, authenticated and authorized, and the health check beside it.

mod auth;
mod body;
mod checkpoint;
mod claims;
mod handlers;
mod listen;
pub mod logs;
mod metrics;
mod probes;
mod route;
mod stats;
mod streams;
mod system_logs;
#[cfg(test)]
mod tests;
mod tunnel;
mod zpages;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use knode_client::{Client, Clock};
use knode_cri::{ImageService, RuntimeService};
use knode_kubelet_metrics::Metrics;
use serde_json::Value;

pub(crate) use auth::Auth;
pub use auth::subresources;
pub(crate) use listen::{bind, serve_healthz, serve_https, tls_config};

use self::claims::Claims;
pub(crate) use self::metrics::Certificates;
use self::stats::Volumes;
use crate::pods::PodSource;

/// What the handlers work with.
pub(crate) struct Kubelet {
    pub(crate) node_name: String,
    pub(crate) pods: Arc<dyn PodSource>,
    pub(crate) runtime: Arc<dyn RuntimeService>,
    pub(crate) images: Arc<dyn ImageService>,
    pub(crate) root_dir: std::path::PathBuf,
    /// The control group of all pods, if the kubelet holds them to a limit.
    pub(crate) pods_cgroup: Option<std::path::PathBuf>,
    pub(crate) pod_logs_dir: std::path::PathBuf,
    pub(crate) system_logs: bool,
    pub(crate) volumes: Volumes,
    pub(crate) claims: Claims,
    pub(crate) configz: Value,
    pub(crate) version: String,
    pub(crate) flags: BTreeMap<String, String>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) certificates: Certificates,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: Timestamp,
    pub(crate) auth: Auth,
}

impl Kubelet {
    pub(crate) fn new_auth(client: Client, node_name: &str, clock: Arc<dyn Clock>) -> Auth {
        Auth::new(client, node_name.to_owned(), clock)
    }
}
