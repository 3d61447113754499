//! What a kubeconfig's current context comes to.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::file::{Cluster, ClusterEntry, Context, ContextEntry, Kubeconfig, Named, User, UserEntry};
use crate::{Error, Result, files};

const CLUSTER: &str = "default-cluster";
const USER: &str = "default-auth";
const CONTEXT: &str = "default-context";

/// PEM text or a token, in the file itself or in another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// The text itself.
    Data(String),
    /// A file that holds it, read anew when it may have changed.
    File(PathBuf),
}

impl Material {
    /// The text now.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn read(&self) -> Result<String> {
        match self {
            Self::Data(text) => Ok(text.clone()),
            Self::File(path) => files::read(path),
        }
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Data(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

/// One way into one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `https://host:port`.
    pub server: String,
    /// The authority's certificates; none means the system's, which knode does not use.
    pub ca: Option<Material>,
    /// Name to verify instead of the URL's host.
    pub tls_server_name: Option<String>,
    /// Client certificate; the file may hold the key too.
    pub client_cert: Option<Material>,
    /// Its key.
    pub client_key: Option<Material>,
    /// Bearer token.
    pub token: Option<Material>,
    /// Default namespace.
    pub namespace: Option<String>,
}

impl Kubeconfig {
    /// The current context, with relative paths resolved against `base` (the kubeconfig's directory).
    ///
    /// # Errors
    /// [`Error::Kubeconfig`] if a name is dangling or base64 is broken, [`Error::Unsupported`] for exec plug-ins,
    /// basic authentication, proxies and unverified TLS.
    pub fn access(&self, base: &Path, origin: &str) -> Result<Access> {
        let refuse = |reason: String| Error::Kubeconfig {
            origin: origin.to_owned(),
            reason,
        };
        let current = match (self.current_context.as_str(), self.contexts.as_slice()) {
            ("", [only]) => &only.name,
            ("", _) => return Err(refuse("no current-context".to_owned())),
            _ => &self.current_context,
        };
        let missing = |kind: &str, name: &str| refuse(format!("no {kind} named {name:?}"));
        let context = named(&self.contexts, current).ok_or_else(|| missing("context", current))?;
        let context = &context.context;
        let cluster =
            named(&self.clusters, &context.cluster).ok_or_else(|| missing("cluster", &context.cluster))?;
        let user = named(&self.users, &context.user).ok_or_else(|| missing("user", &context.user))?;
        check_supported(&cluster.cluster, &user.user, origin)?;
        let reader = Reader { base, origin };
        reader.access(&cluster.cluster, &user.user, context.namespace.clone())
    }

    /// Reads a file and resolves its current context.
    ///
    /// # Errors
    /// Those of [`load`](Self::load) and [`access`](Self::access).
    pub fn load_access(path: &Path) -> Result<Access> {
        let base = path.parent().unwrap_or(Path::new("."));
        Self::load(path)?.access(base, &path.display().to_string())
    }

    /// A kubeconfig with this one way in, under the names that upstream's kubelet writes.
    pub fn for_access(access: &Access) -> Self {
        let mut cluster = Cluster {
            server: access.server.clone(),
            tls_server_name: access.tls_server_name.clone(),
            ..Cluster::default()
        };
        (cluster.certificate_authority, cluster.certificate_authority_data) = split(&access.ca);
        let mut user = User::default();
        (user.client_certificate, user.client_certificate_data) = split(&access.client_cert);
        (user.client_key, user.client_key_data) = split(&access.client_key);
        match &access.token {
            Some(Material::Data(token)) => user.token = Some(token.clone()),
            Some(Material::File(path)) => user.token_file = Some(path.display().to_string()),
            None => {}
        }
        let context = Context {
            cluster: CLUSTER.to_owned(),
            user: USER.to_owned(),
            namespace: Some(access.namespace.clone().unwrap_or_else(|| "default".to_owned())),
            ..Context::default()
        };
        Self {
            api_version: "v1".to_owned(),
            kind: "Config".to_owned(),
            clusters: vec![Named {
                name: CLUSTER.to_owned(),
                entry: ClusterEntry { cluster },
            }],
            contexts: vec![Named {
                name: CONTEXT.to_owned(),
                entry: ContextEntry { context },
            }],
            current_context: CONTEXT.to_owned(),
            users: vec![Named {
                name: USER.to_owned(),
                entry: UserEntry { user },
            }],
            ..Self::default()
        }
    }
}

struct Reader<'a> {
    base: &'a Path,
    origin: &'a str,
}

impl Reader<'_> {
    fn access(&self, cluster: &Cluster, user: &User, namespace: Option<String>) -> Result<Access> {
        let ca = self.material(
            &cluster.certificate_authority_data,
            &cluster.certificate_authority,
        )?;
        let token = match (&user.token, &user.token_file) {
            (_, Some(file)) if !file.is_empty() => Some(Material::File(self.base.join(file))),
            (Some(token), _) if !token.is_empty() => Some(Material::Data(token.clone())),
            _ => None,
        };
        Ok(Access {
            server: cluster.server.clone(),
            ca,
            tls_server_name: cluster.tls_server_name.clone(),
            client_cert: self.material(&user.client_certificate_data, &user.client_certificate)?,
            client_key: self.material(&user.client_key_data, &user.client_key)?,
            token,
            namespace,
        })
    }

    fn material(&self, data: &Option<String>, file: &Option<String>) -> Result<Option<Material>> {
        if let Some(data) = data.as_ref().filter(|data| !data.is_empty()) {
            let bytes = STANDARD.decode(data.trim()).map_err(|error| error.to_string());
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string()));
            let reason = |error| format!("embedded data is not base64 of text: {error}");
            let refuse = |error| Error::Kubeconfig {
                origin: self.origin.to_owned(),
                reason: reason(error),
            };
            return Ok(Some(Material::Data(text.map_err(refuse)?)));
        }
        let file = file.as_ref().filter(|file| !file.is_empty());
        Ok(file.map(|file| Material::File(self.base.join(file))))
    }
}

fn check_supported(cluster: &Cluster, user: &User, origin: &str) -> Result<()> {
    let unsupported = [
        (user.extra.contains_key("exec"), "exec"),
        (user.extra.contains_key("auth-provider"), "auth-provider"),
        (user.extra.contains_key("username"), "username/password"),
        (
            cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()),
            "proxy-url",
        ),
        (
            cluster.insecure_skip_tls_verify == Some(true),
            "insecure-skip-tls-verify",
        ),
    ];
    match unsupported.iter().find(|(used, _)| *used) {
        Some((_, feature)) => Err(Error::Unsupported {
            origin: origin.to_owned(),
            feature,
        }),
        None => Ok(()),
    }
}

fn named<'a, T>(list: &'a [Named<T>], name: &str) -> Option<&'a T> {
    list.iter()
        .find(|entry| entry.name == name)
        .map(|entry| &entry.entry)
}

/// `(file, data)` as the file format wants them.
fn split(material: &Option<Material>) -> (Option<String>, Option<String>) {
    match material {
        Some(Material::Data(text)) => (None, Some(STANDARD.encode(text))),
        Some(Material::File(path)) => (Some(path.display().to_string()), None),
        None => (None, None),
    }
}
