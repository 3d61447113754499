//! The engine's pod network is podnet.

use async_trait::async_trait;
use knode_engine::net::{NetError, NetRequest, NetResult, NetStatus, PodNetwork, PortMapping, Protocol};
use knode_podnet::{AddRequest, Bandwidth, PodNet, RateLimit, Status};

use super::bandwidth::rates;

/// Adapter: what the engine asks, answered by the built-in pod network.
pub struct BuiltIn(pub PodNet);

fn mapping(m: &PortMapping) -> knode_podnet::PortMapping {
    let protocol = match m.protocol {
        Protocol::Tcp => knode_podnet::Protocol::Tcp,
        Protocol::Udp => knode_podnet::Protocol::Udp,
        Protocol::Sctp => knode_podnet::Protocol::Sctp,
    };
    knode_podnet::PortMapping {
        protocol,
        host_port: m.host_port,
        container_port: m.container_port,
        host_ip: m.host_ip,
    }
}

#[async_trait]
impl PodNetwork for BuiltIn {
    async fn add(&self, request: &NetRequest) -> Result<NetResult, NetError> {
        let rates = rates(&request.annotations)?;
        let bandwidth = Bandwidth {
            ingress: rates.ingress.map(RateLimit::of),
            egress: rates.egress.map(RateLimit::of),
        };
        let attachment = self
            .0
            .add(AddRequest {
                port_mappings: request.port_mappings.iter().map(mapping).collect(),
                bandwidth,
                ..AddRequest::new(&request.sandbox_id, &request.netns)
            })
            .await?;
        Ok(NetResult { ips: attachment.ips })
    }

    async fn remove(&self, request: &NetRequest) -> Result<(), NetError> {
        Ok(self.0.remove(&request.sandbox_id).await?)
    }

    async fn status(&self) -> NetStatus {
        match self.0.status() {
            Status::Ready(_) => NetStatus::ready(),
            Status::NotReady(why) => NetStatus::not_ready(why),
        }
    }
}
