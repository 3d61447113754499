//! Verifying servers by authorities that can be replaced while the client is in use.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::origin::Origin;
use crate::{Error, Result};

/// The authorities by which a client verifies its server, as they are at each handshake.
#[derive(Debug)]
pub(super) struct Authorities {
    origin: Arc<Origin>,
    current: RwLock<Arc<WebPkiServerVerifier>>,
    seen: Mutex<String>,
}

impl Authorities {
    pub(super) fn read(origin: Arc<Origin>) -> Result<Self> {
        let pem = origin.authority()?;
        Ok(Self {
            current: RwLock::new(verifier(&pem)?),
            seen: Mutex::new(pem),
            origin,
        })
    }

    /// Takes up what the files hold now; what cannot be used is logged, and the old authorities stay.
    pub(super) fn reload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = self.origin.authority().and_then(|pem| {
            if *seen == pem {
                return Ok(None);
            }
            Ok(Some((verifier(&pem)?, pem)))
        });
        match replaced {
            Ok(None) => {}
            Ok(Some((verifier, pem))) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = verifier;
                *seen = pem;
                tracing::info!(origin = ?self.origin.files(), "certificate authorities taken up anew");
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "certificate authorities kept"
            ),
        }
    }

    fn current(&self) -> Arc<WebPkiServerVerifier> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn verifier(pem: &str) -> Result<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in knode_pki::pem_certificates(pem).map_err(Error::Credentials)? {
        roots.add(certificate.into()).map_err(Error::Authority)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    builder
        .build()
        .map_err(|error| Error::Authority(rustls::Error::General(error.to_string())))
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.current()
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.current().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.current().supported_verify_schemes()
    }
}
