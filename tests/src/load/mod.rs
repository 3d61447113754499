//! Many pods at once: created and deleted through the API, timed by what a watch says of each, and what a node holds.

mod census;
mod timed;

pub use census::{Census, Extent};
pub use timed::{IMAGE, Times, create, delete};
