//! TCP, then TLS.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tower::{BoxError, Service};

use super::authority::Authorities;
use super::connection::ClosingStream;
use super::identity::ClientIdentity;
use super::refusal::explained;
use crate::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// As long a peer may leave sent data unacknowledged; upstream's HTTP/2 health check comes to the same 30 s.
const DEAD_PEER: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    config: ClientConfig,
    authorities: Arc<Authorities>,
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
    identity: Option<Arc<ClientIdentity>>,
}

impl Connector {
    pub(super) fn new(
        tls: Option<(ClientConfig, Arc<Authorities>)>,
        server_name: Option<&str>,
        identity: Option<Arc<ClientIdentity>>,
    ) -> Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.set_tcp_user_timeout(Some(DEAD_PEER));
        let server_name = server_name
            .filter(|name| !name.is_empty())
            .map(|name| ServerName::try_from(name.to_owned()).map_err(|_| Error::ServerName(name.to_owned())))
            .transpose()?;
        let tls = tls.map(|(config, authorities)| Tls {
            connector: TlsConnector::from(Arc::new(config.clone())),
            config,
            authorities,
            server_name,
            identity,
        });
        Ok(Self { tcp, tls })
    }

    /// The same connector that offers these protocols.
    pub(super) fn with_protocols(&self, protocols: &[&[u8]]) -> Self {
        let mut this = self.clone();
        if let Some(tls) = &mut this.tls {
            tls.config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            tls.connector = TlsConnector::from(Arc::new(tls.config.clone()));
        }
        this
    }
}

impl Tls {
    async fn handshake(&self, host: &str, tcp: tokio::net::TcpStream) -> io::Result<ClosingStream> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                ServerName::try_from(host.to_owned()).map_err(io::Error::other)?
            }
        };
        self.authorities.reload();
        let seen = self.identity.as_ref().map(|identity| {
            identity.reload_logged();
            identity.replaced()
        });
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.connector.connect(name, tcp))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long"))?
            .map_err(|error| explained(error, host))?;
        Ok(ClosingStream::tls(
            stream,
            host,
            self.identity.as_deref().zip(seen),
        ))
    }
}

impl Service<Uri> for Connector {
    type Response = ClosingStream;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<ClosingStream, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.tcp.call(uri.clone());
        let tls = self.tls.clone();
        async move {
            let stream = connecting.await?.into_inner();
            match tls {
                Some(tls) => Ok(tls.handshake(uri.host().unwrap_or_default(), stream).await?),
                None => Ok(ClosingStream::plain(stream)),
            }
        }
        .boxed()
    }
}
