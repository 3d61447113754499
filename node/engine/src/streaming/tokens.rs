//! One-time tokens.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use knode_cri::{AttachRequest, ExecRequest, PortForwardRequest};
use rand::Rng;

use crate::error::{EngineError, Result};

/// How long a token is good for.
const LIFETIME: Duration = Duration::from_secs(60);

/// Most tokens at a time.
const MAX_TOKENS: usize = 1000;

/// What a URL was given out for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wanted {
    /// Running a command.
    Exec(ExecRequest),
    /// The container's own streams.
    Attach(AttachRequest),
    /// Ports of a sandbox.
    PortForward(PortForwardRequest),
}

/// Tokens that have been given out and not been used.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    issued: Mutex<HashMap<String, (Wanted, Instant)>>,
}

impl Tokens {
    pub(super) fn issue(&self, wanted: Wanted) -> Result<String> {
        self.issue_at(wanted, Instant::now())
    }

    fn issue_at(&self, wanted: Wanted, now: Instant) -> Result<String> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if issued.len() >= MAX_TOKENS {
            issued.retain(|_, (_, expires)| *expires > now);
        }
        if issued.len() >= MAX_TOKENS {
            return Err(EngineError::Invalid(
                "maximum number of in-flight requests exceeded".into(),
            ));
        }
        let mut bytes = [0; 24];
        rand::rng().fill_bytes(&mut bytes);
        let token = URL_SAFE_NO_PAD.encode(bytes);
        issued.insert(token.clone(), (wanted, now + LIFETIME));
        Ok(token)
    }

    pub(super) fn redeem(&self, token: &str) -> Option<Wanted> {
        self.redeem_at(token, Instant::now())
    }

    fn redeem_at(&self, token: &str, now: Instant) -> Option<Wanted> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let (wanted, expires) = issued.remove(token)?;
        (expires > now).then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted::PortForward(PortForwardRequest {
            pod_sandbox_id: "s".into(),
            port: vec![],
        })
    }

    #[test]
    fn a_token_is_good_once() {
        let tokens = Tokens::default();
        let token = tokens.issue(wanted()).unwrap();
        assert_eq!(tokens.redeem(&token), Some(wanted()));
        assert_eq!(tokens.redeem(&token), None);
        assert_eq!(tokens.redeem(""), None);
    }

    #[test]
    fn a_token_expires() {
        let tokens = Tokens::default();
        let now = Instant::now();
        let token = tokens.issue_at(wanted(), now).unwrap();
        assert_eq!(tokens.redeem_at(&token, now + LIFETIME), None);
    }

    #[test]
    fn old_tokens_make_room() {
        let tokens = Tokens::default();
        let now = Instant::now();
        for _ in 0..MAX_TOKENS {
            tokens.issue_at(wanted(), now).unwrap();
        }
        assert!(tokens.issue_at(wanted(), now).is_err());
        assert!(tokens.issue_at(wanted(), now + LIFETIME).is_ok());
    }
}
