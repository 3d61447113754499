//! TLS as a server: our certificate, and client certificates for those who have one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::Error;
use crate::config::{Credentials, TlsIdentity};

/// Certificates in PEM.
pub(crate) fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    list.map_err(|error| Error::Pem {
        what,
        why: error.to_string(),
    })
}

/// A private key in PEM.
pub(crate) fn private_key(pem: &str, what: &'static str) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| Error::Pem {
        what,
        why: error.to_string(),
    })
}

/// The authorities in PEM.
pub(crate) fn roots(pem: &str) -> Result<RootCertStore, Error> {
    const WHAT: &str = "the client CA";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, WHAT)? {
        roots
            .add(certificate)
            .map_err(|source| Error::Tls { what: WHAT, source })?;
    }
    Ok(roots)
}

/// The provider of cryptography.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Checks client certificates against the authorities of today.
pub(crate) struct Trust {
    current: RwLock<Arc<dyn ClientCertVerifier>>,
    generation: AtomicU64,
}

impl Trust {
    pub fn new(client_ca_pem: &str) -> Result<Self, Error> {
        Ok(Self {
            current: RwLock::new(verifier(client_ca_pem)?),
            generation: AtomicU64::new(0),
        })
    }

    /// Counts the replacements.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the certificate, with those that came along, is good now.
    pub fn accepts(&self, chain: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
        let Some((leaf, others)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let current = self.current();
        current
            .verify_client_cert(leaf, others, UnixTime::now())
            .map(drop)
    }

    fn current(&self) -> Arc<dyn ClientCertVerifier> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn replace(&self, verifier: Arc<dyn ClientCertVerifier>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = verifier;
        self.generation.fetch_add(1, Ordering::Release);
    }
}

fn verifier(client_ca_pem: &str) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca_pem)?), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| Error::Pem {
            what: "the client CA",
            why: error.to_string(),
        })
}

/// What new connections are made with.
pub(super) fn server_config(credentials: &Credentials, trust: &Trust) -> Result<rustls::ServerConfig, Error> {
    const WHAT: &str = "the server's certificate";
    let TlsIdentity { cert_pem, key_pem } = &credentials.tls;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Tls { what: WHAT, source })?
        .with_client_cert_verifier(trust.current())
        .with_single_cert(certificates(cert_pem, WHAT)?, private_key(key_pem, WHAT)?)
        .map_err(|source| Error::Tls { what: WHAT, source })?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// As [`server_config`], with the authorities of `credentials` trusted from now on; nothing changes on an error.
pub(super) fn renewed(credentials: &Credentials, trust: &Trust) -> Result<rustls::ServerConfig, Error> {
    let candidate = Trust::new(&credentials.client_ca_pem)?;
    let config = server_config(credentials, &candidate)?;
    trust.replace(candidate.current());
    Ok(config)
}
