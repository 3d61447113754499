//! From credentials to a client.

mod connection;
mod connector;
mod identity;
mod service;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use knode_pki::kubeconfig::{Access, Kubeconfig, Material};
use kube::Client;
use kube::client::Body;
use rustls::{ClientConfig, RootCertStore};
use tower::{BoxError, Service};

pub use identity::ClientIdentity;

use self::connector::Connector;
use self::service::{Authority, HttpService, Token};
use crate::{Error, Result};

const RELOAD_INTERVAL: Duration = Duration::from_secs(60);

/// A client, and the identity that it shows.
#[derive(Clone)]
pub struct Connected {
    /// The client.
    pub client: Client,
    /// The client certificate, if it has one: replacing it closes the connections made with the old one.
    pub identity: Option<Arc<ClientIdentity>>,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// A client for the current context of a kubeconfig. Certificate files that change are taken up: the connections
/// are closed and opened again with the new certificate.
///
/// # Errors
/// [`Error`]. The server is not contacted.
pub fn from_kubeconfig(path: &Path) -> Result<Connected> {
    connect(&Kubeconfig::load_access(path).map_err(Error::Credentials)?)
}

/// A client for this way into a cluster. Must be called inside a tokio runtime.
///
/// # Errors
/// [`Error`]. The server is not contacted.
pub fn connect(access: &Access) -> Result<Connected> {
    let authority = Authority::parse(&access.server)?;
    let identity = identity_of(access)?;
    let token = access.token.clone().map(Token::new);
    let tls = if authority.is_https() {
        Some(tls_config(access, identity.clone())?)
    } else {
        None
    };
    let connector = Connector::new(tls, access.tls_server_name.as_deref(), identity.clone())?;
    let service = HttpService::new(authority, token, connector);
    let namespace = access.namespace.clone().unwrap_or_else(|| "default".to_owned());
    if let Some(identity) = &identity {
        follow_files(identity);
    }
    Ok(Connected {
        client: Client::new(service, namespace),
        identity,
    })
}

/// A client over a service in the same process, which takes requests with path-only URIs. Must be called inside a
/// tokio runtime.
pub fn from_service<S, B>(service: S) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(service, "default")
}

fn identity_of(access: &Access) -> Result<Option<Arc<ClientIdentity>>> {
    let Some(cert) = &access.client_cert else {
        return Ok(None);
    };
    let key = access.client_key.as_ref().unwrap_or(cert);
    let identity = match (cert, key) {
        (Material::File(cert), Material::File(key)) => ClientIdentity::from_files(cert, key)?,
        _ => {
            let cert = cert.read().map_err(Error::Credentials)?;
            let key = key.read().map_err(Error::Credentials)?;
            ClientIdentity::from_pem(&cert, &key)?
        }
    };
    Ok(Some(Arc::new(identity)))
}

fn tls_config(access: &Access, identity: Option<Arc<ClientIdentity>>) -> Result<ClientConfig> {
    let ca = access
        .ca
        .as_ref()
        .ok_or_else(|| Error::NoAuthority(access.server.clone()))?;
    let ca = ca.read().map_err(Error::Credentials)?;
    let mut roots = RootCertStore::empty();
    for certificate in knode_pki::pem_certificates(&ca).map_err(Error::Credentials)? {
        roots.add(certificate.into()).map_err(Error::Authority)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Authority)?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    // A resumed session keeps the certificate that it began with.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Looks after the files as long as the identity is in use.
fn follow_files(identity: &Arc<ClientIdentity>) {
    if !identity.has_files() {
        return;
    }
    let identity = Arc::downgrade(identity);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            let Some(identity) = identity.upgrade() else {
                return;
            };
            identity.reload_logged();
        }
    });
}
