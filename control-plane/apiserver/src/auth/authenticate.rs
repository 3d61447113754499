//! Who sent a request: a client certificate, a bearer token, or nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, header};
use jiff::Timestamp;
use knode_api::status::Status;
use rustls_pki_types::CertificateDer;

use super::token::Tokens;
use crate::cache::Cache;
use crate::clock::now;
use crate::config::ApiServerConfig;
use crate::http::Failure;
use crate::server::tls::Trust;
use crate::user::UserInfo;

/// The certificate that the client of a connection has proved to own, with those that came along.
#[derive(Debug, Clone)]
pub(crate) struct PeerCertificate(Arc<Peer>);

#[derive(Debug)]
struct Peer {
    chain: Vec<CertificateDer<'static>>,
    ends: Timestamp,
    /// The authorities that have accepted it.
    accepted_by: AtomicU64,
}

/// The authenticators in their order.
pub(crate) struct Authenticator {
    tokens: Tokens,
    trust: Arc<Trust>,
}

impl Authenticator {
    pub fn new(config: &ApiServerConfig, cache: Arc<Cache>, trust: Arc<Trust>) -> Self {
        Self {
            tokens: Tokens::new(config, cache),
            trust,
        }
    }

    /// The authorities of client certificates.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The client of a connection whose handshake was good.
    pub fn peer(&self, chain: &[CertificateDer<'_>]) -> Option<PeerCertificate> {
        let leaf = knode_pki::Certificate::from_der(chain.first()?);
        let leaf = leaf
            .inspect_err(|error| tracing::debug!(%error, "a client certificate cannot be read"))
            .ok()?;
        Some(PeerCertificate(Arc::new(Peer {
            chain: chain.iter().map(|one| one.clone().into_owned()).collect(),
            ends: leaf.not_after,
            // The handshake may have begun before a replacement: then it is looked at once more.
            accepted_by: AtomicU64::new(u64::MAX),
        })))
    }

    /// A connection outlives what it was made with: its client's certificate ends, or its authority is no longer
    /// trusted.
    fn still_good(&self, peer: &Peer) -> Result<(), Failure> {
        if now() >= peer.ends {
            tracing::debug!("a client certificate has ended since its connection was made");
            return Err(Status::unauthorized().into());
        }
        let generation = self.trust.generation();
        if peer.accepted_by.load(Ordering::Relaxed) == generation {
            return Ok(());
        }
        if let Err(error) = self.trust.accepts(&peer.chain) {
            tracing::debug!(%error, "a client certificate is no longer accepted");
            return Err(Status::unauthorized().into());
        }
        peer.accepted_by.store(generation, Ordering::Relaxed);
        Ok(())
    }

    /// The sender of a request.
    pub fn identify(&self, headers: &HeaderMap, extensions: &http::Extensions) -> Result<UserInfo, Failure> {
        if let Some(user) = extensions.get::<UserInfo>() {
            return Ok(user.clone());
        }
        if let Some(PeerCertificate(peer)) = extensions.get() {
            self.still_good(peer)?;
            if let Some(user) = certificate_user(peer) {
                return Ok(user);
            }
        }
        match bearer(headers) {
            None => Ok(UserInfo::anonymous()),
            Some(token) => match self.tokens.verify(token, &[]) {
                Ok(verified) => Ok(verified.user),
                Err(error) => {
                    tracing::debug!(%error, "a bearer token was refused");
                    Err(Status::unauthorized().into())
                }
            },
        }
    }

    /// The checker of tokens, for reviews.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }
}

fn certificate_user(peer: &Peer) -> Option<UserInfo> {
    match knode_pki::identity_from_der(peer.chain.first()?) {
        Ok((name, groups)) if !name.is_empty() => Some(UserInfo::new(name, groups)),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "a client certificate has no readable subject");
            None
        }
    }
}

/// The token of the header, or of the WebSocket protocols (`base64url.bearer.authorization.k8s.io.TOKEN` is
/// for browsers and not supported).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.trim().split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}
