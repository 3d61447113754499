//! `tokenAttributes` of a credential provider: plugins that exchange a pod's token for credentials.

use std::collections::BTreeSet;

use knode_api::names::qualified_name;
use serde::Deserialize;

/// The field as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Raw {
    #[serde(default)]
    service_account_token_audience: String,
    #[serde(default)]
    cache_type: String,
    require_service_account: Option<bool>,
    #[serde(default)]
    required_service_account_annotation_keys: Vec<String>,
    #[serde(default)]
    optional_service_account_annotation_keys: Vec<String>,
}

/// For whom an answer may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheType {
    /// Whoever has the same token.
    Token,
    /// All pods of the service account.
    ServiceAccount,
}

/// What a plugin is given of a pod's service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenAttributes {
    /// The audience of tokens.
    pub audience: String,
    /// For whom answers may be used.
    pub cache_type: CacheType,
    /// Whether the plugin is run only for pods with a service account.
    pub require_account: bool,
    /// Annotations of the service account without which the plugin is not run.
    pub required: Vec<String>,
    /// Annotations that it is told where they are there.
    pub optional: Vec<String>,
}

/// What is asked for, or what is wrong with it (upstream: `validateCredentialProviderConfig`).
pub(super) fn check(raw: Raw, api_version: &str) -> Result<TokenAttributes, String> {
    if raw.service_account_token_audience.is_empty() {
        return Err(wrong("serviceAccountTokenAudience", "is required"));
    }
    let Some(require_account) = raw.require_service_account else {
        return Err(wrong("requireServiceAccount", "is required"));
    };
    if api_version != "credentialprovider.kubelet.k8s.io/v1" {
        return Err("tokenAttributes is only supported for credentialprovider.kubelet.k8s.io/v1".to_owned());
    }
    let (required, optional) = (
        raw.required_service_account_annotation_keys,
        raw.optional_service_account_annotation_keys,
    );
    if !require_account && !required.is_empty() {
        return Err(wrong(
            "requiredServiceAccountAnnotationKeys",
            "needs requireServiceAccount to be true",
        ));
    }
    keys(&required).map_err(|why| wrong("requiredServiceAccountAnnotationKeys", &why))?;
    keys(&optional).map_err(|why| wrong("optionalServiceAccountAnnotationKeys", &why))?;
    if let Some(both) = required.iter().find(|key| optional.contains(key)) {
        return Err(format!(
            "tokenAttributes: annotation {both:?} cannot be both required and optional"
        ));
    }
    let cache_type = match raw.cache_type.as_str() {
        "Token" => CacheType::Token,
        "ServiceAccount" => CacheType::ServiceAccount,
        "" => return Err(wrong("cacheType", "is required: ServiceAccount or Token")),
        other => {
            return Err(wrong(
                "cacheType",
                &format!("{other:?} is neither ServiceAccount nor Token"),
            ));
        }
    };
    Ok(TokenAttributes {
        audience: raw.service_account_token_audience,
        cache_type,
        require_account,
        required,
        optional,
    })
}

fn wrong(field: &str, why: &str) -> String {
    format!("tokenAttributes.{field} {why}")
}

/// Keys of annotations, each once.
fn keys(keys: &[String]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for key in keys {
        if let Some(why) = qualified_name(&key.to_lowercase()).into_iter().next() {
            return Err(format!("has {key:?}: {why}"));
        }
        if !seen.insert(key) {
            return Err(format!("has {key:?} twice"));
        }
    }
    Ok(())
}
