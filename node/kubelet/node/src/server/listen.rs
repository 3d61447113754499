//! Listening, TLS, connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::body::{Answer, not_found, text};
use super::route::{Route, route};
use super::{Kubelet, handlers};
use crate::certificate::ServingCertificate;
use crate::config::TlsOptions;
use crate::{Error, Result};

const ONLY_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Listens; a port that is taken is named together with its holder.
///
/// # Errors
/// [`Error::PortTaken`], [`Error::Listen`].
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == std::io::ErrorKind::AddrInUse {
            Error::PortTaken {
                address,
                holder: knode_linux::port::holder(address.port()),
            }
        } else {
            Error::Listen { address, source }
        }
    })
}

/// TLS as `options` say that shows `serving` and verifies those clients that show a certificate.
///
/// # Errors
/// [`Error::Credentials`], [`Error::ClientCa`], [`Error::Tls`].
pub(crate) fn tls_config(
    serving: Arc<ServingCertificate>,
    client_ca: &str,
    options: &TlsOptions,
) -> Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in knode_pki::pem_certificates(client_ca)? {
        roots.add(certificate.into()).map_err(Error::Tls)?;
    }
    let provider = Arc::new(provider(&options.cipher_suites));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(Error::ClientCa)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(if options.only_1_3 {
            ONLY_1_3
        } else {
            rustls::DEFAULT_VERSIONS
        })
        .map_err(Error::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What speaks TLS, with these suites of TLS 1.2 only, or all without any.
fn provider(suites: &[String]) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    // As in Go, two have a short name, too.
    let named = |name: &str| {
        suites
            .iter()
            .any(|one| one == name || name.strip_suffix("_SHA256") == Some(one.as_str()))
    };
    if !suites.is_empty() {
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() || suite.suite().as_str().is_some_and(named));
    }
    provider
}

/// Serves the kubelet's API for ever; each connection begins with what `tls` holds then.
pub(crate) async fn serve_https(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    kubelet: Arc<Kubelet>,
) {
    loop {
        let Some((stream, peer)) = accept(&listener).await else {
            continue;
        };
        let (acceptor, kubelet) = (TlsAcceptor::from(tls.borrow().clone()), kubelet.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => serve_tls(stream, kubelet).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
        });
    }
}

async fn serve_tls(stream: tokio_rustls::server::TlsStream<TcpStream>, kubelet: Arc<Kubelet>) {
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates
        .and_then(|list| list.first())
        .map(|leaf| Arc::<[u8]>::from(leaf.as_ref()));
    let service = service_fn(move |request: Request<Incoming>| {
        let (kubelet, certificate) = (kubelet.clone(), certificate.clone());
        async move { Ok::<Answer, Infallible>(handlers::handle(kubelet, certificate, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(60)));
    let served = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error, "connection ended");
    }
}

/// Serves `/healthz` without authentication; meant for a loopback address.
pub(crate) async fn serve_healthz(listener: TcpListener) {
    loop {
        let Some((stream, _)) = accept(&listener).await else {
            continue;
        };
        let service = service_fn(|request: Request<Incoming>| async move {
            let answer = match route(request.uri().path()) {
                Route::Healthz => text(http::StatusCode::OK, "ok"),
                _ => not_found(),
            };
            Ok::<Answer, Infallible>(answer)
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "health check ended");
            }
        });
    }
}

async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "no TCP_NODELAY");
            }
            Some((stream, peer))
        }
        Err(error) => {
            // Out of descriptors: others must end first.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
