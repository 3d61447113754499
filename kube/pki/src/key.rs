//! ECDSA P-256 private keys.

use p256::SecretKey;
use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use p256::pkcs8::{DecodePrivateKey, EncodePublicKey, LineEnding};

use crate::{Error, Result};

/// An ECDSA P-256 private key, the only kind that knode makes.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(P-256)")
    }
}

impl PrivateKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self(SigningKey::generate_from_rng(&mut rand::rng()))
    }

    /// Reads the first private key in PEM text (SEC1 `EC PRIVATE KEY` or PKCS#8 `PRIVATE KEY`); other blocks,
    /// such as certificates, may stand around it.
    ///
    /// # Errors
    /// [`Error::PrivateKey`] if there is none, or it is no P-256 key.
    pub fn from_pem(text: &str) -> Result<Self> {
        if let Some(block) = pem_block(text, "EC PRIVATE KEY") {
            let key = SecretKey::from_sec1_pem(block).map_err(|_| Error::PrivateKey)?;
            return Ok(Self(SigningKey::from(key)));
        }
        let block = pem_block(text, "PRIVATE KEY").ok_or(Error::PrivateKey)?;
        SigningKey::from_pkcs8_pem(block)
            .map(Self)
            .map_err(|_| Error::PrivateKey)
    }

    /// The key as SEC1 PEM (`EC PRIVATE KEY`), as upstream's tools write it.
    ///
    /// # Errors
    /// [`Error::PrivateKey`] if it cannot be encoded.
    pub fn to_pem(&self) -> Result<String> {
        let secret = SecretKey::from(&self.0);
        let pem = secret
            .to_sec1_pem(LineEnding::LF)
            .map_err(|_| Error::PrivateKey)?;
        Ok(pem.to_string())
    }

    /// The public key as SubjectPublicKeyInfo DER.
    ///
    /// # Errors
    /// [`Error::PrivateKey`] if it cannot be encoded.
    pub fn public_key_der(&self) -> Result<Vec<u8>> {
        let document = self
            .0
            .verifying_key()
            .to_public_key_der()
            .map_err(|_| Error::PrivateKey)?;
        Ok(document.into_vec())
    }

    /// The public key as PEM (`PUBLIC KEY`).
    ///
    /// # Errors
    /// [`Error::PrivateKey`] if it cannot be encoded.
    pub fn public_key_pem(&self) -> Result<String> {
        self.0
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| Error::PrivateKey)
    }

    /// The uncompressed public point (`04 || x || y`, 65 bytes).
    pub(crate) fn public_point(&self) -> Vec<u8> {
        self.0.verifying_key().to_sec1_point(false).as_bytes().to_vec()
    }

    pub(crate) fn signing_key(&self) -> &SigningKey {
        &self.0
    }
}

/// The first PEM block with this label, markers included.
pub(crate) fn pem_block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let start = text.find(&begin)?;
    let length = text[start..].find(&end)? + end.len();
    Some(&text[start..start + length])
}
