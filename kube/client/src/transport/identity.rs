//! A client certificate that can be replaced while connections are open.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use knode_pki::Certificate;
use knode_pki::kubeconfig::{Access, Material};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;

use super::origin::Origin;
use crate::{Error, Result};

/// The certificate that a client shows. Once it is replaced, requests go out over new connections; the old ones end
/// when their requests have been answered, or a little later (client-go's `connrotation`, which cuts them off).
pub struct ClientIdentity {
    current: RwLock<Arc<CertifiedKey>>,
    generation: watch::Sender<u64>,
    origin: Option<Arc<Origin>>,
    /// What the origin has said last.
    seen: Mutex<Option<(String, String)>>,
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientIdentity")
            .field("generation", &*self.generation.borrow())
            .field("files", &self.origin.as_ref().map(|origin| origin.files()))
            .finish_non_exhaustive()
    }
}

impl ClientIdentity {
    /// An identity out of PEM text.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Certificate`].
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self> {
        let current = RwLock::new(Arc::new(certified_key(cert_pem, key_pem)?));
        Ok(Self {
            current,
            generation: watch::Sender::new(0),
            origin: None,
            seen: Mutex::new(None),
        })
    }

    /// An identity out of files, which may be one and the same (and a symbolic link).
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Certificate`].
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self> {
        let access = Access {
            client_cert: Some(Material::File(cert.to_owned())),
            client_key: Some(Material::File(key.to_owned())),
            ..Access::default()
        };
        let found = Self::of(&Arc::new(Origin::Given(Box::new(access))))?;
        found.ok_or(Error::Credentials(knode_pki::Error::PrivateKey))
    }

    /// The identity that the origin holds, if it holds one.
    pub(super) fn of(origin: &Arc<Origin>) -> Result<Option<Self>> {
        let Some(texts) = origin.identity()? else {
            return Ok(None);
        };
        let mut identity = Self::from_pem(&texts.0, &texts.1)?;
        identity.origin = Some(origin.clone());
        identity.seen = Mutex::new(Some(texts));
        Ok(Some(identity))
    }

    /// Shows another certificate from now on; the connections made with the old one come to their end.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Certificate`]; then the old one stays.
    pub fn replace(&self, cert_pem: &str, key_pem: &str) -> Result<()> {
        let key = Arc::new(certified_key(cert_pem, key_pem)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = key;
        self.generation.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Reads the files again; whether they had changed.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Certificate`]; then the old certificate stays.
    pub fn reload(&self) -> Result<bool> {
        let Some(origin) = &self.origin else {
            return Ok(false);
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(texts) = origin.identity()? else {
            return Ok(false);
        };
        if seen.as_ref() == Some(&texts) {
            return Ok(false);
        }
        self.replace(&texts.0, &texts.1)?;
        *seen = Some(texts);
        Ok(true)
    }

    /// What the certificate says.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    pub fn certificate(&self) -> Result<Certificate> {
        let current = self.current();
        let leaf = current.cert.first().map(AsRef::as_ref).unwrap_or_default();
        Certificate::from_der(leaf).map_err(Error::Credentials)
    }

    /// Changes with each replacement; connections listen here.
    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Counts the replacements.
    pub(crate) fn replaced(&self) -> u64 {
        *self.generation.borrow()
    }

    pub(crate) fn reload_logged(&self) {
        match self.reload() {
            Ok(true) => tracing::info!(identity = ?self, "client certificate taken up anew"),
            Ok(false) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "client certificate kept"
            ),
        }
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified_key(cert_pem: &str, key_pem: &str) -> Result<CertifiedKey> {
    let chain = knode_pki::pem_certificates(cert_pem).map_err(Error::Credentials)?;
    let chain = chain.into_iter().map(Into::into).collect();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|_| Error::Credentials(knode_pki::Error::PrivateKey))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(Error::Certificate)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(Error::Certificate)?;
    Ok(certified)
}
