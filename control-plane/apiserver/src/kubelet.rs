//! Connections to kubelets: HTTPS with our client certificate, their certificate checked by our CA.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use knode_api::status::{GroupResource, Status};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Credentials;
use crate::core::{Core, chain};
use crate::http::{Body, Failure};
use crate::server::Error;
use crate::server::tls;

/// How long a kubelet may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u64 = 10250;

/// Where a kubelet listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target(SocketAddr);

impl Target {
    /// The kubelet of a node, by the node's addresses and endpoints.
    pub fn of_node(core: &Core, name: &str) -> Result<Self, Failure> {
        let Some(node) = core.cached("", "nodes", name) else {
            return Err(Status::not_found(GroupResource::new("", "nodes"), name).into());
        };
        Self::of(&node.value()).ok_or_else(|| {
            Status::internal(format!(
                "no preferred addresses found; known addresses of node {name:?}: []"
            ))
            .into()
        })
    }

    fn of(node: &Value) -> Option<Self> {
        let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
        let mut internal = addresses.filter(|address| address["type"] == "InternalIP");
        let ip: IpAddr = internal.find_map(|address| address["address"].as_str()?.parse().ok())?;
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
            .as_u64()
            .unwrap_or(DEFAULT_PORT);
        Some(Self(SocketAddr::new(ip, u16::try_from(port).ok()?)))
    }
}

/// A client of kubelets.
pub(crate) struct Kubelets {
    connector: RwLock<TlsConnector>,
}

/// Why a kubelet can't be asked.
#[derive(Debug, thiserror::Error)]
enum Unreachable {
    #[error("dial tcp {0}")]
    Connect(SocketAddr, #[source] std::io::Error),
    #[error("dial tcp {0}: i/o timeout")]
    Timeout(SocketAddr),
    #[error("tls")]
    Tls(#[source] std::io::Error),
    #[error("http")]
    Http(#[source] hyper::Error),
    #[error("not a path: {0}")]
    Path(String),
}

impl Kubelets {
    pub fn new(credentials: &Credentials) -> Result<Self, Error> {
        Ok(Self {
            connector: RwLock::new(connector(credentials)?),
        })
    }

    /// What other credentials come to; for [`replace`](Self::replace).
    pub fn prepare(&self, credentials: &Credentials) -> Result<TlsConnector, Error> {
        connector(credentials)
    }

    /// Asks kubelets by these credentials from the next request on.
    pub fn replace(&self, connector: TlsConnector) {
        *self.connector.write().unwrap_or_else(PoisonError::into_inner) = connector;
    }

    /// A GET.
    pub async fn get(&self, target: &Target, path: &str) -> Result<Response<Incoming>, Failure> {
        self.send(target, path, Request::new(Body::full(""))).await
    }

    /// Sends a request to this path of a kubelet over a connection of its own.
    pub async fn send(
        &self,
        target: &Target,
        path: &str,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Failure> {
        let method = request.method().clone();
        self.try_send(target, path, request).await.map_err(|error| {
            let url = format!("https://{}{path}", target.0);
            tracing::debug!(url, error = %chain(&error), "a kubelet can't be asked");
            Status::internal(format!("{} {url:?}: {}", verb(&method), chain(&error))).into()
        })
    }

    async fn try_send(
        &self,
        target: &Target,
        path: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Unreachable> {
        let uri: Uri = path.parse().map_err(|_| Unreachable::Path(path.to_owned()))?;
        *request.uri_mut() = uri;
        let host = HeaderValue::from_str(&target.0.to_string());
        request.headers_mut().insert(
            header::HOST,
            host.map_err(|_| Unreachable::Path(target.0.to_string()))?,
        );
        let stream = self.connect(target.0).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Unreachable::Http)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a kubelet ended");
            }
        });
        sender.send_request(request).await.map_err(Unreachable::Http)
    }

    fn connector(&self) -> TlsConnector {
        self.connector
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn connect(
        &self,
        address: SocketAddr,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Unreachable> {
        let connecting = async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| Unreachable::Connect(address, error))?;
            stream
                .set_nodelay(true)
                .map_err(|error| Unreachable::Connect(address, error))?;
            let name = ServerName::IpAddress(address.ip().into());
            let connector = self.connector();
            connector.connect(name, stream).await.map_err(Unreachable::Tls)
        };
        tokio::time::timeout(CONNECT, connecting)
            .await
            .map_err(|_| Unreachable::Timeout(address))?
    }
}

fn connector(credentials: &Credentials) -> Result<TlsConnector, Error> {
    const WHAT: &str = "the certificate towards kubelets";
    let identity = &credentials.kubelet_client;
    let mut tls = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Tls { what: WHAT, source })?
        .with_root_certificates(tls::roots(&credentials.client_ca_pem)?)
        .with_client_auth_cert(
            tls::certificates(&identity.cert_pem, WHAT)?,
            tls::private_key(&identity.key_pem, WHAT)?,
        )
        .map_err(|source| Error::Tls { what: WHAT, source })?;
    // A resumed session keeps the certificate that it began with.
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(tls)))
}

/// Go's spelling of a method in an error of its client.
fn verb(method: &Method) -> String {
    let name = method.as_str();
    format!("{}{}", &name[..1], name[1..].to_lowercase())
}
