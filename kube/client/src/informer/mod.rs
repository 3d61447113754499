//! Following objects: a stream of changes, and a cache built on it.

mod cache;
mod stream;

pub use cache::{Cache, Delta, ObjectKey, Subscription};
pub use stream::{Change, WatchConfig, WatchError, watch};
