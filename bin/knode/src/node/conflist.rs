//! The engine's pod network is other people's plugins.

use std::collections::HashSet;

use anyhow::Context;
use async_trait::async_trait;
use knode_cni::{Attachment, Bandwidth, Capabilities, Cni, Dns, PortMapping};
use knode_engine::net::{NetError, NetRequest, NetResult, NetStatus, PodNetwork, Protocol};

use super::CniDirs;
use super::bandwidth::{self, RateError, Rates};
use crate::layout::Layout;

/// The pod's interface, as every engine calls it.
const INTERFACE: &str = "eth0";
/// What may go at once where only a rate is given: containerd's figure (`internal/cri/server/sandbox_run.go`).
const BURST: u64 = u32::MAX as u64;

/// Adapter: what the engine asks, answered by a chain of CNI plugins.
#[derive(Clone)]
pub struct Conflist(pub Cni);

impl Conflist {
    /// Detaches a pod; whether it had been attached by plugins.
    pub async fn detach(&self, request: &NetRequest) -> Result<bool, NetError> {
        Ok(self.0.remove(&request.sandbox_id).await?)
    }
}

#[async_trait]
impl PodNetwork for Conflist {
    async fn add(&self, request: &NetRequest) -> Result<NetResult, NetError> {
        let attached = self.0.add(attachment(request)?).await?;
        Ok(NetResult { ips: attached.ips })
    }

    async fn remove(&self, request: &NetRequest) -> Result<(), NetError> {
        self.detach(request).await.map(drop)
    }

    async fn status(&self) -> NetStatus {
        match self.0.status().await {
            Ok(()) => NetStatus::ready(),
            Err(error) => not_ready(&error),
        }
    }
}

/// Detaches the sandboxes that ended while nobody looked. What fails is tried again at the next start.
pub async fn collect(cni: &Cni, live: &HashSet<String>) -> anyhow::Result<()> {
    let collected = cni
        .gc(live)
        .await
        .context("collect the garbage of network plugins")?;
    for error in &collected.errors {
        tracing::warn!(
            error = knode_client::brief(error),
            "collecting the garbage of network plugins"
        );
    }
    if !collected.detached.is_empty() {
        tracing::info!(sandboxes = ?collected.detached, "dead sandboxes detached from their networks");
    }
    Ok(())
}

/// Detaches every pod, for the node's end; goes on after errors and answers them.
pub async fn detach_all(layout: &Layout) -> Vec<String> {
    let nowhere = CniDirs {
        conf: None,
        bin: Vec::new(),
    };
    let collected = async {
        let cni = nowhere.open(layout)?;
        anyhow::Ok(cni.gc(&HashSet::new()).await?)
    };
    match collected.await {
        Ok(collected) => collected.errors.iter().map(|e| knode_client::brief(e)).collect(),
        Err(error) => vec![format!("detach the pods: {error:#}")],
    }
}

/// As containerd words it.
pub fn not_ready(error: &knode_cni::Error) -> NetStatus {
    NetStatus::not_ready(format!(
        "Network plugin returns error: {}",
        knode_client::brief(error)
    ))
}

/// What plugins are told of a pod: containerd's arguments and capabilities.
fn attachment(request: &NetRequest) -> Result<Attachment, RateError> {
    let args = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &request.namespace),
        ("K8S_POD_NAME", &request.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &request.sandbox_id),
        ("K8S_POD_UID", &request.uid),
    ];
    let capabilities = Capabilities {
        port_mappings: request.port_mappings.iter().map(mapping).collect(),
        bandwidth: bandwidth_of(bandwidth::rates(&request.annotations)?),
        pod_annotations: request.annotations.clone(),
        dns: request.dns.clone().map(|dns| Dns {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }),
        cgroup_path: Some(request.cgroup_parent.display().to_string()),
        ..Capabilities::default()
    };
    Ok(Attachment {
        container_id: request.sandbox_id.clone(),
        netns: request.netns.clone(),
        interface: INTERFACE.to_owned(),
        args: args.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        capabilities: capabilities.into_map(),
    })
}

fn bandwidth_of(rates: Rates) -> Option<Bandwidth> {
    let burst = |rate: Option<u64>| rate.map_or(0, |_| BURST);
    (rates != Rates::default()).then(|| Bandwidth {
        ingress_rate: rates.ingress.unwrap_or_default(),
        ingress_burst: burst(rates.ingress),
        egress_rate: rates.egress.unwrap_or_default(),
        egress_burst: burst(rates.egress),
    })
}

fn mapping(mapping: &knode_engine::net::PortMapping) -> PortMapping {
    let protocol = match mapping.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    PortMapping {
        host_port: mapping.host_port,
        container_port: mapping.container_port,
        protocol,
        host_ip: mapping.host_ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plugins_are_told_what_containerd_tells_them() {
        let request = NetRequest {
            sandbox_id: "s1".into(),
            netns: "/run/knode/ns/s1/net".into(),
            name: "web".into(),
            namespace: "default".into(),
            uid: "u1".into(),
            port_mappings: vec![knode_engine::net::PortMapping {
                protocol: Protocol::Udp,
                container_port: 53,
                host_port: 5353,
                host_ip: None,
            }],
            annotations: [("kubernetes.io/egress-bandwidth".to_owned(), "1M".to_owned())].into(),
            dns: Some(knode_engine::net::Dns {
                servers: vec!["10.96.0.10".into()],
                ..Default::default()
            }),
            cgroup_parent: "/kubepods/pod1".into(),
        };
        let told = attachment(&request).unwrap();
        let args: Vec<_> = told.args.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let expected = [
            "IgnoreUnknown=1",
            "K8S_POD_NAMESPACE=default",
            "K8S_POD_NAME=web",
            "K8S_POD_INFRA_CONTAINER_ID=s1",
            "K8S_POD_UID=u1",
        ];
        assert_eq!(args, expected);
        let expected = json!({
            "portMappings": [{"hostPort": 5353, "containerPort": 53, "protocol": "udp"}],
            "bandwidth": {"egressRate": 1_000_000, "egressBurst": 4_294_967_295_u64},
            "dns": {"servers": ["10.96.0.10"], "searches": [], "options": []},
            "cgroupPath": "/kubepods/pod1",
            "io.kubernetes.cri.pod-annotations": {"kubernetes.io/egress-bandwidth": "1M"},
        });
        assert_eq!(serde_json::Value::Object(told.capabilities), expected);
    }
}
