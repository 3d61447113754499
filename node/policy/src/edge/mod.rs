//! The thin edge: API watches in, netlink out.

mod bridge;
mod error;
mod feed;
mod follow;
mod run;

pub use error::Error;
pub use run::{PolicyConfig, run};
