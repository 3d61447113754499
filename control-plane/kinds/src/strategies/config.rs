//! ConfigMaps, Secrets, ServiceAccounts.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knode_api::field::FieldError;
use serde_json::Value;

use crate::strategy::Strategy;
use crate::validation;
use crate::value::{child, set_default};

pub(crate) struct ConfigMaps;

impl Strategy for ConfigMaps {
    fn validate(&self, map: &Value) -> Vec<FieldError> {
        validation::config::config_map(map)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::config::update(new, old, &["data", "binaryData"])
    }
}

pub(crate) struct Secrets;

impl Strategy for Secrets {
    fn default(&self, secret: &mut Value) {
        set_default(secret, "type", "Opaque");
        let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|s| s.remove("stringData")) else {
            return;
        };
        let data = child(secret, "data");
        for (key, text) in texts {
            data[&key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
        }
    }

    fn validate(&self, secret: &Value) -> Vec<FieldError> {
        validation::config::secret(secret)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validation::config::update(new, old, &["data", "type"])
    }
}

pub(crate) struct ServiceAccounts;

impl Strategy for ServiceAccounts {
    fn delete_returns_object(&self) -> bool {
        true
    }
}
