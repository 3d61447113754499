//! Claims of service-account tokens (`pkg/serviceaccount/claims.go`): made, and checked against what is there.

use std::sync::Arc;

use jiff::Timestamp;
use knode_pki::JwtError;
use serde_json::{Value, json};

use crate::cache::{Cache, Object};
use crate::user::UserInfo;

/// A pod that is being deleted may use its token for this many seconds more.
const GRACE: i64 = 60;

/// Why the claims of a token don't hold.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error(transparent)]
    Signature(#[from] JwtError),
    #[error("token is issued by {0:?}")]
    Issuer(String),
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    TooEarly,
    #[error("token audiences {0:?} is invalid for the target audiences {1:?}")]
    Audience(Vec<String>, Vec<String>),
    #[error("token names no service account")]
    NoAccount,
    #[error("{0} is gone or another than the token was made for")]
    Gone(String),
}

/// An object that a token is bound to: it ends with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bound {
    pub name: String,
    pub uid: String,
}

/// What goes into a new token.
#[derive(Debug, Clone)]
pub(crate) struct Grant<'a> {
    pub issuer: &'a str,
    pub namespace: &'a str,
    pub account: Bound,
    pub pod: Option<Bound>,
    pub node: Option<Bound>,
    pub secret: Option<Bound>,
    pub audiences: Vec<String>,
    pub issued: Timestamp,
    /// Seconds until the token ends.
    pub lifetime: i64,
    pub id: String,
}

/// The claims of a new token.
pub(crate) fn claims(grant: &Grant<'_>) -> Value {
    let issued = grant.issued.as_second();
    let reference = |bound: &Bound| json!({"name": bound.name, "uid": bound.uid});
    let mut private = json!({"namespace": grant.namespace, "serviceaccount": reference(&grant.account)});
    for (name, bound) in [
        ("pod", &grant.pod),
        ("node", &grant.node),
        ("secret", &grant.secret),
    ] {
        if let Some(bound) = bound {
            private[name] = reference(bound);
        }
    }
    json!({
        "aud": grant.audiences, "exp": issued + grant.lifetime, "iat": issued, "nbf": issued,
        "iss": grant.issuer, "jti": grant.id, "kubernetes.io": private,
        "sub": format!("system:serviceaccount:{}:{}", grant.namespace, grant.account.name),
    })
}

/// Checks claims whose signature is right. Gives the user and those of the wanted audiences that hold.
pub(crate) fn check(
    cache: &Cache,
    claims: &Value,
    issuer: &str,
    wanted: &[String],
    now: Timestamp,
) -> Result<(UserInfo, Vec<String>), ClaimError> {
    let audiences = check_frame(claims, issuer, wanted, now)?;
    let private = &claims["kubernetes.io"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&private["namespace"]);
    let account = text(&private["serviceaccount"]["name"]);
    if namespace.is_empty() || account.is_empty() {
        return Err(ClaimError::NoAccount);
    }
    for (plural, field) in [
        ("serviceaccounts", "serviceaccount"),
        ("pods", "pod"),
        ("secrets", "secret"),
    ] {
        if private[field].is_object() {
            check_bound(cache, plural, &namespace, &private[field], now)?;
        }
    }
    if private["node"].is_object() && !private["pod"].is_object() {
        check_bound(cache, "nodes", "", &private["node"], now)?;
    }
    let user = user(&namespace, &account, claims);
    Ok((user, audiences))
}

fn check_frame(
    claims: &Value,
    issuer: &str,
    wanted: &[String],
    now: Timestamp,
) -> Result<Vec<String>, ClaimError> {
    let issued_by = claims["iss"].as_str().unwrap_or_default();
    if issued_by != issuer {
        return Err(ClaimError::Issuer(issued_by.to_owned()));
    }
    let now = now.as_second();
    if claims["exp"].as_i64().is_none_or(|end| end <= now) {
        return Err(ClaimError::Expired);
    }
    if claims["nbf"].as_i64().is_some_and(|start| start > now + 5) {
        return Err(ClaimError::TooEarly);
    }
    let given: Vec<String> = match &claims["aud"] {
        Value::String(one) => vec![one.clone()],
        list => list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    };
    let common: Vec<String> = wanted
        .iter()
        .filter(|audience| given.contains(audience))
        .cloned()
        .collect();
    if common.is_empty() {
        Err(ClaimError::Audience(given, wanted.to_vec()))
    } else {
        Ok(common)
    }
}

fn check_bound(
    cache: &Cache,
    plural: &str,
    namespace: &str,
    bound: &Value,
    now: Timestamp,
) -> Result<(), ClaimError> {
    let name = bound["name"].as_str().unwrap_or_default();
    let key = if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    };
    let gone = || ClaimError::Gone(format!("{plural} {key:?}"));
    let object: Arc<Object> = knode_kinds::find("", "v1", plural)
        .and_then(|kind| cache.table(kind))
        .and_then(|table| table.get(&key))
        .ok_or_else(gone)?;
    let metadata = &object.value()["metadata"];
    if metadata["uid"] != bound["uid"] {
        return Err(gone());
    }
    let deleted = metadata["deletionTimestamp"]
        .as_str()
        .and_then(|text| knode_api::time::parse(text).ok());
    match deleted {
        Some(deleted) if deleted.as_second() + GRACE < now.as_second() => Err(gone()),
        _ => Ok(()),
    }
}

fn user(namespace: &str, account: &str, claims: &Value) -> UserInfo {
    let private = &claims["kubernetes.io"];
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
    ];
    let mut user = UserInfo::new(format!("system:serviceaccount:{namespace}:{account}"), groups);
    user.uid = private["serviceaccount"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut add = |key: &str, value: &Value| {
        if let Some(text) = value.as_str() {
            user.extra.insert(
                format!("authentication.kubernetes.io/{key}"),
                vec![text.to_owned()],
            );
        }
    };
    add("pod-name", &private["pod"]["name"]);
    add("pod-uid", &private["pod"]["uid"]);
    add("node-name", &private["node"]["name"]);
    add("node-uid", &private["node"]["uid"]);
    let credential = claims["jti"]
        .as_str()
        .map_or(Value::Null, |id| format!("JTI={id}").into());
    add("credential-id", &credential);
    user
}

#[cfg(test)]
mod tests {
    use super::{ClaimError, Grant, check_frame, claims};

    fn grant(lifetime: i64) -> serde_json::Value {
        claims(&Grant {
            issuer: "https://here",
            namespace: "ns",
            account: super::Bound {
                name: "a".into(),
                uid: "u".into(),
            },
            pod: None,
            node: None,
            secret: None,
            audiences: vec!["x".into(), "y".into()],
            issued: jiff::Timestamp::from_second(1000).unwrap(),
            lifetime,
            id: "id".into(),
        })
    }

    #[test]
    fn issuer_time_and_audience_must_fit() {
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        let wanted = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let claims = grant(600);
        assert_eq!(
            check_frame(&claims, "https://here", &wanted(&["y", "z"]), at(1100)).unwrap(),
            ["y"]
        );
        let error = check_frame(&claims, "https://there", &wanted(&["y"]), at(1100));
        assert!(matches!(error, Err(ClaimError::Issuer(_))));
        let error = check_frame(&claims, "https://here", &wanted(&["y"]), at(1600));
        assert!(matches!(error, Err(ClaimError::Expired)));
        let error = check_frame(&claims, "https://here", &wanted(&["z"]), at(1100));
        assert!(matches!(error, Err(ClaimError::Audience(..))));
        let error = check_frame(&claims, "https://here", &wanted(&["x"]), at(900));
        assert!(matches!(error, Err(ClaimError::TooEarly)));
    }
}
