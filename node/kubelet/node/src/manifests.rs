//! Fetching the manifests of static pods over HTTP (`staticPodURL`; upstream: `pkg/kubelet/config/http.go`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Error, Result};

/// As long as upstream waits for an answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes that an answer may have.
const MAX_ANSWER: usize = 16 << 20;

/// Why nothing came.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A URL with manifests of static pods.
pub struct ManifestUrl {
    url: String,
    host: String,
    port: u16,
    path: String,
    headers: HeaderMap,
    /// For `https`.
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for ManifestUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers may be secret.
        f.debug_tuple("ManifestUrl").field(&self.url).finish()
    }
}

impl ManifestUrl {
    /// A URL that is asked with these headers; servers of `https` are verified with the machine's authorities.
    ///
    /// # Errors
    /// [`Error::ManifestUrl`], [`Error::Tls`].
    pub fn new(url: &str, headers: &BTreeMap<String, Vec<String>>) -> Result<Self> {
        Self::with(url, headers, machine_roots)
    }

    fn with(
        url: &str,
        headers: &BTreeMap<String, Vec<String>>,
        roots: impl FnOnce() -> RootCertStore,
    ) -> Result<Self> {
        let wrong = |reason: &str| Error::ManifestUrl {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(connector(roots())?),
            _ => return Err(wrong("only http and https are known")),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong("it names no host"))?;
        let authority = uri.authority().map(http::uri::Authority::as_str);
        let authority = authority.filter(|authority| !authority.contains('@'));
        let authority = authority.ok_or_else(|| wrong("credentials stand in staticPodURLHeader"))?;
        let mut all = header_map(headers).ok_or_else(|| wrong("a header is not one of HTTP"))?;
        let authority = HeaderValue::from_str(authority).map_err(|_| wrong("its host is not one of HTTP"))?;
        all.entry(HOST).or_insert(authority);
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 }),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            url: url.to_owned(),
            headers: all,
            tls,
        })
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it says now, within ten seconds. Redirections are not followed.
    ///
    /// # Errors
    /// [`Error::Fetch`]; another status than 200 is one, too.
    pub async fn fetch(&self) -> Result<Bytes> {
        let answer = tokio::time::timeout(LIMIT, self.try_fetch()).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer within 10s".into()));
        answer.map_err(|source| Error::Fetch {
            url: self.url.clone(),
            source,
        })
    }

    async fn try_fetch(&self) -> Result<Bytes, Cause> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        match &self.tls {
            None => self.exchange(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())?;
                self.exchange(tls.connect(name, stream).await?).await
            }
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Bytes, Cause> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::get(&self.path).body(Empty::<Bytes>::new())?;
        *request.headers_mut() = self.headers.clone();
        let talk = async {
            let answer = sender.send_request(request).await?;
            if answer.status() != StatusCode::OK {
                return Err(format!("the answer is {}", answer.status()).into());
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?;
            Ok(body.to_bytes())
        };
        tokio::pin!(talk);
        // The answer may need the connection to go on, and its end says more than that of the connection.
        tokio::select! {
            biased;
            answer = &mut talk => answer,
            _ = connection => talk.await,
        }
    }
}

fn header_map(headers: &BTreeMap<String, Vec<String>>) -> Option<HeaderMap> {
    let mut all = HeaderMap::new();
    for (name, values) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        for value in values {
            all.append(name.clone(), HeaderValue::from_str(value).ok()?);
        }
    }
    Some(all)
}

fn machine_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn connector(roots: RootCertStore) -> Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests;
