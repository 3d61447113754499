//! `metav1.Status` answers with upstream's codes, reasons and words (`k8s.io/apimachinery/pkg/api/errors`).
use serde_json::{Map, Value, json};

use crate::field::{FieldError, aggregate};

/// A failed request's answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, such as `NotFound`; empty when unknown.
    pub reason: &'static str,
    /// What went wrong, for people.
    pub message: String,
    /// `None` leaves `details` out; an empty one prints `{}`.
    pub details: Option<Details>,
}

/// What a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The object's name; empty leaves it out.
    pub name: String,
    /// Its API group; empty for the core group.
    pub group: String,
    /// Resource or kind, as upstream has it for the reason at hand.
    pub kind: String,
    /// Its UID; empty leaves it out.
    pub uid: String,
    /// What is wrong, one by one.
    pub causes: Vec<Cause>,
    /// Zero leaves it out.
    pub retry_after_seconds: u32,
}

/// One of several reasons for a failure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    /// Machine-readable, such as `FieldValueInvalid`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The path of the field; empty where it is about none.
    pub field: String,
}

/// A resource with its group, printed `deployments.apps` or `pods`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Plural name; kinds serve as well where upstream names a kind.
    pub resource: &'a str,
}

impl<'a> GroupResource<'a> {
    /// The resource (or kind) of a group; the core group is `""`.
    pub fn new(group: &'a str, resource: &'a str) -> Self {
        GroupResource { group, resource }
    }
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource)?;
        if self.group.is_empty() {
            Ok(())
        } else {
            write!(f, ".{}", self.group)
        }
    }
}

impl Status {
    fn about(code: u16, reason: &'static str, message: String, of: GroupResource<'_>, name: &str) -> Self {
        let details = Details {
            name: name.into(),
            group: of.group.into(),
            kind: of.resource.into(),
            ..Details::default()
        };
        Status {
            code,
            reason,
            message,
            details: Some(details),
        }
    }

    fn bare(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Status {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn with_empty_details(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Status {
            code,
            reason,
            message: message.into(),
            details: Some(Details::default()),
        }
    }

    /// 404: `pods "x" not found`.
    pub fn not_found(of: GroupResource<'_>, name: &str) -> Self {
        Self::about(404, "NotFound", format!("{of} \"{name}\" not found"), of, name)
    }

    /// 404 for a resource that no group has.
    pub fn no_such_resource() -> Self {
        Self::with_empty_details(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    /// 409 on create.
    pub fn already_exists(of: GroupResource<'_>, name: &str) -> Self {
        Self::about(
            409,
            "AlreadyExists",
            format!("{of} \"{name}\" already exists"),
            of,
            name,
        )
    }

    /// 409: `Operation cannot be fulfilled on pods "x": why`.
    pub fn conflict(of: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {of} \"{name}\": {why}");
        Self::about(409, "Conflict", message, of, name)
    }

    /// 409 after a lost race on resourceVersion.
    pub fn modified(of: GroupResource<'_>, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(of, name, why)
    }

    /// 422: a kind (not a resource) with one cause a field error.
    pub fn invalid(kind: GroupResource<'_>, name: &str, errors: &[FieldError]) -> Self {
        let message = format!("{kind} \"{name}\" is invalid: {}", aggregate(errors));
        let mut status = Self::about(422, "Invalid", message, kind, name);
        if let Some(details) = &mut status.details {
            details.causes = errors.iter().map(Cause::from).collect();
        }
        status
    }

    /// 422 for a JSON patch that cannot be applied; upstream gives no particulars.
    pub fn rejected() -> Self {
        Self::with_empty_details(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        )
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::bare(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::bare(401, "Unauthorized", "Unauthorized")
    }

    /// 403: `pods "x" is forbidden: why`; without a name `pods is forbidden: why`; without a resource
    /// `forbidden: why`.
    pub fn forbidden(of: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = match (of.resource.is_empty(), name.is_empty()) {
            (true, true) => format!("forbidden: {why}"),
            (_, true) => format!("{of} is forbidden: {why}"),
            _ => format!("{of} \"{name}\" is forbidden: {why}"),
        };
        Self::about(403, "Forbidden", message, of, name)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::with_empty_details(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 405 of a resource that lacks a verb, as the registry words it.
    pub fn method_not_supported(of: GroupResource<'_>, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind \"{of}\"");
        Self::about(405, "MethodNotAllowed", message, of, "")
    }

    /// 406, listing what the server could send.
    pub fn not_acceptable(available: &[&str]) -> Self {
        let list: Vec<_> = available.to_vec();
        let message = format!(
            "406: Not Acceptable\n\nAvailable representations: {}",
            list.join(", ")
        );
        Self::with_empty_details(406, "NotAcceptable", message)
    }

    /// 415 of a create or update body.
    pub fn unsupported_body(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::bare(415, "UnsupportedMediaType", message)
    }

    /// 415 of a patch.
    pub fn unsupported_patch() -> Self {
        Self::with_empty_details(415, "UnsupportedMediaType", "415: Unsupported Media Type")
    }

    /// 410 for a resourceVersion that history no longer holds.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::bare(410, "Expired", message)
    }

    /// 410 in a watch: `too old resource version: 5 (100)`.
    pub fn too_old(requested: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 504: a resourceVersion that lies ahead.
    pub fn too_large_resource_version(requested: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
        let cause = Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        };
        let details = Details {
            causes: vec![cause],
            retry_after_seconds: 1,
            ..Details::default()
        };
        Status {
            code: 504,
            reason: "Timeout",
            message,
            details: Some(details),
        }
    }

    /// 504.
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        let mut status = Self::with_empty_details(504, "Timeout", format!("Timeout: {message}"));
        status.set_retry(retry_after_seconds);
        status
    }

    /// 504: the operation on a resource might have gone through.
    pub fn server_timeout(of: GroupResource<'_>, operation: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "The {operation} operation against {of} could not be completed at this time, please try again."
        );
        let mut status = Self::about(500, "ServerTimeout", message, of, operation);
        status.set_retry(retry_after_seconds);
        status
    }

    /// 429.
    pub fn too_many_requests(message: &str, retry_after_seconds: u32) -> Self {
        let mut status = Self::with_empty_details(429, "TooManyRequests", message);
        status.set_retry(retry_after_seconds);
        status
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::bare(413, "RequestEntityTooLarge", message)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::bare(503, "ServiceUnavailable", message)
    }

    /// 500: `Internal error occurred: why`.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {why}");
        let cause = Cause {
            message: why.to_string(),
            ..Cause::default()
        };
        let details = Details {
            causes: vec![cause],
            ..Details::default()
        };
        Status {
            code: 500,
            reason: "InternalError",
            message,
            details: Some(details),
        }
    }

    /// Adds a cause, as some admission answers do.
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let cause = Cause {
            reason: reason.into(),
            message: message.into(),
            field: field.into(),
        };
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    fn set_retry(&mut self, seconds: u32) {
        if let Some(details) = &mut self.details {
            details.retry_after_seconds = seconds;
        }
    }

    /// The object that goes over the wire.
    pub fn to_value(&self) -> Value {
        let mut out = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            out["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            out["details"] = details.to_value();
        }
        out
    }

    /// The answer of a delete that returns no object: `Status: Success` naming what went.
    pub fn deleted(group: &str, plural: &str, name: &str, uid: &str) -> Value {
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: plural.into(),
            uid: uid.into(),
            ..Details::default()
        };
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": details.to_value(),
        })
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ] {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".into(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds > 0 {
            out.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [
            ("reason", &self.reason),
            ("message", &self.message),
            ("field", &self.field),
        ] {
            if !text.is_empty() {
                out.insert(key.into(), text.as_str().into());
            }
        }
        Value::Object(out)
    }
}

impl From<&FieldError> for Cause {
    fn from(e: &FieldError) -> Self {
        Cause {
            reason: e.kind.reason().into(),
            message: e.message(),
            field: e.field.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
