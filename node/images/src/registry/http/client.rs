//! Requests of one pull to one endpoint and to where it redirects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustls::ClientConfig;

use super::connect::{Body, Connection, connect};
use super::redirect::{self, origin};
use super::tls;
use crate::registry::config::Timeouts;
use crate::registry::error::{HostsError, RequestError, innermost};
use crate::registry::hosts::Endpoint;

/// A request, as a value.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Request {
    pub method: Method,
    pub url: Uri,
    pub headers: HeaderMap,
    /// Sent to the URL's own origin only, wherever that redirects to.
    pub authorization: Option<HeaderValue>,
    pub body: Bytes,
}

impl Request {
    /// A request without body, header and credentials.
    pub(in crate::registry) fn new(method: Method, url: Uri) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            body: Bytes::new(),
        }
    }
}

type Origin = (String, String, u16);

/// A client for an endpoint. Connections are kept for the next request as long as it lives.
pub(in crate::registry) struct Client {
    /// Where client certificate and own headers go.
    origin: Origin,
    headers: HeaderMap,
    tls: Option<tls::Configurations>,
    timeouts: Timeouts,
    idle: Mutex<HashMap<Origin, Vec<Connection>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Client").field("origin", &self.origin).finish()
    }
}

impl Client {
    /// Reads the endpoint's certificates. Blocks; nothing is sent yet.
    pub(in crate::registry) fn new(endpoint: &Endpoint, timeouts: Timeouts) -> Result<Self, HostsError> {
        let url = endpoint.url("", "").map_err(|error| HostsError::Field {
            host: endpoint.authority.clone(),
            field: "host",
            reason: error.to_string(),
        })?;
        let plain = endpoint.scheme == "http";
        Ok(Self {
            origin: origin(&url),
            headers: endpoint.headers.iter().cloned().collect(),
            // Reading authorities takes milliseconds; where there is no TLS it is for a redirect or a token only.
            tls: match plain {
                true => None,
                false => Some(tls::configurations(&endpoint.tls)?),
            },
            timeouts: Timeouts {
                connect: endpoint.dial_timeout.unwrap_or(timeouts.connect),
                ..timeouts
            },
            idle: Mutex::default(),
        })
    }

    /// Sends a request and follows redirects. Credentials, the endpoint's own headers and its client certificate go to
    /// the origin that they are for and to no other.
    pub(in crate::registry) async fn send(&self, request: Request) -> Result<Answer, RequestError> {
        let first = origin(&request.url);
        let mut url = request.url.clone();
        for _ in 0..=redirect::LIMIT {
            let here = origin(&url);
            let answer = self.send_one(&request, &url, here == first).await?;
            let redirects = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirects || request.method == Method::POST {
                return Ok(Answer {
                    foreign: here != first,
                    ..answer
                });
            }
            let location = answer
                .headers
                .get(LOCATION)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            url = redirect::follow(&url, location)?;
            // A redirect's own text is of no use, and reading it would let the other side decide how long.
        }
        Err(RequestError::Redirect {
            to: url.path().chars().take(200).collect(),
            why: "there were ten before it",
        })
    }

    async fn send_one(&self, request: &Request, url: &Uri, trusted: bool) -> Result<Answer, RequestError> {
        let key = origin(url);
        let own = key == self.origin;
        let mut last = None;
        // A kept connection may have been closed meanwhile; a new one tells the truth.
        for fresh in [false, true] {
            let connection = match fresh {
                false => match self.take(&key) {
                    Some(connection) => connection,
                    None => continue,
                },
                true => connect(url, self.tls_for(url, own).await?, self.timeouts.connect).await?,
            };
            let http = self.to_http(request, url, &connection, trusted, own)?;
            match self.exchange(connection, http, &key).await {
                Ok(answer) => return Ok(answer),
                Err(error @ RequestError::Broken(_)) if !fresh => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| RequestError::Broken("no connection".to_owned())))
    }

    async fn tls_for(&self, url: &Uri, own: bool) -> Result<Option<Arc<ClientConfig>>, RequestError> {
        if url.scheme_str() == Some("http") {
            return Ok(None);
        }
        if let Some(tls) = &self.tls {
            return Ok(Some(if own {
                tls.own.clone()
            } else {
                tls.elsewhere.clone()
            }));
        }
        let made = tokio::task::spawn_blocking(|| tls::configurations(&Default::default())).await;
        match made {
            Ok(Ok(made)) => Ok(Some(made.elsewhere)),
            Ok(Err(error)) => Err(RequestError::Hosts(crate::error::chain(&error))),
            Err(_) => Err(RequestError::Tls(
                "reading the authorities ended early".to_owned(),
            )),
        }
    }

    fn to_http(
        &self,
        request: &Request,
        url: &Uri,
        connection: &Connection,
        trusted: bool,
        own: bool,
    ) -> Result<http::Request<Body>, RequestError> {
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let target = match &connection.proxy {
            Some(_) => url.to_string(),
            None => path.to_owned(),
        };
        let built = http::Request::builder()
            .method(request.method.clone())
            .uri(target)
            .body(Body::new(request.body.clone()));
        let mut built = built.map_err(|error| RequestError::Unexpected(error.to_string()))?;
        let headers = built.headers_mut();
        let host = url
            .authority()
            .map(http::uri::Authority::as_str)
            .unwrap_or_default();
        let host =
            HeaderValue::try_from(host).map_err(|error| RequestError::Unexpected(error.to_string()))?;
        headers.insert(HOST, host);
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("knode/", env!("CARGO_PKG_VERSION"))),
        );
        headers.extend(request.headers.clone());
        if own {
            headers.extend(self.headers.clone());
        }
        if let Some(authorization) = request.authorization.as_ref().filter(|_| trusted) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(authorization) = connection
            .proxy
            .as_ref()
            .and_then(|proxy| proxy.authorization.as_ref())
        {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        Ok(built)
    }

    async fn exchange(
        &self,
        mut connection: Connection,
        request: http::Request<Body>,
        key: &Origin,
    ) -> Result<Answer, RequestError> {
        let limit = self.timeouts.answer;
        let sent = tokio::time::timeout(limit, connection.sender.send_request(request)).await;
        let answered = sent.map_err(|_| RequestError::Timeout {
            what: "answer",
            seconds: limit.as_secs(),
        })?;
        let (head, body) = answered
            .map_err(|error| RequestError::Broken(innermost(&error)))?
            .into_parts();
        // It is ready again when the body has been read; until then nobody takes it.
        self.keep(key, connection);
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            foreign: false,
            body: Reader::new(body, self.timeouts.stall),
        })
    }

    fn take(&self, key: &Origin) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(key)?;
        connections.retain(|connection| !connection.sender.is_closed());
        let ready = connections
            .iter()
            .position(|connection| connection.sender.is_ready())?;
        Some(connections.swap_remove(ready))
    }

    fn keep(&self, key: &Origin, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(key.clone()).or_default().push(connection);
    }
}

/// The head of an answer, and its body to be read.
pub(in crate::registry) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// It comes from another origin than the one asked.
    pub foreign: bool,
    pub body: Reader,
}

impl Answer {
    /// The header's text.
    pub(in crate::registry) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Bytes that a body must bring for its clock to start anew.
const DRIP: usize = 1024;

/// A body, piece by piece, that must not stall.
pub(in crate::registry) struct Reader {
    body: Incoming,
    stall: Duration,
    /// What is left of the time for the next [`DRIP`] bytes. Time in which nobody reads does not count.
    left: Duration,
    dripped: usize,
}

impl Reader {
    fn new(body: Incoming, stall: Duration) -> Self {
        Self {
            body,
            stall,
            left: stall,
            dripped: 0,
        }
    }

    /// The next piece; `None` at the end.
    pub(in crate::registry) async fn next(&mut self) -> Result<Option<Bytes>, RequestError> {
        loop {
            let asked = tokio::time::Instant::now();
            let Ok(frame) = tokio::time::timeout(self.left, self.body.frame()).await else {
                return Err(RequestError::Timeout {
                    what: "data",
                    seconds: self.stall.as_secs(),
                });
            };
            self.left = self.left.saturating_sub(asked.elapsed());
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(RequestError::Broken(innermost(&error))),
                // Trailers are not for us.
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.dripped += piece.len();
                        if self.dripped >= DRIP {
                            (self.left, self.dripped) = (self.stall, 0);
                        }
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    /// Everything, at most `limit` bytes.
    pub(in crate::registry) async fn whole(mut self, limit: u64) -> Result<Vec<u8>, RequestError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            if (bytes.len() + piece.len()) as u64 > limit {
                return Err(RequestError::TooMuch(limit));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}
