//! Tokens kept for as long as they are fresh (upstream: `pkg/kubelet/token/token_manager.go`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::objects::{Token, TokenQuery};

/// When a token obtained at `issued` should be replaced: after 80 % of its life, or after 24 hours.
pub(crate) fn refresh_at(issued: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(issued);
    let share = SignedDuration::from_secs(life.as_secs().max(0) * 8 / 10);
    let wait = share.min(SignedDuration::from_hours(24));
    issued.checked_add(wait).unwrap_or(expires)
}

/// Tokens by query.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    held: BTreeMap<TokenQuery, (Token, Timestamp)>,
}

impl Tokens {
    /// A token that needs no refresh yet.
    pub(crate) fn fresh(&self, query: &TokenQuery, now: Timestamp) -> Option<Token> {
        self.held
            .get(query)
            .filter(|(_, refresh)| now < *refresh)
            .map(|(token, _)| token.clone())
    }

    /// A token that is still valid, for when no new one can be had.
    pub(crate) fn valid(&self, query: &TokenQuery, now: Timestamp) -> Option<Token> {
        self.held
            .get(query)
            .filter(|(token, _)| now < token.expires)
            .map(|(token, _)| token.clone())
    }

    /// Keeps a token obtained at `now`.
    pub(crate) fn keep(&mut self, query: TokenQuery, token: Token, now: Timestamp) {
        let refresh = refresh_at(now, token.expires);
        self.held.insert(query, (token, refresh));
    }

    /// When the first token of the pod has to be replaced.
    pub(crate) fn next_refresh(&self, pod_uid: &str) -> Option<Timestamp> {
        let mine = self.held.iter().filter(|(query, _)| query.pod_uid == pod_uid);
        mine.map(|(_, (_, refresh))| *refresh).min()
    }

    /// Forgets the tokens of a pod.
    pub(crate) fn forget(&mut self, pod_uid: &str) {
        self.held.retain(|query, _| query.pod_uid != pod_uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn refreshed_at_four_fifths_of_life_and_daily() {
        assert_eq!(refresh_at(at(0), at(3600)), at(2880));
        assert_eq!(refresh_at(at(0), at(10 * 86_400)), at(86_400));
    }

    #[test]
    fn held_until_refresh_valid_until_the_end() {
        let query = TokenQuery {
            namespace: "n".into(),
            service_account: "default".into(),
            pod_name: "p".into(),
            pod_uid: "u".into(),
            audiences: vec![],
            expiration_seconds: 600,
        };
        let mut tokens = Tokens::default();
        tokens.keep(
            query.clone(),
            Token {
                token: "t".into(),
                expires: at(1000),
            },
            at(0),
        );
        assert!(tokens.fresh(&query, at(799)).is_some());
        assert!(tokens.fresh(&query, at(800)).is_none());
        assert!(tokens.valid(&query, at(999)).is_some());
        assert!(tokens.valid(&query, at(1000)).is_none());
        assert_eq!(tokens.next_refresh("u"), Some(at(800)));
        tokens.forget("u");
        assert_eq!(tokens.next_refresh("u"), None);
    }
}
