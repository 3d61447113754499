//! How plugins come: by the kubelet's own socket among theirs, or by the directory of all plugins
//! (upstream: `devicemanager/plugin/v1beta1/server.go`, `handler.go`).

use std::convert::Infallible;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use knode_cri::chain;
use knode_kubelet_plugins::{DEVICE_PLUGIN, Handler, Plugin, Refusal};
use tonic::{Request, Response, Status};

use super::{Devices, DevicesError};
use crate::asked::is_extended;
use crate::serve::serve;
use crate::v1beta1::registration_server::{Registration, RegistrationServer};
use crate::v1beta1::{Empty, KUBELET_SOCKET, RegisterRequest, VERSION};

impl Devices {
    /// Takes the registrations of plugins for as long as it is polled. Sockets from before are removed first: plugins
    /// see that, and register anew.
    ///
    /// # Errors
    /// [`DevicesError::Serve`].
    pub async fn serve(self: Arc<Self>) -> Result<Infallible, DevicesError> {
        let directory = self.config.directory.clone();
        remove_sockets(&directory);
        let socket = directory.join(KUBELET_SOCKET);
        let service = RegistrationServer::new(Server(self));
        let router = tonic::transport::Server::builder().add_service(service);
        serve(&socket, router).await.map_err(DevicesError::Serve)
    }

    fn check(&self, resource: &str, versions: &[String]) -> Result<(), DevicesError> {
        if !versions.iter().any(|version| version == VERSION) {
            return Err(DevicesError::Version {
                found: versions.join(", "),
            });
        }
        match is_extended(resource) {
            true => Ok(()),
            false => Err(DevicesError::Name(resource.to_owned())),
        }
    }
}

fn remove_sockets(directory: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    for socket in sockets {
        if let Err(error) = std::fs::remove_file(socket.path()) {
            tracing::warn!(path = %socket.path().display(), %error, "cannot remove a device plugin's old socket");
        }
    }
}

struct Server(Arc<Devices>);

#[tonic::async_trait]
impl Registration for Server {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        let name = request.resource_name;
        let socket = self.0.config.directory.join(request.endpoint);
        let taken = match self.0.check(&name, &[request.version]) {
            Ok(()) => self.0.connect(&name, &socket).await,
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => Ok(Response::new(Empty {})),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(resource = name, error, "a device plugin is not registered");
                Err(Status::unknown(error))
            }
        }
    }
}

/// The handler of device plugins in the directory of all plugins.
#[derive(Clone)]
pub struct ByDirectory(pub Arc<Devices>);

#[async_trait]
impl Handler for ByDirectory {
    fn kind(&self) -> &'static str {
        DEVICE_PLUGIN
    }

    async fn validate(&self, plugin: &Plugin) -> Result<(), Refusal> {
        let valid = self.0.check(&plugin.name, &plugin.versions);
        valid.map_err(|error| Refusal(chain(&error)))
    }

    async fn register(&self, plugin: &Plugin) -> Result<(), Refusal> {
        let connected = self.0.connect(&plugin.name, &plugin.endpoint).await;
        connected.map_err(|error| Refusal(chain(&error)))
    }

    async fn deregister(&self, plugin: &Plugin) {
        self.0.disconnect(&plugin.name, None);
    }
}
