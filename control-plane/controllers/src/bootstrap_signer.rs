//! Signs the ConfigMap `cluster-info` with every bootstrap token, so that who holds one can trust it
//! (upstream: pkg/controller/bootstrap/bootstrapsigner.go).

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use knode_client::{Api, ObjectKey};
use knode_pki::BootstrapToken;
use kube::api::PostParams;

use crate::Result;
use crate::error::{api, stale};
use crate::runner::{Next, Reconcile, Shared, feed, work};
use crate::tokens::expires_in;

/// Name of the ConfigMap.
pub(crate) const NAME: &str = "cluster-info";
/// Its namespace.
pub(crate) const NAMESPACE: &str = "kube-public";
/// The key that is signed.
const SIGNED: &str = "kubeconfig";
/// Before a token's identifier: the key of its signature.
const SIGNATURE: &str = "jws-kubeconfig-";

struct Controller(Shared);

/// Runs until its queue is closed.
pub(crate) async fn run(shared: Shared) {
    let queue = shared.queue();
    let key = || vec![ObjectKey::new(NAMESPACE, NAME)];
    feed(&shared.tokens, &queue, move |_| key());
    feed(&shared.cluster_info, &queue, move |_| key());
    work(Controller(shared), queue).await;
}

/// The token in a Secret, if it is one for signing.
fn signer(secret: &Secret) -> Option<BootstrapToken> {
    let text = |key: &str| {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        std::str::from_utf8(bytes).ok()
    };
    let token: BootstrapToken = format!("{}.{}", text("token-id")?, text("token-secret")?)
        .parse()
        .ok()?;
    let named = secret.metadata.name == Some(token.secret_name());
    (named && text("usage-bootstrap-signing") == Some("true")).then_some(token)
}

/// What the ConfigMap is to hold: what it holds, with a signature for each token and none else.
fn signed(data: &BTreeMap<String, String>, tokens: &[BootstrapToken]) -> BTreeMap<String, String> {
    let mut wanted: BTreeMap<String, String> = data
        .iter()
        .filter(|(key, _)| !key.starts_with(SIGNATURE))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let Some(content) = data.get(SIGNED) {
        let signature = |t: &BootstrapToken| (format!("{SIGNATURE}{}", t.id()), t.sign(content.as_bytes()));
        wanted.extend(tokens.iter().map(signature));
    }
    wanted
}

#[async_trait]
impl Reconcile for Controller {
    const NAME: &'static str = "bootstrap-signer";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(found) = self.0.cluster_info.get_key(key) else {
            return Ok(Next::Done);
        };
        let now = self.0.config.clock.now();
        let secrets = self.0.tokens.list();
        let live = secrets
            .iter()
            .filter(|secret| expires_in(secret, now).is_none_or(|left| !left.is_zero()));
        let tokens: Vec<BootstrapToken> = live.filter_map(|secret| signer(secret)).collect();
        let data = found.data.clone().unwrap_or_default();
        let wanted = signed(&data, &tokens);
        if wanted == data {
            return Ok(Next::Done);
        }
        let mut next = ConfigMap::clone(&found);
        next.data = Some(wanted);
        let maps = Api::<ConfigMap>::namespaced(self.0.client.clone(), NAMESPACE);
        match maps.replace(NAME, &PostParams::default(), &next).await {
            Err(e) if !stale(&e) => Err(api(format!("sign ConfigMap {NAME}"))(e)),
            _ => Ok(Next::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(id: &str, signing: &str) -> Secret {
        let b = |text: &str| k8s_openapi::ByteString(text.as_bytes().to_vec());
        serde_json::from_value(json!({
            "metadata": {"name": format!("bootstrap-token-{id}")},
            "data": {"token-id": b(id), "token-secret": b("0123456789abcdef"), "usage-bootstrap-signing": b(signing)},
        }))
        .unwrap()
    }

    #[test]
    fn each_signing_token_signs_and_no_other_signature_stays() {
        let secrets = [secret("aaaaaa", "true"), secret("bbbbbb", "false")];
        let tokens: Vec<_> = secrets.iter().filter_map(signer).collect();
        let data = BTreeMap::from([
            ("kubeconfig".to_owned(), "apiVersion: v1".to_owned()),
            ("jws-kubeconfig-cccccc".to_owned(), "old".to_owned()),
            ("note".to_owned(), "kept".to_owned()),
        ]);
        let wanted = signed(&data, &tokens);
        let keys: Vec<&str> = wanted.keys().map(String::as_str).collect();
        assert_eq!(keys, ["jws-kubeconfig-aaaaaa", "kubeconfig", "note"]);
        assert!(tokens[0].has_signed(b"apiVersion: v1", &wanted["jws-kubeconfig-aaaaaa"]));
        assert_eq!(signed(&wanted, &tokens), wanted, "signing again changes nothing");
    }

    #[test]
    fn a_secret_under_another_name_does_not_sign() {
        let mut other = secret("aaaaaa", "true");
        other.metadata.name = Some("bootstrap-token-dddddd".into());
        assert!(signer(&other).is_none());
    }
}
