//! A serving certificate that the administrator gives (`tlsCertFile`, `tlsPrivateKeyFile`), taken up anew when its files
//! change (upstream: `ReloadKubeletServerCertificateFile`).

use std::path::PathBuf;
use std::sync::Arc;

use knode_pki::{Identity, files};

use super::follow::follow;
use super::serving::ServingCertificate;
use crate::{Error, Result};

/// Where it lies; both files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenCertificate {
    /// The certificate and those that it is signed with.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl GivenCertificate {
    /// The certificate to serve with.
    ///
    /// # Errors
    /// [`Error::Credentials`], [`Error::Given`].
    pub(crate) fn load(&self) -> Result<(Arc<ServingCertificate>, Identity)> {
        let identity = self.read()?;
        let serving = ServingCertificate::new(&identity).map_err(|source| self.unusable(source))?;
        Ok((Arc::new(serving), identity))
    }

    /// Shows another than `seen` as soon as the files hold one, for ever.
    pub(crate) async fn follow(self, serving: Arc<ServingCertificate>, mut seen: Identity) {
        // What was written before the files are watched is seen by the second look.
        let mut watched = false;
        let take_up = || {
            if std::mem::replace(&mut watched, true) {
                let now = self.read()?;
                if (&now.cert_pem, &now.key_pem) != (&seen.cert_pem, &seen.key_pem) {
                    serving.replace(&now).map_err(|source| self.unusable(source))?;
                    tracing::info!(path = %self.cert.display(), "serving certificate taken up anew");
                    seen = now;
                }
            }
            Ok(vec![self.cert.clone(), self.key.clone()])
        };
        follow("the serving certificate", take_up).await;
    }

    fn read(&self) -> Result<Identity> {
        Ok(Identity {
            cert_pem: files::read(&self.cert)?,
            key_pem: files::read(&self.key)?,
        })
    }

    fn unusable(&self, source: Error) -> Error {
        Error::Given {
            cert: self.cert.clone(),
            key: self.key.clone(),
            source: Box::new(source),
        }
    }
}
