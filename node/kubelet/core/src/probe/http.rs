//! HTTP GET for probes and hooks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::tcp;
use crate::model::ProbeOutcome;

const MAX_BODY: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpTarget {
    /// Over TLS, the certificate not verified.
    pub https: bool,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
}

impl HttpTarget {
    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A probe: any answer from 200 to 399 is good. Redirects on the same host are followed.
pub(super) async fn probe(target: &HttpTarget, limit: Duration) -> ProbeOutcome {
    let mut target = target.clone();
    let work = async {
        for _ in 0..MAX_REDIRECTS {
            let (status, location) = get(&target, limit).await?;
            match location.and_then(|location| redirected(&target, &location)) {
                Some(next) if status.is_redirection() => target = next,
                _ => return Ok(status),
            }
        }
        Err(format!(
            "Get \"{}\": stopped after {MAX_REDIRECTS} redirects",
            target.url()
        ))
    };
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(status)) if (200..400).contains(&status.as_u16()) => ProbeOutcome::Success,
        Ok(Ok(status)) => {
            ProbeOutcome::Failure(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
        }
        Ok(Err(text)) => ProbeOutcome::Failure(text),
        Err(_) => ProbeOutcome::Failure(format!(
            "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            target.url()
        )),
    }
}

/// The same host's other path; `None` for another host, which is not followed.
fn redirected(target: &HttpTarget, location: &str) -> Option<HttpTarget> {
    let uri: http::Uri = location.parse().ok()?;
    if uri.host().is_some_and(|host| host != target.host) {
        return None;
    }
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let https = uri.scheme_str().map_or(target.https, |scheme| scheme == "https");
    let port = match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), _) => port,
        (None, None) => target.port,
        (None, Some(_)) => {
            if https {
                443
            } else {
                80
            }
        }
    };
    Some(HttpTarget {
        https,
        port,
        path: path.to_owned(),
        ..target.clone()
    })
}

/// One request; the answer's status and where it redirects to.
pub(crate) async fn get(
    target: &HttpTarget,
    limit: Duration,
) -> Result<(StatusCode, Option<String>), String> {
    let failed = |text: String| format!("Get \"{}\": {text}", target.url());
    let stream = tcp::connect(&target.host, target.port, limit)
        .await
        .map_err(failed)?;
    let answer = match target.https {
        false => exchange(stream, target).await,
        true => match tls(stream, &target.host).await {
            Ok(stream) => exchange(stream, target).await,
            Err(text) => Err(text),
        },
    };
    answer.map_err(failed)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &HttpTarget,
) -> Result<(StatusCode, Option<String>), String> {
    let text = |error: hyper::Error| {
        if error.is_incomplete_message() {
            "EOF".to_owned()
        } else {
            error.to_string()
        }
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(text)?;
    let request = request(target)?;
    let talk = async {
        let answer = sender.send_request(request).await.map_err(text)?;
        let status = answer.status();
        let location = answer
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok());
        let location = location.map(ToOwned::to_owned);
        // The body is read so that the server sees a whole exchange; what is in it counts for nothing.
        let _ = Limited::new(answer.into_body(), MAX_BODY).collect().await;
        Ok((status, location))
    };
    tokio::pin!(talk, connection);
    tokio::select! {
        answer = &mut talk => answer,
        ended = &mut connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(text(error)),
        },
    }
}

fn request(target: &HttpTarget) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(&target.path);
    let given = |name: &str| {
        target
            .headers
            .iter()
            .any(|(have, _)| have.eq_ignore_ascii_case(name))
    };
    for (name, value) in [
        ("host", target.authority().as_str()),
        ("user-agent", "kube-probe/1.36"),
        ("accept", "*/*"),
    ] {
        if !given(name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in target.headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(name, value);
    }
    request
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())
}

async fn tls(
    stream: tokio::net::TcpStream,
    host: &str,
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, String> {
    let name = rustls_pki_types::ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())
}

/// Accepts every certificate: probes ask whether the server answers, not who it is (as upstream's do).
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
