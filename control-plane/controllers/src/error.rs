//! What can go wrong in a controller.

/// An operation that failed; the object is tried again with back-off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request was refused or not answered.
    #[error("{operation}")]
    Api {
        /// What was asked for.
        operation: String,
        /// The server's answer.
        #[source]
        source: kube::Error,
    },
    /// A certificate request can't be signed.
    #[error("sign certificate request {name}")]
    Sign {
        /// The request's name.
        name: String,
        /// Why.
        #[source]
        source: knode_pki::Error,
    },
    /// An object could not be written as JSON.
    #[error("encode {what}")]
    Encode {
        /// The object.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Every subnet of the pod range belongs to a node.
    #[error("no subnet of {pod_cidr} is free for node {node}")]
    NoSubnet {
        /// The node without one.
        node: String,
        /// The cluster's pod addresses.
        pod_cidr: ipnet::IpNet,
    },
}

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names the operation that a request belongs to.
pub(crate) fn api(operation: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let operation = operation.into();
    move |source| Error::Api { operation, source }
}

/// A change that somebody else made first, or an object or a namespace that is going or gone: not an error, the
/// next event brings the newer state.
pub(crate) fn stale(error: &kube::Error) -> bool {
    knode_client::is_conflict(error)
        || knode_client::is_not_found(error)
        || knode_client::is_namespace_terminating(error)
}
