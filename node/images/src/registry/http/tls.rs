//! TLS of one endpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::registry::error::HostsError;
use crate::registry::hosts::TlsFiles;

/// The configurations for an endpoint, and for hosts that it redirects to: those never see its client certificate.
pub(super) struct Configurations {
    pub own: Arc<ClientConfig>,
    pub elsewhere: Arc<ClientConfig>,
}

/// Reads the certificates and makes both configurations. Blocks. A machine without any authority gets
/// configurations that trust no one.
pub(super) fn configurations(files: &TlsFiles) -> Result<Configurations, HostsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(files, &provider)?;
    let base = || {
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of TLS 1.2 and 1.3");
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
    };
    let elsewhere = Arc::new(base().with_no_client_auth());
    let own = match files.client.first() {
        None => elsewhere.clone(),
        Some((certificate, key)) => {
            let key_file = key.as_deref().unwrap_or(certificate);
            let chain = certificates(certificate)?;
            let key =
                PrivateKeyDer::from_pem_file(key_file).map_err(|error| bad(key_file, error.to_string()))?;
            let config = base().with_client_auth_cert(chain, key);
            Arc::new(config.map_err(|error| bad(certificate, error.to_string()))?)
        }
    };
    Ok(Configurations { own, elsewhere })
}

fn verifier(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, HostsError> {
    if files.skip_verify {
        return Ok(without_authorities(provider, true));
    }
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "some of the machine's certificate authorities cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    for path in &files.ca {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| bad(path, error.to_string()))?;
        }
    }
    if roots.is_empty() {
        return Ok(without_authorities(provider, false));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let verifier = verifier.map_err(|error| HostsError::Certificate {
        path: PathBuf::new(),
        reason: error.to_string(),
    })?;
    Ok(verifier)
}

fn without_authorities(provider: &Arc<CryptoProvider>, trusting: bool) -> Arc<dyn ServerCertVerifier> {
    Arc::new(WithoutAuthorities {
        provider: provider.clone(),
        trusting,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, HostsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(|found| found.collect::<Result<Vec<_>, _>>());
    match read {
        Ok(found) if found.is_empty() => Err(bad(path, "there is no certificate in it".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(bad(path, error.to_string())),
    }
}

fn bad(path: &Path, reason: String) -> HostsError {
    HostsError::Certificate {
        path: path.to_owned(),
        reason,
    }
}

/// What stands in for authorities: nothing, so that any certificate will do (`skip_verify`), or a refusal that says why.
/// The handshake's signatures are checked all the same.
#[derive(Debug)]
struct WithoutAuthorities {
    provider: Arc<CryptoProvider>,
    trusting: bool,
}

impl ServerCertVerifier for WithoutAuthorities {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let text = "this machine has no certificate authorities; install ca-certificates";
        match self.trusting {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::Error::General(text.to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
