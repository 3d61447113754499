//! One Kubernetes client over any transport, informers, work queue, back-off, clock.
//!
//! The client type is `kube`'s; this crate makes it (HTTPS with certificates that rotate, or a service in the same
//! process) and adds what controllers and node agents need around it.

mod backoff;
mod clock;
mod error;
mod events;
mod informer;
mod lean;
mod queue;
mod request;
mod transport;

pub use backoff::{Backoff, Retry};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::Error;
pub use events::{Correlator, EventAction, EventKind, EventRecorder, EventSource};
pub use informer::{
    AnyCache, AnyKind, AnyObjects, Cache, Change, Delta, ObjectKey, Subscription, WatchConfig, WatchError,
    watch,
};
pub use lean::{annotated_meta, short_meta};
pub use queue::WorkQueue;
pub use request::{Verb, send};
pub use transport::{ClientIdentity, Connected, RequestObserver, connect, from_kubeconfig, from_service};

pub use knode_pki::kubeconfig::{Access, Material};
pub use kube::{Api, Client, Error as ApiError};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether the server answered 404.
pub fn is_not_found(error: &ApiError) -> bool {
    status_code(error) == Some(404)
}

/// Whether the server answered 409 (exists already, or changed in between).
pub fn is_conflict(error: &ApiError) -> bool {
    status_code(error) == Some(409)
}

/// Whether the server refused to create something because its namespace is going away.
pub fn is_namespace_terminating(error: &ApiError) -> bool {
    let ApiError::Api(status) = error else {
        return false;
    };
    let causes = status.details.iter().flat_map(|d| &d.causes);
    causes.into_iter().any(|c| c.reason == "NamespaceTerminating")
}

/// An error in one line, causes included; of an answer by the server its message alone.
pub fn brief(error: &(dyn std::error::Error + 'static)) -> String {
    let (mut text, mut cause) = (String::new(), Some(error));
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        if let Some(ApiError::Api(status)) = error.downcast_ref() {
            return text + &status.message;
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The HTTP status that the server answered with, if it answered.
pub fn status_code(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::Api(status) => Some(status.code),
        _ => None,
    }
}
