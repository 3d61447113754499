//! The file format (`client-go/tools/clientcmd/api/v1`).

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Identity, Result, files};

/// A kubeconfig file. Fields that knode does not use are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Kubeconfig {
    /// `v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// `Config`.
    pub kind: String,
    /// Clusters by name.
    #[serde(deserialize_with = "nullable")]
    pub clusters: Vec<Named<ClusterEntry>>,
    /// Contexts by name.
    #[serde(deserialize_with = "nullable")]
    pub contexts: Vec<Named<ContextEntry>>,
    /// The context in use.
    pub current_context: String,
    /// Users by name.
    #[serde(deserialize_with = "nullable")]
    pub users: Vec<Named<UserEntry>>,
    /// Anything else.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, Value>,
}

/// An entry of one of the lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Named<T> {
    /// Its name.
    pub name: String,
    /// What it says; the key in the file is `cluster`, `context` or `user`.
    #[serde(flatten)]
    pub entry: T,
}

/// `cluster: {…}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterEntry {
    /// The cluster.
    pub cluster: Cluster,
}

/// `context: {…}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContextEntry {
    /// The context.
    pub context: Context,
}

/// `user: {…}`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UserEntry {
    /// The user.
    pub user: User,
}

/// Where an API server is and how it is verified.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Cluster {
    /// `https://host:port`.
    pub server: String,
    /// File with the authority's certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<String>,
    /// The same, base64 of PEM; wins over the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<String>,
    /// Name to verify instead of the URL's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// Never accepted by knode, see [`super::Access`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_skip_tls_verify: Option<bool>,
    /// Proxy on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    /// Anything else.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, Value>,
}

/// A user at a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Context {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the user.
    pub user: String,
    /// Default namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Anything else.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, Value>,
}

/// How a user proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct User {
    /// File with the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// The same, base64 of PEM; wins over the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_data: Option<String>,
    /// File with the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<String>,
    /// The same, base64 of PEM; wins over the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_data: Option<String>,
    /// Bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// File with a bearer token.
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// Anything else, such as `exec`.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, Value>,
}

/// Upstream's programs write an empty list as `null`.
fn nullable<'de, D, T>(input: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

impl Kubeconfig {
    /// Reads a file. Relative paths in it stay as they are; [`access`](Self::access) resolves them.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::KubeconfigSyntax`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&files::read(path)?, &path.display().to_string())
    }

    /// Parses YAML or JSON; `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error::KubeconfigSyntax`].
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        serde_norway::from_str(text).map_err(|source| Error::KubeconfigSyntax {
            origin: origin.to_owned(),
            source,
        })
    }

    /// The file's text.
    ///
    /// # Errors
    /// [`Error::KubeconfigSyntax`] if a kept field cannot be written.
    pub fn to_yaml(&self) -> Result<String> {
        serde_norway::to_string(self).map_err(|source| Error::KubeconfigSyntax {
            origin: "to write".to_owned(),
            source,
        })
    }

    /// Puts other authorities in the place of those that stand in the file itself; whether anything changed. Files that
    /// it names are their owner's.
    pub fn replace_authorities(&mut self, ca_pem: &str) -> bool {
        let data = STANDARD.encode(ca_pem);
        let mut changed = false;
        for cluster in &mut self.clusters {
            let own = &mut cluster.entry.cluster.certificate_authority_data;
            if own.as_ref().is_some_and(|old| !old.is_empty() && *old != data) {
                *own = Some(data.clone());
                changed = true;
            }
        }
        changed
    }

    /// Puts another client certificate and key in the place of those that stand in the file itself, for the user of
    /// the current context; whether there were any.
    pub fn replace_identity(&mut self, identity: &Identity) -> bool {
        let current = self.contexts.iter().find(|c| c.name == self.current_context);
        let Some(name) = current.map(|c| c.entry.context.user.clone()) else {
            return false;
        };
        let user = self.users.iter_mut().find(|user| user.name == name);
        let Some(user) = user.filter(|user| user.entry.user.client_certificate_data.is_some()) else {
            return false;
        };
        user.entry.user.client_certificate_data = Some(STANDARD.encode(&identity.cert_pem));
        user.entry.user.client_key_data = Some(STANDARD.encode(&identity.key_pem));
        true
    }

    /// Writes the file atomically, mode 0600.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::KubeconfigSyntax`].
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, self.to_yaml()?.as_bytes(), files::PRIVATE)
    }
}
