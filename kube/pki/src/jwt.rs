//! Signing and verifying service-account tokens: JWS with ES256, nothing else.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::Signature;
use p256::ecdsa::signature::Signer;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::key::PrivateKey;
use crate::{Result, files};

/// Why a token was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// Not three base64url parts with JSON inside.
    #[error("not a signed token")]
    Malformed,
    /// The header names another algorithm than ES256.
    #[error("token is signed with {0:?}, want ES256")]
    Algorithm(String),
    /// No key with the header's `kid`.
    #[error("token is signed by unknown key {0:?}")]
    UnknownKey(String),
    /// The signature is not that of the key.
    #[error("the token's signature is wrong")]
    Signature,
}

/// The key that signs service-account tokens.
#[derive(Clone, Debug)]
pub struct ServiceAccountKey {
    key: PrivateKey,
    id: String,
}

impl ServiceAccountKey {
    /// A new key.
    ///
    /// # Errors
    /// [`crate::Error::PrivateKey`].
    pub fn generate() -> Result<Self> {
        Self::new(PrivateKey::generate())
    }

    /// Takes an existing key.
    ///
    /// # Errors
    /// [`crate::Error::PrivateKey`].
    pub fn new(key: PrivateKey) -> Result<Self> {
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(key.public_key_der()?));
        Ok(Self { key, id })
    }

    /// Loads the key from a file (mode 0600), or makes it there.
    ///
    /// # Errors
    /// [`crate::Error::Read`], [`crate::Error::Write`], [`crate::Error::WeakPermissions`],
    /// [`crate::Error::PrivateKey`].
    pub fn load_or_create(path: &Path) -> Result<Self> {
        if path.exists() {
            return Self::new(PrivateKey::from_pem(&files::read_private(path)?)?);
        }
        let key = Self::generate()?;
        files::write_atomic(path, key.key.to_pem()?.as_bytes(), files::PRIVATE)?;
        Ok(key)
    }

    /// The key's `kid`: base64url of SHA-256 of the public key, as upstream's token generator makes it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key, PEM.
    ///
    /// # Errors
    /// [`crate::Error::PrivateKey`].
    pub fn public_key_pem(&self) -> Result<String> {
        self.key.public_key_pem()
    }

    /// Signs claims into a compact token.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.id});
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature: Signature = self.key.signing_key().sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    /// The keys with which this key's tokens are verified.
    pub fn verifying_keys(&self) -> VerifyingKeys {
        VerifyingKeys {
            keys: vec![(self.id.clone(), self.key.public_point())],
        }
    }

    /// Verifies a token of this key and gives its claims. Times and audiences are the caller's to judge.
    ///
    /// # Errors
    /// [`JwtError`].
    pub fn verify(&self, token: &str) -> Result<Value, JwtError> {
        self.verifying_keys().verify(token)
    }
}

/// Public keys by `kid`.
#[derive(Clone, Debug, Default)]
pub struct VerifyingKeys {
    keys: Vec<(String, Vec<u8>)>,
}

impl VerifyingKeys {
    /// Adds the keys of another set: tokens of an older signing key stay valid.
    pub fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
    }

    /// Verifies a token and gives its claims. Times and audiences are the caller's to judge.
    ///
    /// # Errors
    /// [`JwtError`].
    pub fn verify(&self, token: &str) -> Result<Value, JwtError> {
        let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(JwtError::Malformed)?;
        let header = decode(header)?;
        let algorithm = header["alg"].as_str().unwrap_or_default();
        if algorithm != "ES256" {
            return Err(JwtError::Algorithm(algorithm.to_owned()));
        }
        let id = header["kid"].as_str().unwrap_or_default();
        let key = self.keys.iter().find(|(known, _)| known == id);
        let (_, point) = key.ok_or_else(|| JwtError::UnknownKey(id.to_owned()))?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| JwtError::Malformed)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(message.as_bytes(), &signature)
            .map_err(|_| JwtError::Signature)?;
        decode(claims)
    }

    /// The keys as a JSON Web Key Set, as `/openid/v1/jwks` serves it.
    pub fn jwks(&self) -> Value {
        let key = |(id, point): &(String, Vec<u8>)| {
            json!({
                "use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256",
                "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
                "y": URL_SAFE_NO_PAD.encode(&point[33..]),
            })
        };
        json!({"keys": self.keys.iter().map(key).collect::<Vec<_>>()})
    }
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn decode(part: &str) -> Result<Value, JwtError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed)
}
