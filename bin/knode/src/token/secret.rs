//! A bootstrap token as the Secret that upstream's controllers and `kubeadm token` read.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use knode_pki::BootstrapToken;
use serde_json::{Map, Value, json};

/// Type of the Secrets.
pub const TYPE: &str = "bootstrap.kubernetes.io/token";
/// Where they lie.
pub const NAMESPACE: &str = "kube-system";

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub token: BootstrapToken,
    /// When it ends; never if there is none.
    pub expires: Option<Timestamp>,
    pub description: String,
    /// What it may be used for: `authentication`, `signing`.
    pub usages: Vec<&'static str>,
}

const USAGES: [(&str, &str); 2] = [
    ("authentication", "usage-bootstrap-authentication"),
    ("signing", "usage-bootstrap-signing"),
];

/// The Secret of a token. Without a life time it never ends.
pub fn make(token: &BootstrapToken, life: Option<Duration>, description: &str, now: Timestamp) -> Secret {
    let mut data = Map::from_iter([
        ("token-id".to_owned(), json!(token.id())),
        ("token-secret".to_owned(), json!(token.secret())),
    ]);
    for (_, key) in USAGES {
        data.insert(key.to_owned(), json!("true"));
    }
    if let Some(end) = life.and_then(|life| now.checked_add(life).ok()) {
        // Whole seconds, as upstream's programs print and read it.
        data.insert("expiration".to_owned(), json!(format!("{end:.0}")));
    }
    if !description.is_empty() {
        data.insert("description".to_owned(), json!(description));
    }
    serde_json::from_value(json!({
        "metadata": {"name": token.secret_name(), "namespace": NAMESPACE},
        "type": TYPE,
        "stringData": Value::Object(data),
    }))
    .expect("this object has a Secret's shape; a unit test builds it")
}

/// The token in a Secret; `None` for one that isn't a token.
pub fn read(secret: &Secret) -> Option<Known> {
    let text = |key: &str| {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        String::from_utf8(bytes.clone()).ok()
    };
    let token = format!("{}.{}", text("token-id")?, text("token-secret")?);
    let usages = USAGES
        .iter()
        .filter(|(_, key)| text(key).as_deref() == Some("true"));
    Some(Known {
        token: token.parse().ok()?,
        expires: text("expiration").and_then(|t| t.trim().parse().ok()),
        description: text("description").unwrap_or_default(),
        usages: usages.map(|(name, _)| *name).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(mut secret: Secret) -> Secret {
        let plain = secret.string_data.take().unwrap();
        let bytes = |(k, v): (String, String)| (k, k8s_openapi::ByteString(v.into_bytes()));
        secret.data = Some(plain.into_iter().map(bytes).collect());
        secret
    }

    #[test]
    fn what_is_made_is_read_back() {
        let (token, now) = (
            BootstrapToken::generate(),
            "2026-01-01T00:00:00.5Z".parse().unwrap(),
        );
        let day = Duration::from_secs(86_400);
        let secret = make(&token, Some(day), "for the lab", now);
        assert_eq!(
            secret.metadata.name,
            Some(format!("bootstrap-token-{}", token.id()))
        );
        let known = read(&stored(secret)).unwrap();
        assert_eq!(known.token, token);
        assert_eq!(known.expires.unwrap().to_string(), "2026-01-02T00:00:00Z");
        assert_eq!(known.description, "for the lab");
        assert_eq!(known.usages, ["authentication", "signing"]);
        let endless = read(&stored(make(&token, None, "", now))).unwrap();
        assert_eq!(endless.expires, None);
    }

    #[test]
    fn another_secret_is_no_token() {
        assert_eq!(read(&Secret::default()), None);
    }
}
