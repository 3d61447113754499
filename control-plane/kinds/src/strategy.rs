//! What a kind does beside being stored.
use jiff::Timestamp;
use knode_api::field::FieldError;
use serde_json::Value;

use crate::grace::{self, Grace, GraceError};

/// The particulars of a kind. Objects are canonical (`knode_api::decode`). The registry itself sets name,
/// uid, timestamps and resourceVersion, checks names through [`Strategy::validate_name`] and object metadata
/// through `knode_kinds::rows::meta`.
///
/// Order on create: `default`, mutating admission, `prepare_for_create`, `stamp`, `validate`. On update: `default`,
/// `prepare_for_update` (or that of the subresource), `stamp`, admission, `validate_update` (or that of the
/// subresource). `prepare_for_create` leaves what admission has set (the requester of a certificate) alone.
pub trait Strategy: Sync {
    /// Fills in what was left out.
    fn default(&self, _object: &mut Value) {}

    /// Drops what a creator may not set (status) and sets generation 1 where the kind counts generations.
    fn prepare_for_create(&self, _object: &mut Value) {}

    /// Keeps what an update of the object itself may not change (status) and counts generations.
    fn prepare_for_update(&self, _new: &mut Value, _old: &Value) {}

    /// Keeps what an update of `status` may not change: all but status, and metadata as upstream has it.
    fn prepare_for_status_update(&self, _new: &mut Value, _old: &Value) {}

    /// As the others, for a subresource of this kind's own body (`approval`, `finalize`, `ephemeralcontainers`,
    /// `resize`).
    fn prepare_for_subresource_update(&self, _subresource: &str, new: &mut Value, old: &Value) {
        self.prepare_for_status_update(new, old);
    }

    /// Puts the time where a request leaves it to the server (conditions of certificate requests and gated
    /// pods); called after the preparation of creates (`old` is null) and of every kind of update.
    fn stamp(&self, _new: &mut Value, _old: &Value, _now: Timestamp) {}

    /// What is wrong with a name; `prefix` for a generateName.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::rows::meta::subdomain_name(name, prefix)
    }

    /// What is wrong with a new object, metadata apart.
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with a change, metadata apart.
    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    /// What is wrong with a change of status.
    fn validate_status_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// As the others, for a subresource of this kind's own body.
    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_status_update(new, old)
    }

    /// Whether PUT may create (leases, events, tokens of none).
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without resourceVersion is accepted.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Whether a delete answers the object (pods, services, namespaces …) instead of a Status.
    fn delete_returns_object(&self) -> bool {
        false
    }

    /// Headers of `Warning` that an accepted object earns.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// How a delete proceeds: at once, or gracefully.
    ///
    /// # Errors
    /// A grace period below zero.
    fn delete_grace(&self, _object: &Value, _requested: Option<i64>) -> Result<Grace, GraceError> {
        Ok(grace::immediate())
    }

    /// For kinds whose objects go after a while: how to tell when. There are many of them, and each is read seldom.
    fn expiry(&self) -> Option<Expiry> {
        None
    }

    /// To the form in the store, where two kinds share one.
    fn stored_form(&self, object: Value) -> Value {
        object
    }

    /// From the form in the store.
    fn served_form(&self, object: Value) -> Value {
        object
    }
}

/// Tells from when on a stored object is not needed any more; `None` if it always is.
pub type Expiry = fn(&Value) -> Option<Timestamp>;

/// A kind with nothing particular.
pub struct Plain;

impl Strategy for Plain {}
