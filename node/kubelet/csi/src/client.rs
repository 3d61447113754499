//! Calls of a driver's node service.

use std::path::Path;
use std::time::Duration;

use knode_cri::CriError;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::v1::node_client::NodeClient;
use crate::v1::node_service_capability::Type;
use crate::v1::node_service_capability::rpc::Type as Capability;
use crate::v1::{NodeGetCapabilitiesRequest, NodeGetInfoRequest, NodeGetInfoResponse};

/// How long a call may take (upstream: `csiTimeout`).
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long a driver that has registered may take until it serves.
const CONNECT: Duration = Duration::from_secs(10);

/// What a driver's node service can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Abilities {
    pub stage: bool,
    pub expand: bool,
    pub many_writers: bool,
    pub mount_group: bool,
    pub usage: bool,
    pub condition: bool,
}

impl Abilities {
    fn of(all: &[Capability]) -> Self {
        let has = |one| all.contains(&one);
        Self {
            stage: has(Capability::StageUnstageVolume),
            expand: has(Capability::ExpandVolume),
            many_writers: has(Capability::SingleNodeMultiWriter),
            mount_group: has(Capability::VolumeMountGroup),
            usage: has(Capability::GetVolumeStats),
            condition: has(Capability::VolumeCondition),
        }
    }
}

/// A driver's node service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Driver {
    pub name: String,
    pub abilities: Abilities,
    client: NodeClient<Channel>,
}

/// Gives a message the time that a call has.
pub(crate) fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

/// The answer, or the driver's words as upstream's kubelets repeat them.
pub(crate) fn answer<T>(answer: Result<Response<T>, Status>) -> Result<T, String> {
    answer
        .map(Response::into_inner)
        .map_err(|status| CriError::from(status).rpc_text())
}

impl Driver {
    /// Connects to the driver on `socket`, and asks what it can do and what the node is to it.
    pub(crate) async fn connect(name: &str, socket: &Path) -> Result<(Self, NodeGetInfoResponse), String> {
        let channel = knode_cri::client::channel_within(socket, CONNECT)
            .await
            .map_err(|error| knode_cri::chain(&error))?;
        let mut client = NodeClient::new(channel);
        let info = answer(client.node_get_info(timed(NodeGetInfoRequest {})).await)?;
        let can = client
            .node_get_capabilities(timed(NodeGetCapabilitiesRequest {}))
            .await;
        let can: Vec<Capability> = answer(can)?
            .capabilities
            .into_iter()
            .filter_map(|one| one.r#type)
            .map(|Type::Rpc(rpc)| rpc.r#type())
            .collect();
        let driver = Self {
            name: name.to_owned(),
            abilities: Abilities::of(&can),
            client,
        };
        Ok((driver, info))
    }

    pub(crate) fn calls(&self) -> NodeClient<Channel> {
        self.client.clone()
    }
}
