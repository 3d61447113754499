//! `metadata.generation` counts changes of what is wanted.
use serde_json::Value;

use crate::value::{child, number};

/// Generation 1.
pub(crate) fn begin(object: &mut Value) {
    child(object, "metadata")["generation"] = 1.into();
}

/// The old generation, or the next one if `changed`.
pub(crate) fn carry(new: &mut Value, old: &Value, changed: bool) {
    let generation = number(old, "/metadata/generation") + i64::from(changed);
    child(new, "metadata")["generation"] = generation.into();
}

/// As [`carry`], changed if `spec` differs.
pub(crate) fn by_spec(new: &mut Value, old: &Value) {
    let changed = new.get("spec") != old.get("spec");
    carry(new, old, changed);
}
