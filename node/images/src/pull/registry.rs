//! One repository of one registry.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};

use super::Fetched;
use super::error::{ManifestError, PullError, is_absent, reason};
use super::manifest::{ACCEPTED, Descriptor};
use crate::digest::Digest;
use crate::reference::Reference;

/// Largest configuration that is read into memory.
const CONFIG_LIMIT: u64 = 8 << 20;

/// How registries are reached: HTTPS, but for loopback names and those listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// Registries (`host` or `host:port`) spoken to without TLS. Loopback addresses need not be listed.
    pub plain_http: Vec<String>,
    /// Directory with certificate authorities by registry, `<host[:port]>/*.crt`, trusted besides the machine's own.
    pub certs_dir: Option<PathBuf>,
}

impl Registries {
    /// The authorities configured for this registry.
    fn certificates(&self, reference: &Reference) -> Result<Vec<Certificate>, PullError> {
        let Some(dir) = self.certs_dir.as_ref().map(|dir| dir.join(&reference.domain)) else {
            return Ok(Vec::new());
        };
        let read = || -> std::io::Result<Vec<Certificate>> {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(&dir)? {
                let path = entry?.path();
                if path.extension().is_some_and(|ending| ending == "crt") {
                    found.push(Certificate {
                        encoding: CertificateEncoding::Pem,
                        data: std::fs::read(path)?,
                    });
                }
            }
            Ok(found)
        };
        match read() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(|error| PullError::Client {
                registry: reference.domain.clone(),
                reason: format!("{}: {error}", dir.display()),
            }),
        }
    }

    /// True when this registry is spoken to without TLS.
    pub fn is_plain(&self, reference: &Reference) -> bool {
        let host = reference.host();
        let loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        loopback
            || self
                .plain_http
                .iter()
                .any(|name| *name == reference.domain || name == host)
    }
}

/// Credentials for one pull.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Auth {
    /// None; an anonymous token is fetched where the registry asks for one.
    #[default]
    Anonymous,
    /// User and password, sent to the registry or to the token service that it names.
    Basic {
        /// The user.
        username: String,
        /// The password or access token.
        password: String,
    },
    /// A token for the registry itself.
    Bearer(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

impl From<&Auth> for RegistryAuth {
    fn from(auth: &Auth) -> Self {
        match auth {
            Auth::Anonymous => Self::Anonymous,
            Auth::Basic { username, password } => Self::Basic(username.clone(), password.clone()),
            Auth::Bearer(token) => Self::Bearer(token.clone()),
        }
    }
}

/// A connection to the repository that a reference names.
pub(super) struct Registry {
    client: Client,
    reference: Reference,
    remote: oci_client::Reference,
    auth: RegistryAuth,
    scheme: &'static str,
}

impl Registry {
    /// Makes the client. Nothing is sent yet.
    pub(super) fn connect(
        registries: &Registries,
        reference: &Reference,
        auth: &Auth,
    ) -> Result<Self, PullError> {
        // Whoever installs a provider first wins; knode installs this one everywhere.
        drop(rustls::crypto::ring::default_provider().install_default());
        let remote = remote(reference);
        let plain = registries.is_plain(reference);
        let exceptions = if plain {
            vec![remote.resolve_registry().to_owned()]
        } else {
            Vec::new()
        };
        let refused = |reason: String| PullError::Client {
            registry: reference.domain.clone(),
            reason,
        };
        require_authorities().map_err(refused)?;
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(exceptions),
            user_agent: concat!("knode/", env!("CARGO_PKG_VERSION")),
            connect_timeout: Some(std::time::Duration::from_secs(30)),
            read_timeout: Some(std::time::Duration::from_secs(300)),
            extra_root_certificates: registries.certificates(reference)?,
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| refused(reason(&error)))?;
        let scheme = if plain { "http" } else { "https" };
        Ok(Self {
            client,
            reference: reference.clone(),
            remote,
            auth: auth.into(),
            scheme,
        })
    }

    /// Authenticates and fetches what the reference names.
    pub(super) async fn resolve(&self) -> Result<Fetched, PullError> {
        let fail = |error: &OciDistributionError| PullError::Resolve(self.resolve_reason(error));
        self.client
            .auth(&self.remote, &self.auth, RegistryOperation::Pull)
            .await
            .map_err(|error| fail(&error))?;
        let fetched = self.fetch(&self.remote).await.map_err(|error| fail(&error))?;
        check("manifest", fetched, self.reference.digest.as_ref())
    }

    /// Fetches a manifest of an index.
    pub(super) async fn manifest(&self, descriptor: &Descriptor) -> Result<Fetched, PullError> {
        let remote = self.remote.clone_with_digest(descriptor.digest.to_string());
        let fetched = self
            .fetch(&remote)
            .await
            .map_err(|error| failed_copy(descriptor, &error))?;
        check("manifest", fetched, Some(&descriptor.digest))
    }

    /// Fetches an image's configuration.
    pub(super) async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, PullError> {
        let too_big = |size| PullError::Manifest(ManifestError::ConfigSize(size));
        if descriptor.size > CONFIG_LIMIT {
            return Err(too_big(descriptor.size));
        }
        let mut stream = self.blob(descriptor).await?;
        let mut bytes = Vec::with_capacity(descriptor.size as usize);
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| broken_copy(descriptor, &error))?;
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > CONFIG_LIMIT {
                return Err(too_big(bytes.len() as u64));
            }
        }
        let fetched = Fetched {
            digest: Digest::of(&bytes),
            bytes,
        };
        Ok(check("configuration", fetched, Some(&descriptor.digest))?.bytes)
    }

    /// Opens a blob for reading. Its digest is for the reader to verify.
    pub(super) async fn blob(
        &self,
        descriptor: &Descriptor,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, PullError> {
        let layer = OciDescriptor {
            digest: descriptor.digest.to_string(),
            ..OciDescriptor::default()
        };
        let stream = self.client.pull_blob_stream(&self.remote, &layer).await;
        Ok(stream.map_err(|error| failed_copy(descriptor, &error))?.stream)
    }

    async fn fetch(&self, remote: &oci_client::Reference) -> Result<Fetched, OciDistributionError> {
        let (bytes, _) = self
            .client
            .pull_manifest_raw(remote, &self.auth, &ACCEPTED)
            .await?;
        Ok(Fetched {
            digest: Digest::of(&bytes),
            bytes: bytes.to_vec(),
        })
    }

    fn resolve_reason(&self, error: &OciDistributionError) -> String {
        match error {
            OciDistributionError::RequestError(_) => {
                let last = self
                    .reference
                    .digest
                    .as_ref()
                    .map(Digest::as_str)
                    .or(self.reference.tag.as_deref());
                let (registry, path) = (self.remote.resolve_registry(), &self.reference.path);
                let url = format!(
                    "{}://{registry}/v2/{path}/manifests/{}",
                    self.scheme,
                    last.unwrap_or("latest")
                );
                format!("failed to do request: Head {url:?}: {}", reason(error))
            }
            _ if is_absent(error) => format!("{}: not found: {}", self.reference, reason(error)),
            _ => format!("{}: {}", self.reference, reason(error)),
        }
    }
}

/// The reference in the client's own type, asked for by digest where there is one.
fn remote(reference: &Reference) -> oci_client::Reference {
    let (domain, path) = (reference.domain.clone(), reference.path.clone());
    match (&reference.digest, &reference.tag) {
        (Some(digest), _) => oci_client::Reference::with_digest(domain, path, digest.to_string()),
        (None, tag) => {
            oci_client::Reference::with_tag(domain, path, tag.clone().unwrap_or_else(|| "latest".to_owned()))
        }
    }
}

/// The HTTP client that the registry client makes panics on a machine without any certificate authority, even for
/// registries without TLS.
fn require_authorities() -> Result<(), String> {
    static PRESENT: AtomicBool = AtomicBool::new(false);
    if PRESENT.load(Ordering::Relaxed) {
        return Ok(());
    }
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        return Err("this machine has no certificate authorities; install ca-certificates".to_owned());
    }
    PRESENT.store(true, Ordering::Relaxed);
    Ok(())
}

fn failed_copy(descriptor: &Descriptor, error: &OciDistributionError) -> PullError {
    let reason = match is_absent(error) {
        true => format!("not found: {}", reason(error)),
        false => reason(error),
    };
    PullError::Fetch {
        digest: descriptor.digest.clone(),
        reason,
    }
}

pub(super) fn broken_copy(descriptor: &Descriptor, error: &std::io::Error) -> PullError {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    PullError::Fetch {
        digest: descriptor.digest.clone(),
        reason: cause.to_string(),
    }
}

fn check(what: &'static str, fetched: Fetched, expected: Option<&Digest>) -> Result<Fetched, PullError> {
    match expected {
        Some(expected) if *expected != fetched.digest => Err(PullError::Manifest(ManifestError::Digest {
            what,
            found: fetched.digest,
            expected: expected.clone(),
        })),
        _ => Ok(fetched),
    }
}
