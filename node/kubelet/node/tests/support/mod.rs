//! A cluster and a runtime to test a node against.
#![allow(dead_code, reason = "each test uses a part")]

pub mod api;
pub mod logind;
mod merge;
pub mod runtime;

use std::path::Path;
use std::time::Duration;

use knode_kubelet_node::{EvictionConfig, NodeConfig};
use serde_json::json;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` gives something; fails with `what` and what was seen last.
pub async fn until<T, S: std::fmt::Debug>(what: &str, mut condition: impl FnMut() -> Result<T, S>) -> T {
    let mut seen = None;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        match condition() {
            Ok(found) => return found,
            Err(now) => seen = Some(now),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come; seen last: {seen:?}");
}

pub fn config(dir: &Path) -> NodeConfig {
    NodeConfig {
        node_name: "node1".to_owned(),
        node_ips: vec!["127.0.0.1".parse().unwrap()],
        labels: Default::default(),
        taints: Vec::new(),
        max_pods: 110,
        pods_per_core: 0,
        max_images: Some(50),
        reserved: knode_kubelet_node::Reserved::default(),
        version: "v1.36.2".to_owned(),
        root_dir: dir.to_owned(),
        cert_dir: dir.join("pki"),
        kubeconfig: dir.join("kubeconfig"),
        bootstrap_kubeconfig: Some(dir.join("bootstrap.kubeconfig")),
        certificate_lifetime: None,
        client_ca: None,
        tls: Default::default(),
        listen: "127.0.0.1:0".parse().unwrap(),
        healthz: None,
        // The machine that runs the tests may be full.
        pod_logs_dir: dir.join("log/pods"),
        pods_cgroup: None,
        eviction: EvictionConfig {
            thresholds: Vec::new(),
            ..EvictionConfig::default()
        },
        image_gc: Default::default(),
        shutdown: Default::default(),
        configz: json!({"kind": "KubeletConfiguration"}),
        system_logs: true,
        flags: [("port".to_owned(), "10250".to_owned())].into(),
    }
}
