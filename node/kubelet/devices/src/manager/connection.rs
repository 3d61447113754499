//! A plugin that has registered (upstream: `devicemanager/plugin/v1beta1/client.go`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use knode_cri::client::channel_within;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{Devices, DevicesError};
use crate::table::{Device, Options};
use crate::v1beta1::device_plugin_client::DevicePluginClient;
use crate::v1beta1::{self, Empty, HEALTHY, ListAndWatchResponse};

const CONNECT: Duration = Duration::from_secs(10);

pub(super) type Client = DevicePluginClient<Channel>;

/// A plugin and the task that follows its devices, which ends with it.
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) client: Client,
    follower: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Devices {
    /// Takes a plugin into use; one of the same resource from before is let go.
    ///
    /// # Errors
    /// [`DevicesError::Connect`], [`DevicesError::Options`].
    pub(super) async fn connect(self: &Arc<Self>, resource: &str, socket: &Path) -> Result<(), DevicesError> {
        let failed = |source| DevicesError::Connect {
            socket: socket.to_owned(),
            source,
        };
        let connected = timeout(CONNECT, channel_within(socket, CONNECT)).await;
        let channel = connected
            .map_err(|_| failed(None))?
            .map_err(|error| failed(Some(error)))?;
        let mut client = Client::new(channel);
        let answer = client.get_device_plugin_options(Empty {}).await;
        let options = answer.map_err(|status| DevicesError::Options(status.into()))?;
        let options = options.into_inner();
        let options = Options {
            pre_start: options.pre_start_required,
            preferred: options.get_preferred_allocation_available,
        };
        let mut state = self.lock();
        state.counter += 1;
        let number = state.counter;
        let following = follow(Arc::downgrade(self), resource.to_owned(), number, client.clone());
        let connection = Connection {
            number,
            client,
            follower: tokio::spawn(following).abort_handle(),
        };
        state.connections.insert(resource.to_owned(), connection);
        state.table.connected(resource, options);
        tracing::info!(resource, socket = %socket.display(), "a device plugin is connected");
        Ok(())
    }

    /// Lets go of a plugin, if it is still the one of this number.
    pub(super) fn disconnect(&self, resource: &str, number: Option<u64>) {
        let mut state = self.lock();
        let current = state.connections.get(resource).map(|one| one.number);
        if current.is_none() || number.is_some_and(|number| current != Some(number)) {
            return;
        }
        state.connections.remove(resource);
        state.table.disconnected(resource, self.config.clock.monotonic());
        self.remember(&state);
        tracing::info!(resource, "a device plugin is gone");
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    fn listed(&self, resource: &str, number: u64, answer: ListAndWatchResponse) {
        let mut state = self.lock();
        if state
            .connections
            .get(resource)
            .is_none_or(|one| one.number != number)
        {
            return;
        }
        let devices = answer.devices.into_iter().map(device);
        let devices: BTreeMap<String, Device> = devices.collect();
        tracing::info!(
            resource,
            count = devices.len(),
            "a device plugin lists its devices"
        );
        state.table.listed(resource, devices);
        self.remember(&state);
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Who to ask about a resource.
    ///
    /// # Errors
    /// [`DevicesError::Stopped`].
    pub(super) fn client(&self, resource: &str) -> Result<Client, DevicesError> {
        let state = self.lock();
        let connection = state.connections.get(resource);
        let client = connection.map(|connection| connection.client.clone());
        client.ok_or_else(|| DevicesError::Stopped(resource.to_owned()))
    }
}

fn device(listed: v1beta1::Device) -> (String, Device) {
    let nodes = listed.topology.into_iter().flat_map(|topology| topology.nodes);
    let device = Device {
        healthy: listed.health == HEALTHY,
        nodes: nodes.map(|node| node.id).collect(),
    };
    (listed.id, device)
}

/// Takes in what the plugin lists until it ends.
async fn follow(devices: Weak<Devices>, resource: String, number: u64, mut client: Client) {
    let told = match client.list_and_watch(Empty {}).await {
        Ok(answer) => lists(&devices, &resource, number, answer.into_inner()).await,
        Err(status) => Err(status),
    };
    if let Err(status) = told {
        tracing::warn!(
            resource,
            error = status.message(),
            "a device plugin's list broke off"
        );
    }
    if let Some(devices) = devices.upgrade() {
        devices.disconnect(&resource, Some(number));
    }
}

async fn lists(
    devices: &Weak<Devices>,
    resource: &str,
    number: u64,
    mut stream: Streaming<ListAndWatchResponse>,
) -> Result<(), tonic::Status> {
    while let Some(answer) = stream.message().await? {
        let Some(devices) = devices.upgrade() else {
            break;
        };
        devices.listed(resource, number, answer);
    }
    Ok(())
}
