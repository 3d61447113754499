//! Renewing a certificate while the node runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use knode_client::{Api, Backoff, Client, Clock, Retry};
use knode_pki::kubeconfig::Kubeconfig;
use knode_pki::rotation::{self, Plan};
use knode_pki::{Certificate, Identity, PrivateKey, Subject, SubjectAltNames};

use super::request::{PendingRequest, request_pem, wait_signed};
use super::store::CertificateStore;
use crate::{Error, Result};

const RETRY: Backoff = Backoff {
    initial: Duration::from_secs(2),
    max: Duration::from_secs(300),
    factor: 2.0,
    jitter: 0.1,
};
/// A sleep is cut into pieces, so that a clock that was set is noticed.
const NAP: Duration = Duration::from_secs(3600);

/// What the certificate shall say.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) signer: &'static str,
    pub(crate) subject: Subject,
    pub(crate) names: SubjectAltNames,
}

/// Keeps one certificate fresh.
pub(crate) struct Manager {
    pub(crate) client: Client,
    /// The kubeconfig to ask with when the certificate that `client` shows has ended.
    pub(crate) recovery: Option<PathBuf>,
    /// How long certificates shall live; the signer decides without.
    pub(crate) lifetime: Option<Duration>,
    pub(crate) store: CertificateStore,
    pub(crate) template: Template,
    pub(crate) clock: Arc<dyn Clock>,
    /// Told of each renewal that failed.
    pub(crate) failed: Box<dyn Fn() + Send + Sync>,
    /// Told of each new certificate, once it is on disk.
    pub(crate) renewed: Box<dyn Fn(&Identity) + Send + Sync>,
}

impl Manager {
    /// Renews for ever: at a jittered 70–90 % of the lifetime, or at once if there is none that fits.
    pub(crate) async fn run(self) {
        let mut retry = Retry::new(RETRY);
        let mut random = rand::random::<f64>();
        loop {
            let current = self.current();
            match self.plan(current.as_ref(), random) {
                Plan::Wait(until) => self.nap(until).await,
                Plan::Renew => match self.renew(current.as_ref()).await {
                    Ok(()) => {
                        retry.succeeded();
                        random = rand::random();
                    }
                    Err(error) => {
                        (self.failed)();
                        let pause = self.pause(retry.failed(), current.as_ref());
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            signer = self.template.signer,
                            again_in = ?pause,
                            "certificate not renewed"
                        );
                        self.clock.sleep(pause).await;
                    }
                },
            }
        }
    }

    fn current(&self) -> Option<Certificate> {
        let current = self.store.current().ok().flatten()?;
        Certificate::from_pem(&current.cert_pem).ok()
    }

    fn plan(&self, current: Option<&Certificate>, random: f64) -> Plan {
        match current {
            Some(found) if fits(found, &self.template) => {
                rotation::plan(found.not_before, found.not_after, random, self.clock.now())
            }
            _ => Plan::Renew,
        }
    }

    /// What is left of the certificate's life.
    fn left(&self, current: Option<&Certificate>) -> Option<Duration> {
        let left = current?.not_after.duration_since(self.clock.now());
        Duration::try_from(left).ok().filter(|left| !left.is_zero())
    }

    /// A certificate that ends soon must not be slept over.
    fn pause(&self, wanted: Duration, current: Option<&Certificate>) -> Duration {
        match self.left(current) {
            Some(left) => wanted.min((left / 4).max(Duration::from_secs(1))),
            None => wanted,
        }
    }

    /// Who asks: the node, or the bootstrap credential once the node's own has ended.
    fn asking(&self, current: Option<&Certificate>) -> Result<Client> {
        let Some(path) = self.recovery.as_ref().filter(|_| self.left(current).is_none()) else {
            return Ok(self.client.clone());
        };
        if !path.exists() {
            let end = current.map(|found| found.not_after.to_string());
            return Err(Error::NoCredentials {
                path: self.store.current_path(),
                why: format!(
                    "it ended at {}, and {} is gone",
                    end.unwrap_or_else(|| "an unknown time".to_owned()),
                    path.display()
                ),
            });
        }
        tracing::warn!(bootstrap = %path.display(), "the node's certificate has ended; asking with the bootstrap credential");
        let bootstrap = Kubeconfig::load_access(path)?;
        Ok(knode_client::connect(&bootstrap).map_err(Error::Client)?.client)
    }

    async fn nap(&self, until: Timestamp) {
        let left = until.duration_since(self.clock.now());
        let left = Duration::try_from(left).unwrap_or(Duration::from_secs(1));
        self.clock.sleep(left.min(NAP)).await;
    }

    async fn renew(&self, current: Option<&Certificate>) -> Result<()> {
        let key = PrivateKey::generate();
        let pem = request_pem(&key, &self.template.subject, &self.template.names)?;
        let requests: Api<CertificateSigningRequest> = Api::all(self.asking(current)?);
        let request = PendingRequest {
            signer: self.template.signer,
            name: None,
            pem,
            key,
            lifetime: self.lifetime,
        };
        let name = request.send(&requests).await?;
        // As long as the request stands, somebody may still approve it: asking again would only add another. Once the
        // certificate that asks has ended nobody would hear the answer.
        let limit = self.recovery.as_ref().and_then(|_| self.left(current));
        let cert_pem = wait_signed(requests, &name, &request.key, limit, self.clock.as_ref()).await?;
        let identity = Identity {
            cert_pem,
            key_pem: request.key.to_pem()?,
        };
        self.store.update(&identity, self.clock.now())?;
        tracing::info!(signer = self.template.signer, name, "new certificate");
        (self.renewed)(&identity);
        Ok(())
    }
}

/// Whether a certificate says what the template wants; pure.
fn fits(certificate: &Certificate, template: &Template) -> bool {
    certificate.subject == template.subject && certificate.names.covers(&template.names)
}
