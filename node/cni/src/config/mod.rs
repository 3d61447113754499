//! Network configurations: what a directory of them says.

mod list;
mod load;
mod parse;

pub use list::{NetworkList, Plugin};
pub use load::{Broken, ConfFile, Loaded, Network, Snapshot, load};
pub use parse::ConfigError;
pub(crate) use parse::parse_list;
