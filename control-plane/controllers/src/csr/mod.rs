//! Certificate signing requests: approval, signing, cleaning (upstream: pkg/controller/certificates).

mod approve;
mod sign;

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knode_client::{Api, ObjectKey};
use kube::api::{DeleteParams, PostParams};

use self::approve::Decision;
use crate::Result;
use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};

/// A request that was answered is kept this long, one that waits for a person this long.
const KEEP_ANSWERED: Duration = Duration::from_secs(3600);
const KEEP_PENDING: Duration = Duration::from_secs(24 * 3600);

struct Controller(Shared);

/// Runs until its queue is closed.
pub(crate) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.requests, &queue, |d| vec![d.key()]);
    // A node may ask for its serving certificate before anything is known of its addresses.
    let requests = shared.requests.clone();
    feed(&shared.nodes, &queue, move |d| {
        let user = format!("system:node:{}", d.key().name);
        let waits = |r: &CertificateSigningRequest| {
            r.spec.username.as_ref() == Some(&user)
                && !has_condition(r, "Approved")
                && !has_condition(r, "Denied")
        };
        requests
            .list()
            .iter()
            .filter(|r| waits(r))
            .map(|r| ObjectKey::of(r.as_ref()))
            .collect()
    });
    work(Controller(shared), queue).await;
}

fn has_condition(request: &CertificateSigningRequest, kind: &str) -> bool {
    request
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == kind)
}

fn has_certificate(request: &CertificateSigningRequest) -> bool {
    request
        .status
        .as_ref()
        .and_then(|s| s.certificate.as_ref())
        .is_some_and(|c| !c.0.is_empty())
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "certificatesigningrequest";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(request) = self.0.requests.get_key(key) else {
            return Ok(Next::Done);
        };
        if has_condition(&request, "Denied") || has_condition(&request, "Failed") || has_certificate(&request)
        {
            return self.clean(&request, KEEP_ANSWERED).await;
        }
        if has_condition(&request, "Approved") {
            self.sign(&request).await?;
        } else {
            self.approve(&request).await?;
        }
        self.clean(&request, KEEP_PENDING).await
    }
}

impl Controller {
    async fn clean(&self, request: &CertificateSigningRequest, keep: Duration) -> Result<Next> {
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let Some(made) = &request.metadata.creation_timestamp else {
            return Ok(Next::Done);
        };
        let age = Duration::try_from(self.0.config.clock.now().duration_since(made.0)).unwrap_or_default();
        match keep.checked_sub(age) {
            Some(left) if !left.is_zero() => Ok(Next::After(left)),
            _ => match self.requests().delete(name, &DeleteParams::default()).await {
                Err(e) if !stale(&e) => Err(api(format!("delete old certificate request {name}"))(e)),
                _ => Ok(Next::Done),
            },
        }
    }

    fn requests(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.0.client.clone())
    }

    /// Approves what may be approved without a person; everything else waits for one.
    async fn approve(&self, request: &CertificateSigningRequest) -> Result<()> {
        let message = match approve::decide(&request.spec, |name| self.0.nodes.get("", name)) {
            Decision::Wait => return Ok(()),
            Decision::Approve(message) => message,
            Decision::IfAllowed(subresource, message) => {
                if !self.allowed(request, subresource).await? {
                    return Ok(());
                }
                message
            }
        };
        let mut approved = request.clone();
        let conditions = approved
            .status
            .get_or_insert_default()
            .conditions
            .get_or_insert_default();
        conditions.push(condition(
            "Approved",
            "AutoApproved",
            message,
            self.0.config.clock.now(),
        ));
        let name = request.metadata.name.as_deref().unwrap_or_default();
        tracing::info!(
            request = name,
            user = request.spec.username.as_deref(),
            "certificate request approved"
        );
        self.put(request, "approval", approved).await
    }

    /// Whether the requester may have this kind of certificate, by the cluster's own rules.
    async fn allowed(&self, request: &CertificateSigningRequest, subresource: &str) -> Result<bool> {
        let spec = SubjectAccessReviewSpec {
            user: request.spec.username.clone(),
            uid: request.spec.uid.clone(),
            groups: request.spec.groups.clone(),
            extra: request.spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: Some("certificates.k8s.io".into()),
                resource: Some("certificatesigningrequests".into()),
                verb: Some("create".into()),
                version: Some("*".into()),
                subresource: Some(subresource.into()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview {
            spec,
            ..SubjectAccessReview::default()
        };
        let reviews = Api::<SubjectAccessReview>::all(self.0.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(api("ask whether a certificate request may be approved"))?;
        Ok(answer.status.is_some_and(|s| s.allowed))
    }

    async fn sign(&self, request: &CertificateSigningRequest) -> Result<()> {
        let signer = self.0.config.authority.borrow().clone();
        let now = self.0.config.clock.now();
        let mut answered = request.clone();
        let status = answered
            .status
            .get_or_insert_with(CertificateSigningRequestStatus::default);
        match sign::check(&request.spec, self.0.config.signing_duration) {
            sign::Verdict::NotOurs => return Ok(()),
            sign::Verdict::Refuse(why) => {
                let conditions = status.conditions.get_or_insert_default();
                conditions.push(condition("Failed", "SignerValidationFailure", &why, now));
            }
            sign::Verdict::Sign(order) => {
                let name = request.metadata.name.clone().unwrap_or_default();
                let pem = signer
                    .sign_request(&order.request, &order.usages, order.lifetime, now)
                    .map_err(|source| crate::Error::Sign { name, source })?;
                status.certificate = Some(ByteString(pem.into_bytes()));
            }
        }
        self.put(request, "status", answered).await
    }

    async fn put(
        &self,
        request: &CertificateSigningRequest,
        subresource: &str,
        wanted: CertificateSigningRequest,
    ) -> Result<()> {
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let written = self
            .requests()
            .replace_subresource(subresource, name, &PostParams::default(), &wanted)
            .await;
        match written {
            Err(e) if !stale(&e) => Err(api(format!(
                "write the {subresource} of certificate request {name}"
            ))(e)),
            _ => Ok(()),
        }
    }
}

fn condition(
    kind: &str,
    reason: &str,
    message: &str,
    now: jiff::Timestamp,
) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: kind.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}
