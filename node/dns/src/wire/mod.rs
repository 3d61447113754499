//! Messages, read and written; pure.

mod reply;
mod request;

pub use reply::Reply;
pub use request::{Request, Transport, Unreadable};
