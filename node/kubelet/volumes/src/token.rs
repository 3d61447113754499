//! Tokens kept for as long as they are fresh (upstream: `pkg/kubelet/token/token_manager.go`).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use knode_api::hash;

use crate::objects::{Token, TokenQuery};

/// At most this much earlier is a token replaced than it must be, in seconds: pods that began together don't ask
/// together.
const EARLIER: u32 = 10;
/// How long until a token that could not be replaced is asked for again, in seconds, and what is added at most.
const AGAIN: (i64, u32) = (60, 30);

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
        let earlier = SignedDuration::from_secs(share(&query, EARLIER));
        let refresh = refresh.checked_sub(earlier).map_or(refresh, |at| at.max(now));
        self.held.insert(query, (token, refresh));
    }

    /// Leaves a token as it is for a while: at `now` no new one was to be had.
    pub(crate) fn put_off(&mut self, query: &TokenQuery, now: Timestamp) {
        let wait = SignedDuration::from_secs(AGAIN.0 + share(query, AGAIN.1));
        if let Some((_, refresh)) = self.held.get_mut(query) {
            *refresh = now.checked_add(wait).unwrap_or(now);
        }
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

/// A pod's own share of `most` seconds, always the same.
fn share(query: &TokenQuery, most: u32) -> i64 {
    hash::share(&query.pod_uid, most).into()
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

    fn query(uid: &str) -> TokenQuery {
        TokenQuery {
            namespace: "n".into(),
            service_account: "default".into(),
            pod_name: "p".into(),
            pod_uid: uid.into(),
            audiences: vec![],
            expiration_seconds: 600,
        }
    }

    fn keep(tokens: &mut Tokens, uid: &str) -> i64 {
        let token = Token {
            token: "t".into(),
            expires: at(1000),
        };
        tokens.keep(query(uid), token, at(0));
        tokens.next_refresh(uid).unwrap().as_second()
    }

    #[test]
    fn held_until_refresh_valid_until_the_end() {
        let (query, mut tokens) = (query("u"), Tokens::default());
        let due = keep(&mut tokens, "u");
        assert!((790..=800).contains(&due), "{due}");
        assert!(tokens.fresh(&query, at(due - 1)).is_some());
        assert!(tokens.fresh(&query, at(due)).is_none());
        assert!(tokens.valid(&query, at(999)).is_some());
        assert!(tokens.valid(&query, at(1000)).is_none());
        tokens.forget("u");
        assert_eq!(tokens.next_refresh("u"), None);
    }

    #[test]
    fn what_cannot_be_replaced_is_asked_for_again_later() {
        let (query, mut tokens) = (query("u"), Tokens::default());
        keep(&mut tokens, "u");
        tokens.put_off(&query, at(850));
        let due = tokens.next_refresh("u").unwrap().as_second();
        assert!((910..=940).contains(&due), "{due}");
        assert!(tokens.fresh(&query, at(due - 1)).is_some());
        assert!(tokens.fresh(&query, at(due)).is_none());
    }

    #[test]
    fn pods_that_begin_together_do_not_ask_together() {
        let mut tokens = Tokens::default();
        let dues: std::collections::BTreeSet<i64> = (0..100)
            .map(|pod| keep(&mut tokens, &format!("uid-{pod}")))
            .collect();
        assert!(dues.len() > 8, "{dues:?}");
    }
}
