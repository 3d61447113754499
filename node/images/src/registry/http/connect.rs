//! One connection: TCP, perhaps through a proxy, and TLS where the URL says so.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Uri};
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::Service;

use crate::registry::error::{RequestError, innermost};

pub(super) type Body = Full<Bytes>;

/// Most bytes that are read at once, which is the size of the pieces that wait to be unpacked.
const READ: usize = 128 << 10;

/// An open connection, and how requests for it look.
pub(super) struct Connection {
    pub sender: SendRequest<Body>,
    /// The proxy that requests go to as a whole URL, with what it wants to see.
    pub proxy: Option<ViaProxy>,
}

/// A proxy for requests without TLS.
#[derive(Clone)]
pub(super) struct ViaProxy {
    pub authorization: Option<HeaderValue>,
}

/// Connects to the origin of `url` within `limit`. Proxies are those of the environment (`HTTPS_PROXY`, `HTTP_PROXY`,
/// `NO_PROXY`), as upstream's client takes them.
pub(super) async fn connect(
    url: &Uri,
    tls: Option<Arc<ClientConfig>>,
    limit: Duration,
) -> Result<Connection, RequestError> {
    let timed = tokio::time::timeout(limit, open(url, tls)).await;
    timed.map_err(|_| RequestError::Timeout {
        what: "connection",
        seconds: limit.as_secs(),
    })?
}

async fn open(url: &Uri, tls: Option<Arc<ClientConfig>>) -> Result<Connection, RequestError> {
    static PROXIES: OnceLock<Matcher> = OnceLock::new();
    let proxy = PROXIES.get_or_init(Matcher::from_env).intercept(url);
    let Some(tls) = tls else {
        let to = proxy.as_ref().map_or(url, |proxy| proxy.uri());
        let tcp = tcp(to).await?;
        let proxy = proxy.map(|proxy| ViaProxy {
            authorization: proxy.basic_auth().cloned(),
        });
        return http(TokioIo::new(tcp), proxy).await;
    };
    let tcp = match proxy {
        None => tcp(url).await?,
        Some(proxy) => {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), connector());
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            let through = tunnel.call(url.clone()).await;
            through
                .map_err(|error| {
                    RequestError::Connect(format!("proxy {}: {}", proxy.uri(), innermost(&error)))
                })?
                .into_inner()
        }
    };
    let stream = TlsConnector::from(tls)
        .connect(server_name(url)?, tcp)
        .await
        .map_err(|error| RequestError::Tls(innermost(&error)))?;
    http(TokioIo::new(stream), None).await
}

fn server_name(url: &Uri) -> Result<ServerName<'static>, RequestError> {
    let host = url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned())
        .map_err(|_| RequestError::Tls(format!("{host:?} is no name that a certificate can have")))
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(Duration::from_secs(30)));
    connector
}

async fn tcp(url: &Uri) -> Result<TcpStream, RequestError> {
    let connected = connector().call(url.clone()).await;
    Ok(connected
        .map_err(|error| RequestError::Connect(innermost(&error)))?
        .into_inner())
}

async fn http<S>(stream: TokioIo<S>, proxy: Option<ViaProxy>) -> Result<Connection, RequestError>
where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new()
        .max_headers(128)
        .max_buf_size(READ)
        .handshake(stream)
        .await;
    let (sender, connection) = handshake.map_err(|error| RequestError::Broken(innermost(&error)))?;
    // It ends with the last request, or with the sender; what goes wrong is told to the request.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(error = innermost(&error), "a connection to a registry ended");
        }
    });
    Ok(Connection { sender, proxy })
}
