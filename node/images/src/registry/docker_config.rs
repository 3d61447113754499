//! Docker's `config.json`: credentials by registry.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::auth::Auth;
use crate::error::{Error, Result};
use crate::reference::Reference;

/// Credentials by registry, as `docker login` writes them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerConfig {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
    #[serde(rename = "registrytoken")]
    registry_token: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Entry(…)")
    }
}

impl DockerConfig {
    /// Reads a file; one that is not there is empty.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Record`] for what is not JSON.
    pub fn read(path: &Path) -> Result<Self> {
        match crate::durable::read_json(path) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            other => other,
        }
    }

    /// The credentials for a reference: those of the longest entry that its name begins with.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a helper program of Docker's has them (`credHelpers`, `credsStore`) or an entry
    /// cannot be read: an anonymous pull would fail with a reason that misleads.
    pub fn auth(&self, reference: &Reference) -> Result<Auth> {
        let name = reference.name();
        let fits = |key: &str| {
            let place = place(key);
            name.strip_prefix(&place)
                .filter(|rest| rest.is_empty() || rest.starts_with('/'))
                .map(|_| place.len())
        };
        if let Some(helper) = self.cred_helpers.iter().find(|(key, _)| fits(key).is_some()) {
            return Err(unsupported(&format!("docker-credential-{}", helper.1)));
        }
        let entries = self
            .auths
            .iter()
            .filter_map(|(key, entry)| Some((fits(key)?, key, entry)));
        match entries.max_by_key(|(length, ..)| *length) {
            None => Ok(Auth::Anonymous),
            Some((_, key, entry)) => match entry.auth(key)? {
                // `docker login` with a store leaves an empty entry behind.
                Auth::Anonymous if !self.creds_store.is_empty() => {
                    Err(unsupported(&format!("docker-credential-{}", self.creds_store)))
                }
                auth => Ok(auth),
            },
        }
    }
}

impl Entry {
    fn auth(&self, key: &str) -> Result<Auth> {
        if !self.registry_token.is_empty() {
            return Ok(Auth::Bearer(self.registry_token.clone()));
        }
        if !self.identity_token.is_empty() {
            return Ok(Auth::Identity(self.identity_token.clone()));
        }
        if !self.username.is_empty() {
            return Ok(Auth::Basic {
                username: self.username.clone(),
                password: self.password.clone(),
            });
        }
        if self.auth.is_empty() {
            return Ok(Auth::Anonymous);
        }
        let decoded = STANDARD.decode(self.auth.trim()).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let parts = text.as_deref().and_then(|text| text.split_once(':'));
        let (username, password) = parts.ok_or_else(|| {
            Error::Unsupported(format!(
                "the entry {key:?} of the docker configuration is not user:password in base64"
            ))
        })?;
        Ok(Auth::Basic {
            username: username.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        })
    }
}

fn unsupported(helper: &str) -> Error {
    Error::Unsupported(format!("credentials of the program {helper}"))
}

/// An entry's name without scheme and version, in the words of references.
fn place(key: &str) -> String {
    let place = key.trim_start_matches("https://").trim_start_matches("http://");
    let place = place.trim_end_matches('/');
    let place = place.trim_end_matches("/v1").trim_end_matches("/v2");
    match place {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(config: &str, reference: &str) -> String {
        let config: DockerConfig = serde_json::from_str(config).unwrap();
        match config.auth(&Reference::parse(reference).unwrap()) {
            Ok(Auth::Basic { username, password }) => format!("{username}:{password}"),
            Ok(Auth::Anonymous) => "anonymous".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(error) => error.chain(),
        }
    }

    #[test]
    fn the_closest_entry_s_credentials_are_taken() {
        let config = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldA=="},
            "reg.io": {"username": "wide", "password": "p"},
            "reg.io/team": {"username": "near", "password": "p"},
            "token.io": {"identitytoken": "x"}}}"#;
        assert_eq!(told(config, "nginx"), "hub:secret");
        assert_eq!(told(config, "reg.io/team/app"), "near:p");
        assert_eq!(told(config, "reg.io/teams/app"), "wide:p");
        assert_eq!(told(config, "reg.iot/app"), "anonymous");
        assert_eq!(told(config, "token.io/app"), "Identity(…)");
    }

    #[test]
    fn what_programs_hold_is_refused_by_name() {
        let config = r#"{"auths": {"a.io": {}}, "credHelpers": {"gcr.io": "gcloud"}, "credsStore": "pass"}"#;
        assert_eq!(
            told(config, "gcr.io/x/y"),
            "unsupported: credentials of the program docker-credential-gcloud"
        );
        assert_eq!(
            told(config, "a.io/y"),
            "unsupported: credentials of the program docker-credential-pass"
        );
        assert_eq!(told(config, "b.io/y"), "anonymous");
        assert!(told(r#"{"auths": {"a.io": {"auth": "!"}}}"#, "a.io/x").contains("not user:password"));
    }
}
