//! CertificateSigningRequest objects: building one, sending it, waiting for its certificate.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knode_client::{Api, Change, Clock, WatchConfig, is_conflict, watch};
use knode_pki::{Certificate, PrivateKey, SubjectAltNames, Usage};
use kube::api::PostParams;

use crate::{Error, Result};

/// Signs clients of the API server that are kubelets.
pub(crate) const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signs what kubelets show as servers.
pub(crate) const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

/// The usages that a signer wants of an ECDSA key.
pub(crate) fn usages_of(signer: &str) -> [Usage; 2] {
    let role = if signer == SERVING_SIGNER {
        Usage::ServerAuth
    } else {
        Usage::ClientAuth
    };
    [Usage::DigitalSignature, role]
}

/// A request to send.
pub(crate) struct PendingRequest {
    pub(crate) signer: &'static str,
    /// Fixed name; without one the server makes one up.
    pub(crate) name: Option<String>,
    pub(crate) pem: String,
    pub(crate) key: PrivateKey,
    /// How long the certificate shall live; the signer decides without.
    pub(crate) lifetime: Option<Duration>,
}

impl PendingRequest {
    fn object(&self) -> CertificateSigningRequest {
        let generate_name = self.name.is_none().then(|| "csr-".to_owned());
        CertificateSigningRequest {
            metadata: ObjectMeta {
                name: self.name.clone(),
                generate_name,
                ..ObjectMeta::default()
            },
            spec: CertificateSigningRequestSpec {
                request: ByteString(self.pem.clone().into_bytes()),
                signer_name: self.signer.to_owned(),
                usages: Some(usages_of(self.signer).iter().map(ToString::to_string).collect()),
                expiration_seconds: self
                    .lifetime
                    .map(|lifetime| i32::try_from(lifetime.as_secs()).unwrap_or(i32::MAX)),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        }
    }

    /// Sends the request, or finds the one that an earlier start has sent. Its name.
    ///
    /// # Errors
    /// [`Error::Request`], [`Error::ForeignRequest`].
    pub(crate) async fn send(&self, requests: &Api<CertificateSigningRequest>) -> Result<String> {
        let failed = |source| Error::Request {
            signer: self.signer,
            source,
        };
        match (
            requests.create(&PostParams::default(), &self.object()).await,
            &self.name,
        ) {
            (Ok(created), _) => Ok(created.metadata.name.unwrap_or_default()),
            (Err(error), Some(name)) if is_conflict(&error) => {
                let existing = requests.get(name).await.map_err(failed)?;
                self.check_ours(&existing, name)?;
                tracing::info!(name, "certificate request of an earlier start taken up");
                Ok(name.clone())
            }
            (Err(error), _) => Err(failed(error)),
        }
    }

    fn check_ours(&self, existing: &CertificateSigningRequest, name: &str) -> Result<()> {
        let foreign = |what| {
            Err(Error::ForeignRequest {
                name: name.to_owned(),
                what,
            })
        };
        if existing.spec.signer_name != self.signer {
            return foreign("signer");
        }
        let text = String::from_utf8_lossy(&existing.spec.request.0).into_owned();
        let parsed = knode_pki::SigningRequest::parse(&text)?;
        if parsed.public_key()? != self.key.public_key_der()? {
            return foreign("key");
        }
        Ok(())
    }
}

/// Makes the PEM request for a subject and names.
pub(crate) fn request_pem(
    key: &PrivateKey,
    subject: &knode_pki::Subject,
    names: &SubjectAltNames,
) -> Result<String> {
    Ok(knode_pki::SigningRequest::create(key, subject, names)?)
}

/// Waits until the request has been signed, refused or deleted. The certificate, PEM.
///
/// # Errors
/// [`Error::Denied`], [`Error::Failed`], [`Error::RequestGone`], [`Error::NotSigned`],
/// [`Error::ForeignCertificate`].
pub(crate) async fn wait_signed(
    requests: Api<CertificateSigningRequest>,
    name: &str,
    key: &PrivateKey,
    limit: Option<Duration>,
    clock: &dyn Clock,
) -> Result<String> {
    let waiting = follow(requests, name);
    let Some(limit) = limit else {
        return checked(waiting.await?, name, key);
    };
    tokio::select! {
        signed = waiting => checked(signed?, name, key),
        () = clock.sleep(limit) => {
            Err(Error::NotSigned { name: name.to_owned(), seconds: limit.as_secs() })
        }
    }
}

async fn follow(requests: Api<CertificateSigningRequest>, name: &str) -> Result<String> {
    let mut changes = watch(requests, WatchConfig::fields(format!("metadata.name={name}")));
    while let Some(change) = changes.next().await {
        let current = match change {
            Ok(Change::Restarted(list)) => list.into_iter().next(),
            Ok(Change::Applied(request)) => Some(request),
            Ok(Change::Deleted(_)) => None,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    name,
                    "still waiting for a certificate"
                );
                continue;
            }
        };
        let request = current.ok_or_else(|| Error::RequestGone(name.to_owned()))?;
        if let Some(certificate) = outcome(&request)? {
            return Ok(certificate);
        }
    }
    Err(Error::RequestGone(name.to_owned()))
}

/// What has become of a request: nothing yet, a certificate, or an error; pure.
fn outcome(request: &CertificateSigningRequest) -> Result<Option<String>> {
    let Some(status) = &request.status else {
        return Ok(None);
    };
    let name = request.metadata.name.clone().unwrap_or_default();
    let condition = |kind: &str| {
        let condition = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == kind)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Some((text(&condition.reason), text(&condition.message)))
    };
    if let Some((reason, message)) = condition("Denied") {
        return Err(Error::Denied {
            name,
            reason,
            message,
        });
    }
    if let Some((reason, message)) = condition("Failed") {
        return Err(Error::Failed {
            name,
            reason,
            message,
        });
    }
    if condition("Approved").is_none() {
        return Ok(None);
    }
    let certificate = status
        .certificate
        .as_ref()
        .filter(|certificate| !certificate.0.is_empty());
    Ok(certificate.map(|certificate| String::from_utf8_lossy(&certificate.0).into_owned()))
}

fn checked(pem: String, name: &str, key: &PrivateKey) -> Result<String> {
    if Certificate::from_pem(&pem)?.public_key != key.public_key_der()? {
        return Err(Error::ForeignCertificate(name.to_owned()));
    }
    Ok(if pem.ends_with('\n') {
        pem
    } else {
        format!("{pem}\n")
    })
}
