//! From credentials to a client.

mod authority;
mod connection;
mod connector;
mod follow;
mod identity;
mod observe;
mod origin;
mod refusal;
mod service;

use std::path::Path;
use std::sync::Arc;

use http::{Request, Response};
use knode_pki::kubeconfig::Access;
use kube::Client;
use kube::client::Body;
use rustls::ClientConfig;
use tower::{BoxError, Service};

pub use identity::ClientIdentity;
pub use observe::RequestObserver;

use self::authority::Authorities;
use self::connector::Connector;
use self::observe::Observers;
use self::origin::Origin;
use self::service::{Authority, HttpService, Token};
use crate::{Error, Result};

/// A client, and the identity that it shows.
#[derive(Clone)]
pub struct Connected {
    /// The client.
    pub client: Client,
    /// The client certificate, if it has one: replacing it closes the connections made with the old one.
    pub identity: Option<Arc<ClientIdentity>>,
    observers: Observers,
}

impl Connected {
    /// Tells `observer` of every request from now on; only the first one that is given counts.
    pub fn observe(&self, observer: Arc<dyn RequestObserver>) {
        self.observers.set(observer);
    }
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// A client for the current context of a kubeconfig. What changes in the kubeconfig or in the files that it names is
/// taken up: with a new client certificate new connections are made, with new authorities the next server is verified.
/// The server stays the same.
///
/// # Errors
/// [`Error`]. The server is not contacted.
pub fn from_kubeconfig(path: &Path) -> Result<Connected> {
    connect_to(Origin::Kubeconfig(path.to_owned()))
}

/// A client for this way into a cluster, with files taken up anew as by [`from_kubeconfig`]. Must be called inside a
/// tokio runtime.
///
/// # Errors
/// [`Error`]. The server is not contacted.
pub fn connect(access: &Access) -> Result<Connected> {
    connect_to(Origin::Given(Box::new(access.clone())))
}

fn connect_to(origin: Origin) -> Result<Connected> {
    let origin = Arc::new(origin);
    let access = origin.access()?.into_owned();
    let authority = Authority::parse(&access.server)?;
    let identity = ClientIdentity::of(&origin)?.map(Arc::new);
    let token = access.token.clone().map(Token::new);
    let tls = if authority.is_https() {
        let authorities = Arc::new(Authorities::read(origin.clone())?);
        Some((tls_config(authorities.clone(), identity.clone())?, authorities))
    } else {
        None
    };
    let connector = Connector::new(tls, access.tls_server_name.as_deref(), identity.clone())?;
    let observers = Observers::default();
    let service = HttpService::new(authority, token, connector, identity.clone(), observers.clone());
    let namespace = access.namespace.unwrap_or_else(|| "default".to_owned());
    if let Some(identity) = &identity {
        follow::files(&origin, identity);
    }
    Ok(Connected {
        client: Client::new(service, namespace),
        identity,
        observers,
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

fn tls_config(authorities: Arc<Authorities>, identity: Option<Arc<ClientIdentity>>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Authority)?
        .dangerous()
        .with_custom_certificate_verifier(authorities);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    // A resumed session keeps the certificate that it began with.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
