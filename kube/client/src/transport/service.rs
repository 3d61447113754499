//! The HTTP service below the client: base URL, token, connection pools.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderValue, UPGRADE, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use knode_pki::kubeconfig::Material;
use kube::client::Body;
use tower::{BoxError, Service};

use super::connector::Connector;
use super::identity::ClientIdentity;
use super::observe::Observers;
use crate::{Error, Result};

/// HTTP/2 pings: a server that does not answer one in time is dead, and its watches end with an error.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);
const AGENT: &str = concat!("knode/", env!("CARGO_PKG_VERSION"));

/// Scheme, host, port and path prefix of the server.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    base: Uri,
    prefix: String,
}

impl Authority {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let wrong = |source| Error::ServerUrl {
            url: url.to_owned(),
            source,
        };
        let full = if url.contains("://") {
            url.to_owned()
        } else {
            format!("https://{url}")
        };
        let base: Uri = full.parse().map_err(|source| wrong(Some(source)))?;
        if base.host().is_none() || !matches!(base.scheme_str(), Some("http" | "https")) {
            return Err(wrong(None));
        }
        let prefix = base.path().trim_end_matches('/').to_owned();
        Ok(Self { base, prefix })
    }

    pub(super) fn is_https(&self) -> bool {
        self.base.scheme() == Some(&Scheme::HTTPS)
    }

    /// Host and port as they stand in the URL.
    fn host(&self) -> &str {
        self.base.authority().map_or("", |authority| authority.as_str())
    }

    fn apply(&self, uri: &Uri) -> Result<Uri, http::Error> {
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(format!("{}{path}", self.prefix))?);
        Ok(Uri::from_parts(parts)?)
    }
}

/// A bearer token that may stand in a file.
pub(super) struct Token {
    material: Material,
    cached: Mutex<Option<(Instant, HeaderValue)>>,
}

impl Token {
    pub(super) fn new(material: Material) -> Self {
        Self {
            material,
            cached: Mutex::new(None),
        }
    }

    fn header(&self) -> Result<HeaderValue, BoxError> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, value)) = &*cached
            && read.elapsed() < TOKEN_LIFETIME
        {
            return Ok(value.clone());
        }
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.material.read()?.trim()))?;
        value.set_sensitive(true);
        *cached = Some((Instant::now(), value.clone()));
        Ok(value)
    }
}

type Pool = HyperClient<Connector, Body>;

/// Connections made with one client certificate.
struct Pools {
    /// Which one: [`ClientIdentity::replaced`].
    generation: u64,
    /// One connection for everything where the server speaks HTTP/2.
    shared: Pool,
    /// Upgrades (exec, attach, port-forward) need HTTP/1.1.
    upgrading: Pool,
}

impl Pools {
    fn new(connector: &Connector, generation: u64) -> Self {
        Self {
            generation,
            shared: pool(connector.with_protocols(&[b"h2", b"http/1.1"])),
            upgrading: pool(connector.with_protocols(&[b"http/1.1"])),
        }
    }
}

#[derive(Clone)]
pub(super) struct HttpService {
    authority: Arc<Authority>,
    token: Option<Arc<Token>>,
    connector: Connector,
    identity: Option<Arc<ClientIdentity>>,
    pools: Arc<RwLock<Arc<Pools>>>,
    observers: Observers,
}

impl HttpService {
    pub(super) fn new(
        authority: Authority,
        token: Option<Token>,
        connector: Connector,
        identity: Option<Arc<ClientIdentity>>,
        observers: Observers,
    ) -> Self {
        let generation = identity.as_ref().map_or(0, |identity| identity.replaced());
        Self {
            authority: Arc::new(authority),
            token: token.map(Arc::new),
            pools: Arc::new(RwLock::new(Arc::new(Pools::new(&connector, generation)))),
            connector,
            identity,
            observers,
        }
    }

    /// The connections of the identity as it is now. Those of the one before finish what they carry.
    fn pools(&self) -> Arc<Pools> {
        let generation = self.identity.as_ref().map_or(0, |identity| identity.replaced());
        let current = self.pools.read().unwrap_or_else(PoisonError::into_inner).clone();
        if current.generation >= generation {
            return current;
        }
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        if pools.generation < generation {
            *pools = Arc::new(Pools::new(&self.connector, generation));
        }
        pools.clone()
    }

    fn prepare(&self, request: &mut Request<Body>) -> Result<(), BoxError> {
        *request.uri_mut() = self.authority.apply(request.uri())?;
        request
            .headers_mut()
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(AGENT));
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.header()?);
        }
        Ok(())
    }
}

fn pool(connector: Connector) -> Pool {
    HyperClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(90))
        .pool_max_idle_per_host(4)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector)
}

impl Service<Request<Body>> for HttpService {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Incoming>, BoxError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Err(error) = self.prepare(&mut request) {
            return futures::future::ready(Err(error)).boxed();
        }
        let upgrade = request.headers().contains_key(UPGRADE);
        let pools = self.pools();
        let pool = if upgrade { &pools.upgrading } else { &pools.shared };
        let (method, answer) = (request.method().clone(), pool.request(request));
        let (authority, observers) = (self.authority.clone(), self.observers.clone());
        async move {
            let answer = observers.told(authority.host(), method.as_str(), answer).await;
            Ok(answer?)
        }
        .boxed()
    }
}
