//! TLS as a server: our certificate, and client certificates for those who have one.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Error;
use crate::config::{ApiServerConfig, TlsIdentity};

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

pub(super) fn server_config(config: &ApiServerConfig) -> Result<rustls::ServerConfig, Error> {
    const WHAT: &str = "the server's certificate";
    let TlsIdentity { cert_pem, key_pem } = &config.tls;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&config.client_ca_pem)?), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::Pem {
                what: "the client CA",
                why: error.to_string(),
            })?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Tls { what: WHAT, source })?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(cert_pem, WHAT)?, private_key(key_pem, WHAT)?)
        .map_err(|source| Error::Tls { what: WHAT, source })?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}
