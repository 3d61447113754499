//! Bootstrap tokens go when they expire (upstream: pkg/controller/bootstrap/tokencleaner.go).

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use knode_client::{Api, ObjectKey};
use kube::api::{DeleteParams, Preconditions};

use crate::Result;
use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};

/// Where tokens live.
pub(crate) const NAMESPACE: &str = "kube-system";
/// Selects the secrets that are bootstrap tokens.
pub(crate) const FIELDS: &str = "type=bootstrap.kubernetes.io/token";

struct Controller(Shared);

/// Runs until its queue is closed.
pub(crate) async fn run(shared: Shared) {
    let queue = shared.queue();
    feed(&shared.tokens, &queue, |d| vec![d.key()]);
    work(Controller(shared), queue).await;
}

/// Time until the token expires: none if it never does, zero if it has. One that can't be read has expired, as
/// upstream decides.
pub(crate) fn expires_in(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let text = &secret.data.as_ref()?.get("expiration")?.0;
    let at = std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.trim().parse::<Timestamp>().ok());
    Some(
        at.and_then(|at| Duration::try_from(at.duration_since(now)).ok())
            .unwrap_or_default(),
    )
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "token-cleaner";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(secret) = self.0.tokens.get_key(key) else {
            return Ok(Next::Done);
        };
        match expires_in(&secret, self.0.config.clock.now()) {
            None => return Ok(Next::Done),
            Some(left) if !left.is_zero() => return Ok(Next::After(left)),
            Some(_) => {}
        }
        let preconditions = Preconditions {
            uid: secret.metadata.uid.clone(),
            resource_version: None,
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match Api::<Secret>::namespaced(self.0.client.clone(), NAMESPACE)
            .delete(&key.name, &params)
            .await
        {
            Err(e) if !stale(&e) => Err(api(format!("delete expired bootstrap token {}", key.name))(e)),
            _ => Ok(Next::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_token_past_its_end_goes() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let token = |e: &str| -> Secret {
            let e = k8s_openapi::ByteString(e.as_bytes().to_vec());
            serde_json::from_value(json!({"data": {"expiration": e}})).unwrap()
        };
        assert_eq!(expires_in(&Secret::default(), now), None);
        assert_eq!(
            expires_in(&token("2026-01-01T00:00:09Z"), now),
            Some(Duration::from_secs(9))
        );
        assert_eq!(
            expires_in(&token("2025-12-31T00:00:00Z"), now),
            Some(Duration::ZERO)
        );
        assert_eq!(expires_in(&token("soon"), now), Some(Duration::ZERO));
    }
}
