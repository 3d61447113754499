//! The certificate that the kubelet's server shows; it can be replaced while the server runs.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use knode_pki::{Certificate, Identity, Profile, Subject, SubjectAltNames, files};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::{Error, Result};

const SELF_SIGNED_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// A server certificate that can be replaced.
pub struct ServingCertificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServingCertificate")
    }
}

impl ServingCertificate {
    /// Begins with this certificate.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Tls`].
    pub fn new(identity: &Identity) -> Result<Self> {
        Ok(Self {
            current: RwLock::new(Arc::new(certified(identity)?)),
        })
    }

    /// Shows another certificate from the next connection on.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Tls`]; then the old one stays.
    pub fn replace(&self, identity: &Identity) -> Result<()> {
        let key = Arc::new(certified(identity)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

fn certified(identity: &Identity) -> Result<CertifiedKey> {
    let chain = knode_pki::pem_certificates(&identity.cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
        .map_err(|_| knode_pki::Error::PrivateKey)?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(Error::Tls)?;
    let certified = CertifiedKey::new(chain.into_iter().map(Into::into).collect(), key);
    match certified.keys_match() {
        // What a key can't say of itself is no contradiction.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(Error::Tls(error)),
    }
}

/// The self-signed stand-in (`kubelet.crt`, `kubelet.key`) for as long as nobody has approved the node's request;
/// what an earlier start left is used if it still fits.
///
/// # Errors
/// [`Error::Credentials`].
pub(crate) fn self_signed(
    dir: &Path,
    node_name: &str,
    names: &SubjectAltNames,
    now: Timestamp,
) -> Result<Identity> {
    let (cert_path, key_path) = (dir.join("kubelet.crt"), dir.join("kubelet.key"));
    if let (Some(cert_pem), true) = (files::read_optional(&cert_path)?, key_path.exists()) {
        let key_pem = files::read_private(&key_path)?;
        let usable = |found: Certificate| found.is_valid_at(now) && found.names.covers(names);
        if Certificate::from_pem(&cert_pem).is_ok_and(usable) {
            return Ok(Identity { cert_pem, key_pem });
        }
    }
    files::create_private_dir(dir)?;
    let subject = Subject::new(node_name, &[]);
    let identity = Identity::self_signed(
        &Profile::server(subject, names.clone(), SELF_SIGNED_LIFETIME),
        now,
    )?;
    files::write_atomic(&key_path, identity.key_pem.as_bytes(), files::PRIVATE)?;
    files::write_atomic(&cert_path, identity.cert_pem.as_bytes(), files::PUBLIC)?;
    Ok(identity)
}
