//! Certificate files as upstream's kubelet lays them out (`client-go/util/certificate/certificate_store.go`).

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use knode_pki::{Identity, files, split_identity_pem};

use crate::Result;

/// Files `<prefix>-<date>.pem` (certificate and key, 0600) and the link `<prefix>-current.pem`.
#[derive(Clone, Debug)]
pub struct CertificateStore {
    dir: PathBuf,
    prefix: &'static str,
}

impl CertificateStore {
    /// A store in `dir` for `kubelet-client` or `kubelet-server`.
    pub fn new(dir: &Path, prefix: &'static str) -> Self {
        Self {
            dir: dir.to_owned(),
            prefix,
        }
    }

    /// The link to the certificate in use.
    pub fn current_path(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.prefix))
    }

    /// The certificate in use, if there is one.
    ///
    /// # Errors
    /// [`crate::Error::Credentials`] if the file is there and unusable.
    pub fn current(&self) -> Result<Option<Identity>> {
        let Some(text) = files::read_optional(&self.current_path())? else {
            return Ok(None);
        };
        let (cert_pem, key_pem) = split_identity_pem(&text)?;
        Ok(Some(Identity { cert_pem, key_pem }))
    }

    /// Writes a new certificate and points the link at it.
    ///
    /// # Errors
    /// [`crate::Error::Credentials`]; then the old one stays in use.
    pub fn update(&self, identity: &Identity, now: Timestamp) -> Result<PathBuf> {
        files::create_private_dir(&self.dir)?;
        let date = now.strftime("%Y-%m-%d-%H-%M-%S");
        let path = self.dir.join(format!("{}-{date}.pem", self.prefix));
        let text = format!("{}{}", identity.cert_pem, identity.key_pem);
        files::write_atomic(&path, text.as_bytes(), files::PRIVATE)?;
        files::symlink_atomic(&path, &self.current_path())?;
        Ok(path)
    }
}
