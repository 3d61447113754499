//! RFC 6902.
use serde_json::Value;

use super::PatchError;

/// Upstream takes no more operations than this in one patch.
const MAX_OPERATIONS: usize = 10_000;

/// Applies a JSON patch, all of it or nothing. `patch` is the request's body.
///
/// # Errors
/// [`PatchError::Malformed`] if it is no list of operations, [`PatchError::Rejected`] if it doesn't fit.
pub fn json_patch(mut object: Value, patch: &[u8]) -> Result<Value, PatchError> {
    let value: Value = serde_json::from_slice(patch).map_err(|_| malformed(&syntax(patch)))?;
    let operations = match &value {
        Value::Array(operations) => operations.len(),
        Value::Null => 0,
        other => {
            let found = go_kind(other);
            let why = format!("json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp");
            return Err(malformed(&why));
        }
    };
    if operations > MAX_OPERATIONS {
        let why =
            format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {operations}");
        return Err(PatchError::Malformed(why));
    }
    if operations == 0 {
        return Ok(object);
    }
    let operations: json_patch::Patch = serde_json::from_value(value).map_err(|_| PatchError::Rejected)?;
    json_patch::patch(&mut object, &operations).map_err(|_| PatchError::Rejected)?;
    Ok(object)
}

fn syntax(patch: &[u8]) -> String {
    crate::decode::explain(patch).unwrap_or_else(|| "invalid character".into())
}

fn malformed(why: &str) -> PatchError {
    PatchError::Malformed(format!("error decoding patch: {why}"))
}

/// What Go's decoder calls a JSON value.
fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    }
}
