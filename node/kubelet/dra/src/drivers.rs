//! Drivers that have registered (upstream: `pkg/kubelet/cm/dra/plugin`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use knode_cri::CriError;
use knode_cri::client::channel_within;
use knode_kubelet_plugins::{DRA_PLUGIN, Handler, Plugin, Refusal};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::manager::Claims;
use crate::v1::SERVICE;
use crate::v1::dra_plugin_client::DraPluginClient;

const CONNECT: Duration = Duration::from_secs(10);

/// How long a driver may take (upstream: `defaultClientCallTimeout`).
const CALL: Duration = Duration::from_secs(45);

/// How long a driver may be away before what it published is taken away (upstream: `resourceSliceWipingDelay`).
pub(crate) const AWAY: Duration = Duration::from_secs(30);

pub(crate) type Client = DraPluginClient<Channel>;

/// A registered driver. Two of the same name may be there while one replaces the other.
pub(crate) struct Driver {
    socket: PathBuf,
    client: Client,
}

/// Those of one name: the last one registered is asked.
#[derive(Default)]
pub(crate) struct Drivers(Vec<Driver>);

impl Drivers {
    pub(crate) fn put(&mut self, socket: PathBuf, client: Client) {
        self.take(&socket);
        self.0.push(Driver { socket, client });
    }

    pub(crate) fn take(&mut self, socket: &std::path::Path) {
        self.0.retain(|driver| driver.socket != socket);
    }

    pub(crate) fn newest(&self) -> Option<Client> {
        self.0.last().map(|driver| driver.client.clone())
    }
}

/// The answer, in time.
pub(crate) async fn within<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CriError> {
    match timeout(CALL, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CriError::deadline("context deadline exceeded")),
    }
}

/// The handler of drivers in the directory of all plugins.
#[derive(Clone)]
pub struct ByDirectory(pub Arc<Claims>);

#[async_trait]
impl Handler for ByDirectory {
    fn kind(&self) -> &'static str {
        DRA_PLUGIN
    }

    async fn validate(&self, plugin: &Plugin) -> Result<(), Refusal> {
        match plugin.versions.iter().any(|service| service == SERVICE) {
            true => Ok(()),
            false => Err(Refusal(format!(
                "unsupported: DRA driver {} supports {:?} and not {SERVICE}",
                plugin.name, plugin.versions
            ))),
        }
    }

    async fn register(&self, plugin: &Plugin) -> Result<(), Refusal> {
        let connected = timeout(CONNECT, channel_within(&plugin.endpoint, CONNECT)).await;
        let connected = connected.map_err(|_| Refusal("the driver's endpoint does not answer".to_owned()))?;
        let channel = connected.map_err(|error| Refusal(format!("connecting to the driver: {error}")))?;
        self.0
            .connected(&plugin.name, plugin.socket.clone(), Client::new(channel));
        Ok(())
    }

    async fn deregister(&self, plugin: &Plugin) {
        self.0.disconnected(&plugin.name, &plugin.socket);
    }
}
