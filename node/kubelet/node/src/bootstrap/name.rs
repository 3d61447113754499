//! The name of a bootstrap request (`pkg/kubelet/certificate/bootstrap`, `digestedName`), pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use knode_pki::{PrivateKey, Subject, Usage};
use sha2::{Digest, Sha512_256};

use crate::Result;

/// `node-csr-<digest of key, subject and usages>`: the same node with the same key asks under the same name.
///
/// # Errors
/// [`crate::Error::Credentials`] if the key cannot be encoded.
pub fn request_name(key: &PrivateKey, subject: &Subject, usages: &[Usage]) -> Result<String> {
    let mut digest = Sha512_256::new();
    let mut write = |data: &[u8]| {
        digest.update(URL_SAFE_NO_PAD.encode(data));
        digest.update(b"|");
    };
    write(&key.public_key_der()?);
    write(subject.common_name.as_bytes());
    for organization in &subject.organizations {
        write(organization.as_bytes());
    }
    for usage in usages {
        write(usage.name().as_bytes());
    }
    Ok(format!("node-csr-{}", URL_SAFE_NO_PAD.encode(digest.finalize())))
}
