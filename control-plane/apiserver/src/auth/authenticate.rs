//! Who sent a request: a client certificate, a bearer token, or nobody.

use std::sync::Arc;

use http::{HeaderMap, header};
use knode_api::status::Status;

use super::token::Tokens;
use crate::cache::Cache;
use crate::config::ApiServerConfig;
use crate::http::Failure;
use crate::user::UserInfo;

/// The certificate that the client of a connection has proved to own; it was signed by the client CA.
#[derive(Debug, Clone)]
pub(crate) struct PeerCertificate(pub Arc<[u8]>);

/// The authenticators in their order.
pub(crate) struct Authenticator {
    tokens: Tokens,
}

impl Authenticator {
    pub fn new(config: &ApiServerConfig, cache: Arc<Cache>) -> Self {
        Self {
            tokens: Tokens::new(config, cache),
        }
    }

    /// The sender of a request.
    pub fn identify(&self, headers: &HeaderMap, extensions: &http::Extensions) -> Result<UserInfo, Failure> {
        if let Some(user) = extensions.get::<UserInfo>() {
            return Ok(user.clone());
        }
        if let Some(user) = extensions.get::<PeerCertificate>().and_then(certificate_user) {
            return Ok(user);
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

fn certificate_user(certificate: &PeerCertificate) -> Option<UserInfo> {
    match knode_pki::identity_from_der(&certificate.0) {
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
