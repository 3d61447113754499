//! Revisioned key-value store in one SQLite file.
//!
//! Every write gets the next revision of one global counter. Writes compare and swap on a key's last
//! revision; reads see the state at any revision that is not compacted; watches deliver every change after a
//! revision, in order and without gaps. An acknowledged write is on the disk.

mod changes;
mod error;
mod lock;
mod model;
mod reader;
mod schema;
mod store;
mod watch;
mod writer;

pub use error::{Error, Result};
pub use model::{Change, Entry, Expect, Page, Range, Revision, Value};
pub use store::Store;
pub use watch::Watch;
