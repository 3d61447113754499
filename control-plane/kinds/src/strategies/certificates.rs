//! Trust bundles.
use knode_api::field::FieldError;
use knode_api::names;
use serde_json::Value;

use crate::strategy::Strategy;
use crate::validation::certificates;

pub(crate) struct TrustBundles;

impl Strategy for TrustBundles {
    // Which names are good depends on the signer: validation has the whole rule.
    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(&self, bundle: &Value) -> Vec<FieldError> {
        certificates::trust_bundle(bundle)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        certificates::trust_bundle_update(new, old)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
