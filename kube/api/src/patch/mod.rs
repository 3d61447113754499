//! The three patches. Each takes the current object and gives the new one, not yet canonical: run
//! [`crate::decode::value`] over it ([`restore`] after a strategic merge patch).
mod json;
mod restore;
mod strategic;

use serde_json::Value;

pub use json::json_patch;
pub use restore::restore;
pub use strategic::strategic_merge_patch;

/// Why a patch does not apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400: the patch itself cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// 422 without particulars: a JSON patch that doesn't fit the object.
    #[error("the server rejected our request due to an error in our request")]
    Rejected,
    /// 422 on field `patch`, its value the patch printed by [`crate::goname::plain`]: a strategic merge patch
    /// that doesn't fit; carries upstream's words.
    #[error("{0}")]
    Invalid(String),
}

/// RFC 7386: nulls delete, objects merge, all else is replaced.
pub fn merge_patch(object: &mut Value, patch: &Value) {
    json_patch::merge(object, patch);
}

#[cfg(test)]
mod tests;
