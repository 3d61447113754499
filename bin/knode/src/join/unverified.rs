//! Asking a server whose authority isn't known yet. What comes back is nobody's word until it is verified.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http1;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What `server` (`https://host:port`) answers for `path`.
pub async fn fetch(server: &str, path: &str) -> anyhow::Result<Bytes> {
    tokio::time::timeout(PATIENCE, get(server, path))
        .await
        .with_context(|| format!("no answer within {PATIENCE:?}"))?
}

async fn get(server: &str, path: &str) -> anyhow::Result<Bytes> {
    let uri: http::Uri = server.parse().context("not a URL")?;
    anyhow::ensure!(
        uri.scheme_str() == Some("https"),
        "not a URL that begins with https://"
    );
    let authority = uri.authority().context("a URL without a host")?.clone();
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host.clone()).context("not a host name")?;
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(443)))
        .await
        .context("connect")?;
    let stream = TlsConnector::from(Arc::new(config()?))
        .connect(name, stream)
        .await
        .context("speak TLS")?;
    http1::get(stream, authority.as_str(), path).await
}

fn config() -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let anybody = Arc::new(Anybody(provider.clone()));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(anybody)
        .with_no_client_auth())
}

/// Takes every certificate whose key the server has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
