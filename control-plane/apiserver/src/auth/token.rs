//! Bearer tokens: static ones, bootstrap tokens, service-account tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use knode_pki::{BootstrapToken, VerifyingKeys};
use serde_json::Value;

use super::service_account::{self, ClaimError};
use crate::cache::{Cache, Object};
use crate::clock::now;
use crate::config::ApiServerConfig;
use crate::user::UserInfo;

/// Why a token is nobody's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("invalid bearer token")]
    Unknown,
    #[error("bootstrap token {0} {1}")]
    Bootstrap(String, &'static str),
    #[error("[invalid bearer token, {0}]")]
    ServiceAccount(#[from] ClaimError),
}

/// Whose a token is, and for which of the audiences asked for.
#[derive(Debug)]
pub(crate) struct Verified {
    pub user: UserInfo,
    pub audiences: Vec<String>,
}

/// Checks tokens.
pub(crate) struct Tokens {
    fixed: BTreeMap<String, UserInfo>,
    keys: VerifyingKeys,
    issuer: String,
    cache: Arc<Cache>,
}

impl Tokens {
    pub fn new(config: &ApiServerConfig, cache: Arc<Cache>) -> Self {
        Self {
            fixed: config.static_tokens.clone(),
            keys: config.service_account_key.verifying_keys(),
            issuer: config.issuer.clone(),
            cache,
        }
    }

    /// Whose the token is. `audiences` are those that will do; none means this server.
    pub fn verify(&self, token: &str, audiences: &[String]) -> Result<Verified, TokenError> {
        let here = [self.issuer.clone()];
        let wanted = if audiences.is_empty() {
            &here[..]
        } else {
            audiences
        };
        let ours = wanted.contains(&self.issuer);
        if let Some(user) = self.fixed(token).filter(|_| ours) {
            return Ok(Verified {
                user,
                audiences: vec![self.issuer.clone()],
            });
        }
        if let Ok(token) = token.parse::<BootstrapToken>() {
            let user = self.bootstrap(&token)?;
            return Ok(Verified {
                user,
                audiences: vec![self.issuer.clone()],
            });
        }
        if token.split('.').count() != 3 {
            return Err(TokenError::Unknown);
        }
        let claims = self.keys.verify(token).map_err(ClaimError::Signature)?;
        let (user, audiences) = service_account::check(&self.cache, &claims, &self.issuer, wanted, now())?;
        Ok(Verified { user, audiences })
    }

    /// Compares all of them, so that the time doesn't tell how much of a token is right.
    fn fixed(&self, token: &str) -> Option<UserInfo> {
        self.fixed
            .iter()
            .filter(|(known, _)| same(known, token))
            .map(|(_, user)| user.clone())
            .next()
    }

    fn bootstrap(&self, token: &BootstrapToken) -> Result<UserInfo, TokenError> {
        let refuse = |why| TokenError::Bootstrap(token.id().to_owned(), why);
        let secret = self
            .secret(&token.secret_name())
            .ok_or_else(|| refuse("is not known"))?
            .value();
        if secret["type"] != "bootstrap.kubernetes.io/token" {
            return Err(refuse("is in a secret of another type"));
        }
        let data = |name: &str| -> String {
            let bytes = secret["data"][name]
                .as_str()
                .and_then(|text| STANDARD.decode(text).ok());
            bytes
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .unwrap_or_default()
        };
        let right = same(&data("token-id"), token.id()) & same(&data("token-secret"), token.secret());
        if !right || !secret["metadata"]["deletionTimestamp"].is_null() {
            return Err(refuse("is wrong"));
        }
        if expired(&data("expiration"), now()) {
            return Err(refuse("has expired"));
        }
        if data("usage-bootstrap-authentication") != "true" {
            return Err(refuse("is not for authentication"));
        }
        let extra = data("auth-extra-groups");
        let extra = extra
            .split(',')
            .map(str::trim)
            .filter(|group| group.starts_with("system:bootstrappers:"));
        Ok(UserInfo::new(
            token.user_name(),
            ["system:bootstrappers"].into_iter().chain(extra),
        ))
    }

    fn secret(&self, name: &str) -> Option<Arc<Object>> {
        let kind = knode_kinds::find("", "v1", "secrets")?;
        self.cache.table(kind)?.get(&format!("kube-system/{name}"))
    }
}

/// An unreadable time counts as passed, as upstream has it.
fn expired(expiration: &str, now: Timestamp) -> bool {
    match expiration {
        "" => false,
        text => knode_api::time::parse(text).map_or(true, |end| end <= now),
    }
}

/// Compares in a time that depends on the lengths only.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
}

/// Reads a token file: lines of `token,user,uid,"group1,group2"` (upstream's `--token-auth-file`).
///
/// # Errors
/// The number of the first line that has fewer than three columns or an empty token.
pub fn parse_token_file(text: &str) -> Result<BTreeMap<String, UserInfo>, usize> {
    let mut tokens = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let columns = columns(line);
        let [token, name, uid, rest @ ..] = columns.as_slice() else {
            return Err(number + 1);
        };
        if token.is_empty() {
            return Err(number + 1);
        }
        let groups = rest.first().map(String::as_str).unwrap_or_default();
        let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty());
        let user = UserInfo {
            uid: uid.clone(),
            ..UserInfo::new(name.clone(), groups)
        };
        tokens.insert(token.clone(), user);
    }
    Ok(tokens)
}

/// The columns of a line of comma-separated values with quotes.
fn columns(line: &str) -> Vec<String> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match (c, quoted) {
            ('"', _) => quoted = !quoted,
            (',', false) => columns.push(String::new()),
            (c, _) => columns.last_mut().into_iter().for_each(|column| column.push(c)),
        }
    }
    columns.iter().map(|column| column.trim().to_owned()).collect()
}

/// The user as reviews write it.
pub(crate) fn user_value(user: &UserInfo) -> Value {
    let mut value = serde_json::json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        value["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        value["extra"] = serde_json::json!(user.extra);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::parse_token_file;

    #[test]
    fn a_token_file_is_read() {
        let tokens = parse_token_file("abc,alice,7,\"one, two\"\n\n# no\nx,bob,\n").unwrap();
        assert_eq!(tokens["abc"].groups, ["one", "two", "system:authenticated"]);
        assert_eq!(
            (tokens["abc"].uid.as_str(), tokens["x"].name.as_str()),
            ("7", "bob")
        );
        assert_eq!(parse_token_file("ok,a,b\nbad,line").unwrap_err(), 2);
    }
}
