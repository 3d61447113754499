//! One repository of one registry, at whichever endpoint serves it.

use std::hash::BuildHasher;
use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_RANGE, RANGE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::auth::{Auth, authorize};
use super::config::Registries;
use super::error::{HostsError, RegistryError, RequestError};
use super::hosts::{Endpoint, endpoints};
use super::http::{Answer, Client, Reader, Request};
use super::retry::{Retry, RetryPolicy};
use crate::digest::Digest;
use crate::reference::Reference;

/// Largest text of a refusal that is read.
const REFUSAL_LIMIT: u64 = 64 << 10;
/// The header in which registries tell a manifest's digest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A repository, ready to be read.
#[derive(Debug)]
pub(crate) struct Repository {
    reference: Reference,
    auth: Auth,
    sessions: Vec<Session>,
    policy: RetryPolicy,
}

/// An endpoint, with what it wanted to see the last time.
#[derive(Debug)]
struct Session {
    endpoint: Endpoint,
    client: Client,
    authorization: Mutex<Option<HeaderValue>>,
}

/// Content found under a tag or digest.
pub(crate) struct Found {
    pub bytes: Vec<u8>,
    /// The digest that the registry says it has.
    pub promised: Option<Digest>,
}

/// A small thing to ask for.
struct Ask<'a> {
    method: Method,
    rest: String,
    accept: &'a str,
    limit: u64,
    /// It is content, not what a tag leads to.
    content: bool,
}

impl Repository {
    /// Reads the registry's configuration. Nothing is sent yet.
    pub(crate) async fn open(
        registries: &Registries,
        reference: &Reference,
        auth: &Auth,
    ) -> Result<Arc<Self>, HostsError> {
        let (registries, reference, auth) = (registries.clone(), reference.clone(), auth.clone());
        let reading = tokio::task::spawn_blocking(move || Self::read(&registries, reference, auth));
        match reading.await {
            Ok(read) => read.map(Arc::new),
            // It panicked; what for is in the log.
            Err(lost) => Err(HostsError::Read {
                path: "certs.d".into(),
                source: std::io::Error::other(lost),
            }),
        }
    }

    fn read(registries: &Registries, reference: Reference, auth: Auth) -> Result<Self, HostsError> {
        let session = |endpoint: Endpoint| -> Result<Session, HostsError> {
            Ok(Session {
                client: Client::new(&endpoint, registries.timeouts)?,
                endpoint,
                authorization: Mutex::default(),
            })
        };
        let sessions = endpoints(registries, &reference)?
            .into_iter()
            .map(session)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            reference,
            auth,
            sessions,
            policy: registries.retry,
        })
    }

    /// The URL of a manifest at the registry itself, for messages.
    pub(crate) fn manifest_url(&self, name: &str) -> String {
        let last = self.sessions.last();
        let url = last.and_then(|session| {
            session
                .endpoint
                .url(&self.reference.path, &format!("manifests/{name}"))
                .ok()
        });
        url.map(|url| url.to_string()).unwrap_or_default()
    }

    /// Asks what digest a tag leads to, or whether a digest may be had, without fetching it.
    pub(crate) async fn head(&self, name: &str, accept: &str) -> Result<Option<Digest>, RequestError> {
        let ask = Ask {
            method: Method::HEAD,
            rest: format!("manifests/{name}"),
            accept,
            limit: 0,
            content: name.contains(':'),
        };
        Ok(self.ask(&ask).await?.promised)
    }

    /// Fetches a manifest by tag or digest, at most `limit` bytes of it.
    pub(crate) async fn manifest(&self, name: &str, accept: &str, limit: u64) -> Result<Found, RequestError> {
        let ask = Ask {
            method: Method::GET,
            rest: format!("manifests/{name}"),
            accept,
            limit,
            content: name.contains(':'),
        };
        self.ask(&ask).await
    }

    /// How often transfers are taken up again.
    pub(super) fn policy(&self) -> RetryPolicy {
        self.policy
    }

    /// Endpoints that content may be fetched from.
    pub(super) fn endpoints(&self) -> usize {
        self.sessions
            .iter()
            .filter(|session| session.endpoint.pull)
            .count()
    }

    /// Opens a blob at `offset` at the given one of [`Repository::endpoints`]. The answer says how many bytes of what
    /// follows come before `offset`.
    pub(super) async fn open_blob(
        &self,
        endpoint: usize,
        digest: &Digest,
        size: u64,
        offset: u64,
    ) -> Result<(Reader, u64), RequestError> {
        let mut pulling = self.sessions.iter().filter(|session| session.endpoint.pull);
        let session = pulling.nth(endpoint).ok_or_else(no_endpoint)?;
        let mut request = Request::new(Method::GET, self.url(session, &format!("blobs/{digest}"))?);
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            request.headers.insert(
                RANGE,
                range.map_err(|error| RequestError::Unexpected(error.to_string()))?,
            );
        }
        let answer = self.send(session, request).await?;
        let skipped = skipped(&answer, size, offset)?;
        Ok((answer.body, skipped))
    }

    /// Asks every endpoint that may answer, again and again as long as that may help. Who cannot be reached at all
    /// is not waited for: callers have their own times for trying again.
    async fn ask(&self, ask: &Ask<'_>) -> Result<Found, RequestError> {
        let mut retry = Retry::new(self.policy);
        loop {
            let error = match self.ask_once(ask).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let passing = error.is_passing() && (ask.content || !matches!(error, RequestError::Connect(_)));
            let pause = passing
                .then(|| retry.failed(error.retry_after(), random()))
                .flatten();
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    async fn ask_once(&self, ask: &Ask<'_>) -> Result<Found, RequestError> {
        let mut last = None;
        for session in &self.sessions {
            let endpoint = &session.endpoint;
            if !(if ask.content {
                endpoint.pull
            } else {
                endpoint.resolve
            }) {
                continue;
            }
            match self.ask_at(session, ask).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    tracing::debug!(endpoint = endpoint.authority, %error, "a registry does not answer as hoped");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(no_endpoint))
    }

    async fn ask_at(&self, session: &Session, ask: &Ask<'_>) -> Result<Found, RequestError> {
        let mut request = Request::new(ask.method.clone(), self.url(session, &ask.rest)?);
        let accept = HeaderValue::try_from(ask.accept);
        request.headers.insert(
            ACCEPT,
            accept.map_err(|error| RequestError::Unexpected(error.to_string()))?,
        );
        let answer = self.send(session, request).await?;
        if answer.status != StatusCode::OK {
            return Err(RequestError::Unexpected(format!("status {}", answer.status)));
        }
        let promised = answer.header(CONTENT_DIGEST).and_then(Digest::parse);
        let bytes = match ask.method {
            Method::HEAD => Vec::new(),
            _ => answer.body.whole(ask.limit).await?,
        };
        Ok(Found { bytes, promised })
    }

    /// Sends a request with the credentials that the endpoint wanted before, or wants now.
    async fn send(&self, session: &Session, request: Request) -> Result<Answer, RequestError> {
        let held = session.authorization.lock().await.clone();
        let mut first = request.clone();
        first.authorization.clone_from(&held);
        let answer = session.client.send(first).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return accepted(answer).await;
        }
        if answer.foreign {
            let text = "another host, which it redirects to, wants credentials";
            return Err(RequestError::Unauthorized(text.to_owned()));
        }
        let mut second = request;
        second.authorization = Some(self.authorize(session, &answer, held, &second.url).await?);
        drop(answer);
        let answer = session.client.send(second).await?;
        match answer.status {
            StatusCode::UNAUTHORIZED => Err(RequestError::Unauthorized(
                match self.auth {
                    Auth::Anonymous => "the registry refuses anonymous pulls",
                    _ => "the registry refuses the credentials",
                }
                .to_owned(),
            )),
            _ => accepted(answer).await,
        }
    }

    /// Answers a challenge, once for all requests that got it.
    async fn authorize(
        &self,
        session: &Session,
        answer: &Answer,
        held: Option<HeaderValue>,
        asked: &Uri,
    ) -> Result<HeaderValue, RequestError> {
        let mut current = session.authorization.lock().await;
        if let Some(newer) = current.as_ref().filter(|value| Some(*value) != held.as_ref()) {
            return Ok(newer.clone());
        }
        let value = authorize(&session.client, answer, asked, &self.reference.path, &self.auth).await?;
        *current = Some(value.clone());
        Ok(value)
    }

    fn url(&self, session: &Session, rest: &str) -> Result<Uri, RequestError> {
        session
            .endpoint
            .url(&self.reference.path, rest)
            .map_err(|error| RequestError::Unexpected(error.to_string()))
    }
}

/// How many bytes of the answer's body come before `offset`.
fn skipped(answer: &Answer, size: u64, offset: u64) -> Result<u64, RequestError> {
    let unexpected = |text: String| Err(RequestError::Unexpected(text));
    let length: Option<u64> = answer
        .header(http::header::CONTENT_LENGTH)
        .and_then(|text| text.parse().ok());
    match answer.status {
        StatusCode::OK => match length {
            Some(length) if length != size => {
                unexpected(format!("the blob has {length} bytes, the manifest says {size}"))
            }
            _ => Ok(offset),
        },
        StatusCode::PARTIAL_CONTENT => {
            let range = answer.header(CONTENT_RANGE).unwrap_or_default();
            match range_start(range) {
                Some(start) if start <= offset => Ok(offset - start),
                _ => unexpected(format!("range {range:?} where it was asked from {offset} on")),
            }
        }
        other => unexpected(format!("status {other}")),
    }
}

/// The first number of `bytes 5-9/10`.
fn range_start(range: &str) -> Option<u64> {
    range
        .strip_prefix("bytes")?
        .trim_start()
        .split('-')
        .next()?
        .parse()
        .ok()
}

fn no_endpoint() -> RequestError {
    RequestError::Hosts("no endpoint may be asked for this".to_owned())
}

async fn accepted(answer: Answer) -> Result<Answer, RequestError> {
    match answer.status.is_success() {
        true => Ok(answer),
        false => Err(refused(answer).await),
    }
}

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A refusal in the words of the registry. Another host's words are not passed on.
pub(super) async fn refused(answer: Answer) -> RequestError {
    let status = answer.status;
    let retry_after = answer
        .header(RETRY_AFTER)
        .and_then(|text| text.trim().parse().ok())
        .map(std::time::Duration::from_secs);
    let mut refusal = RegistryError {
        status: status.as_u16(),
        reason: format!("unexpected status {status}"),
        absent: false,
        retry_after,
    };
    if !answer.foreign {
        // A refusal that cannot be read is one without words.
        let bytes = answer.body.whole(REFUSAL_LIMIT).await.unwrap_or_default();
        words(&mut refusal, &bytes);
    }
    RequestError::Refused(refusal)
}

fn words(refusal: &mut RegistryError, body: &[u8]) {
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) if !envelope.errors.is_empty() => {
            let told = envelope.errors.iter().map(|told| {
                let code = told.code.to_lowercase().replace('_', " ");
                match told.message.is_empty() {
                    true => code,
                    false => format!("{code}: {}", told.message),
                }
            });
            refusal.reason = plain(&told.collect::<Vec<_>>().join("; "));
            let absent = ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "BLOB_UNKNOWN", "NOT_FOUND"];
            refusal.absent = envelope
                .errors
                .iter()
                .any(|told| absent.contains(&told.code.as_str()));
        }
        _ => {
            let text = plain(String::from_utf8_lossy(body).trim());
            if !text.is_empty() {
                refusal.reason = format!("{}: {text}", refusal.reason);
            }
        }
    }
}

/// The first 300 characters without control characters: it goes to logs and terminals.
fn plain(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(300).collect()
}

/// A number in `[0, 1)` that differs from node to node.
pub(super) fn random() -> f64 {
    let bits = std::hash::RandomState::new().hash_one(0) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_the_registry_s_words() {
        let told = |body: &str| {
            let mut refusal = RegistryError {
                status: 404,
                reason: "unexpected status 404".into(),
                absent: false,
                retry_after: None,
            };
            words(&mut refusal, body.as_bytes());
            (refusal.reason, refusal.absent)
        };
        assert_eq!(
            told(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
            ("manifest unknown: manifest unknown".into(), true)
        );
        assert_eq!(
            told(r#"{"errors":[{"code":"DENIED"}]}"#),
            ("denied".into(), false)
        );
        assert_eq!(
            told("\u{1b}[31mred\n"),
            ("unexpected status 404:  [31mred".into(), false)
        );
        assert_eq!(told(""), ("unexpected status 404".into(), false));
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes */10"), None);
        assert_eq!(range_start(""), None);
    }
}
