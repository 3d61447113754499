//! The conversation with a plugin (upstream: `pkg/kubelet/pluginmanager/operationexecutor`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use knode_cri::client::channel;
use knode_cri::{CriError, chain};
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::handler::{Handler, Plugin, Refusal};
use crate::v1::registration_client::RegistrationClient;
use crate::v1::{InfoRequest, PluginInfo, RegistrationStatus};

const CONNECT: Duration = Duration::from_secs(10);
const GET_INFO: Duration = Duration::from_secs(1);
const NOTIFY: Duration = Duration::from_secs(5);

/// A plugin was not registered, or does not know that it is.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Nobody answers on the socket.
    #[error("connecting to the plugin")]
    Connect {
        /// What the transport said.
        #[source]
        source: tonic::transport::Error,
    },
    /// A call failed.
    #[error("calling {call}")]
    Call {
        /// Which one.
        call: &'static str,
        /// The plugin's answer.
        #[source]
        source: CriError,
    },
    /// The plugin did not answer in time.
    #[error("{call} took longer than {} s", limit.as_secs())]
    Late {
        /// What it was asked.
        call: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// Nobody here serves such plugins.
    #[error("no handler registered for plugin type: {kind}")]
    Kind {
        /// What the plugin says it is.
        kind: String,
    },
    /// The handler does not take it.
    #[error("plugin validation failed")]
    Invalid {
        /// The handler's reason.
        #[source]
        source: Refusal,
    },
    /// The handler could not take it into use.
    #[error("plugin registration failed")]
    Refused {
        /// The handler's reason.
        #[source]
        source: Refusal,
    },
}

/// What came of a registration: the plugin if its handler has it, and what went wrong.
pub(crate) struct Registered {
    pub(crate) taken: Option<(Plugin, Arc<dyn Handler>)>,
    pub(crate) error: Option<RegistrationError>,
}

/// Asks the plugin at `socket` what it is, gives it to its handler, and tells it the outcome.
pub(crate) async fn register(socket: &Path, handlers: &[Arc<dyn Handler>]) -> Registered {
    let (mut client, info) = match introduce(socket).await {
        Ok(introduced) => introduced,
        Err(error) => {
            return Registered {
                taken: None,
                error: Some(error),
            };
        }
    };
    let (taken, error) = match accept(socket, info, handlers).await {
        Ok(taken) => (Some(taken), None),
        Err(error) => (None, Some(error)),
    };
    let told = notify(&mut client, error.as_ref()).await;
    Registered {
        taken,
        error: error.or(told.err()),
    }
}

type Client = RegistrationClient<Channel>;

async fn introduce(socket: &Path) -> Result<(Client, PluginInfo), RegistrationError> {
    let connected = within("connecting", CONNECT, channel(socket)).await?;
    let channel = connected.map_err(|source| RegistrationError::Connect { source })?;
    let mut client = RegistrationClient::new(channel);
    let call = "GetInfo";
    let answer = within(call, GET_INFO, client.get_info(InfoRequest {})).await?;
    let info = answer.map_err(|status| failed(call, status))?;
    Ok((client, info.into_inner()))
}

async fn accept(
    socket: &Path,
    info: PluginInfo,
    handlers: &[Arc<dyn Handler>],
) -> Result<(Plugin, Arc<dyn Handler>), RegistrationError> {
    let Some(handler) = handlers.iter().find(|handler| handler.kind() == info.r#type) else {
        return Err(RegistrationError::Kind { kind: info.r#type });
    };
    let plugin = Plugin {
        name: info.name,
        endpoint: match info.endpoint.is_empty() {
            true => socket.to_owned(),
            false => info.endpoint.into(),
        },
        versions: info.supported_versions,
        socket: socket.to_owned(),
    };
    let valid = handler.validate(&plugin).await;
    valid.map_err(|source| RegistrationError::Invalid { source })?;
    if let Err(source) = handler.register(&plugin).await {
        handler.deregister(&plugin).await;
        return Err(RegistrationError::Refused { source });
    }
    Ok((plugin, handler.clone()))
}

async fn notify(client: &mut Client, error: Option<&RegistrationError>) -> Result<(), RegistrationError> {
    let status = RegistrationStatus {
        plugin_registered: error.is_none(),
        error: error.map(|error| chain(error)).unwrap_or_default(),
    };
    let call = "NotifyRegistrationStatus";
    let answer = within(call, NOTIFY, client.notify_registration_status(status)).await?;
    answer.map(|_| ()).map_err(|status| failed(call, status))
}

fn failed(call: &'static str, status: tonic::Status) -> RegistrationError {
    RegistrationError::Call {
        call,
        source: status.into(),
    }
}

async fn within<T>(
    call: &'static str,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, RegistrationError> {
    timeout(limit, work)
        .await
        .map_err(|_| RegistrationError::Late { call, limit })
}
