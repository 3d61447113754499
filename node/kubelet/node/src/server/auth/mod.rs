//! Who may do what with the kubelet's API (`pkg/kubelet/server/auth.go`): certificates and tokens authenticate,
//! the API server authorizes. There is no anonymous access.

mod attributes;
mod cache;

use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use knode_client::{Api, ApiError, Client, Clock};
use knode_pki::Certificate;
use kube::api::PostParams;
use sha2::{Digest, Sha256};

pub use attributes::subresources;

use self::attributes::verb;
use self::cache::Expiring;
use super::body::{Answer, text};

const TOKEN_LIFETIME: Duration = Duration::from_secs(120);
const BAD_TOKEN_LIFETIME: Duration = Duration::from_secs(10);
const ALLOWED_LIFETIME: Duration = Duration::from_secs(300);
const DENIED_LIFETIME: Duration = Duration::from_secs(30);

/// Authenticates and authorizes requests, and remembers the answers for a while.
pub(crate) struct Auth {
    client: Client,
    node_name: String,
    clock: Arc<dyn Clock>,
    tokens: Expiring<[u8; 32], Option<Arc<UserInfo>>>,
    decisions: Expiring<Question, bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    user: String,
    groups: Vec<String>,
    extra: String,
    verb: &'static str,
    subresource: &'static str,
}

impl Auth {
    pub(super) fn new(client: Client, node_name: String, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            node_name,
            clock,
            tokens: Expiring::default(),
            decisions: Expiring::default(),
        }
    }

    /// Lets a request pass, or says how it is refused.
    ///
    /// # Errors
    /// The answer to give: 401, 403, or 500 if the API server does not answer.
    pub(super) async fn check(&self, certificate: Option<&[u8]>, request: &Parts) -> Result<(), Box<Answer>> {
        let user = self.authenticate(certificate, &request.headers).await?;
        let unauthorized = || Box::new(text(StatusCode::UNAUTHORIZED, "Unauthorized"));
        let user = user.ok_or_else(unauthorized)?;
        let verb = verb(&request.method);
        let wanted = subresources(request.uri.path());
        for subresource in wanted.iter().copied() {
            if self.authorize(&user, verb, subresource).await? {
                return Ok(());
            }
        }
        let name = user.username.clone().unwrap_or_default();
        let message = format!(
            "Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{}])",
            wanted.join(" ")
        );
        Err(Box::new(text(StatusCode::FORBIDDEN, message)))
    }

    async fn authenticate(
        &self,
        certificate: Option<&[u8]>,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<UserInfo>>, Box<Answer>> {
        if let Some(der) = certificate
            && let Ok(found) = Certificate::from_der(der)
        {
            if self.clock.now() >= found.not_after {
                // It has ended since the connection was made.
                return Ok(None);
            }
            let mut groups = found.subject.organizations;
            groups.push("system:authenticated".to_owned());
            let user = UserInfo {
                username: Some(found.subject.common_name),
                groups: Some(groups),
                ..UserInfo::default()
            };
            return Ok(Some(Arc::new(user)));
        }
        match bearer(headers) {
            Some(token) => self.review(token).await,
            None => Ok(None),
        }
    }

    async fn review(&self, token: &str) -> Result<Option<Arc<UserInfo>>, Box<Answer>> {
        let key: [u8; 32] = Sha256::digest(token).into();
        let now = self.clock.monotonic();
        if let Some(known) = self.tokens.get(&key, now) {
            return Ok(known);
        }
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let spec = TokenReviewSpec {
            token: token.to_owned(),
            ..TokenReviewSpec::default()
        };
        let review = TokenReview {
            spec,
            ..TokenReview::default()
        };
        let answer = reviews
            .create(&PostParams::default(), &review)
            .await
            .map_err(unanswered)?;
        let status = answer.status.unwrap_or_default();
        let user = if status.authenticated == Some(true) {
            status.user.map(Arc::new)
        } else {
            None
        };
        let lifetime = if user.is_some() {
            TOKEN_LIFETIME
        } else {
            BAD_TOKEN_LIFETIME
        };
        self.tokens.insert(key, user.clone(), now + lifetime, now);
        Ok(user)
    }

    async fn authorize(
        &self,
        user: &UserInfo,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, Box<Answer>> {
        let question = Question {
            user: user.username.clone().unwrap_or_default(),
            groups: user.groups.clone().unwrap_or_default(),
            extra: format!("{:?}", user.extra),
            verb,
            subresource,
        };
        let now = self.clock.monotonic();
        if let Some(known) = self.decisions.get(&question, now) {
            return Ok(known);
        }
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = SubjectAccessReview {
            spec: self.spec(user, verb, subresource),
            ..Default::default()
        };
        let answer = reviews
            .create(&PostParams::default(), &review)
            .await
            .map_err(unanswered)?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let lifetime = if allowed {
            ALLOWED_LIFETIME
        } else {
            DENIED_LIFETIME
        };
        self.decisions.insert(question, allowed, now + lifetime, now);
        Ok(allowed)
    }

    fn spec(&self, user: &UserInfo, verb: &str, subresource: &str) -> SubjectAccessReviewSpec {
        SubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(subresource.to_owned()),
                name: Some(self.node_name.clone()),
                ..ResourceAttributes::default()
            }),
            user: user.username.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
            uid: user.uid.clone(),
            ..SubjectAccessReviewSpec::default()
        }
    }
}

fn unanswered(error: ApiError) -> Box<Answer> {
    tracing::warn!(
        error = &error as &dyn std::error::Error,
        "cannot ask the API server who may use the kubelet"
    );
    Box::new(text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal Error: authorization is not available",
    ))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
