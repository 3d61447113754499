//! Renewing a certificate while the node runs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use knode_client::{Api, Backoff, Client, Clock, Retry};
use knode_pki::rotation::{self, Plan};
use knode_pki::{Certificate, Identity, PrivateKey, Subject, SubjectAltNames};

use super::request::{PendingRequest, request_pem, wait_signed};
use super::store::CertificateStore;
use crate::Result;

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
    pub(crate) store: CertificateStore,
    pub(crate) template: Template,
    pub(crate) clock: Arc<dyn Clock>,
    /// Told of each new certificate, once it is on disk.
    pub(crate) renewed: Box<dyn Fn(&Identity) + Send + Sync>,
}

impl Manager {
    /// Renews for ever: at a jittered 70–90 % of the lifetime, or at once if there is none that fits.
    pub(crate) async fn run(self) {
        let mut retry = Retry::new(RETRY);
        let random = rand::random::<f64>();
        loop {
            match self.plan(random) {
                Plan::Wait(until) => self.nap(until).await,
                Plan::Renew => match self.renew().await {
                    Ok(()) => retry.succeeded(),
                    Err(error) => {
                        let signer = self.template.signer;
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            signer,
                            "certificate not renewed"
                        );
                        self.clock.sleep(retry.failed()).await;
                    }
                },
            }
        }
    }

    fn plan(&self, random: f64) -> Plan {
        let current = self.store.current().ok().flatten();
        let certificate = current.and_then(|current| Certificate::from_pem(&current.cert_pem).ok());
        match certificate {
            Some(found) if fits(&found, &self.template) => {
                rotation::plan(found.not_before, found.not_after, random, self.clock.now())
            }
            _ => Plan::Renew,
        }
    }

    async fn nap(&self, until: Timestamp) {
        let left = until.duration_since(self.clock.now());
        let left = Duration::try_from(left).unwrap_or(Duration::from_secs(1));
        self.clock.sleep(left.min(NAP)).await;
    }

    async fn renew(&self) -> Result<()> {
        let key = PrivateKey::generate();
        let pem = request_pem(&key, &self.template.subject, &self.template.names)?;
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let request = PendingRequest {
            signer: self.template.signer,
            name: None,
            pem,
            key,
        };
        let name = request.send(&requests).await?;
        // As long as the request stands, somebody may still approve it: asking again would only add another.
        let cert_pem = wait_signed(requests, &name, &request.key, None, self.clock.as_ref()).await?;
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
