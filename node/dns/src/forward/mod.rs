//! Everything that is not the cluster's own is asked of others.

mod cache;
mod exchange;
mod forwarder;
mod policy;
mod routes;
mod upstream;

pub use cache::{Cache, CacheKey, CacheLimits, lifetime};
pub use forwarder::{ForwardError, Forwarder};
pub use policy::{Attempts, Health};
pub use routes::{ParseStubError, Stub, nameservers};
