//! Following objects: a stream of changes, and a cache built on it.

mod any;
mod cache;
mod stream;

pub use any::{AnyCache, AnyKind, AnyObjects};
pub use cache::{Cache, Delta, ObjectKey, Subscription};
pub use stream::{Change, WatchConfig, WatchError, watch};
