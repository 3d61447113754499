//! The thin edge: API watches in, netlink out.

mod announce;
mod bridge;
mod error;
mod feed;
mod follow;
mod run;

pub use announce::{Announcements, Announcer, announcements};
pub use error::Error;
pub use run::{PolicyConfig, run};
