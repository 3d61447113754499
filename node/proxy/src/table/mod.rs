//! From the plan to nftables: a table of flat maps for each family, and the batches that change it.
//!
//! `svc` leads from address, protocol and port to a chain that is shared by all frontends of the same
//! [`Shape`](crate::plan::Shape); that chain draws an index and finds the endpoint in `eps`. A Service costs one
//! element a frontend and one an endpoint, and changing it touches these elements alone.

mod actual;
mod check;
mod config;
mod decode;
mod elements;
mod incremental;
mod layout;
mod pick;
mod remember;
mod repair;
mod skeleton;

pub use actual::Actual;
pub use check::misplaced_cidr;
pub use config::{Locality, TableConfig};
pub use decode::{Decoder, orders, sticky_clients};
pub use elements::{AFFINITY, AFFINITY_HERE, ENDPOINTS, HAIRPIN, REMEMBER, SERVICES, elements};
pub use incremental::batch;
pub use repair::repair;
pub use skeleton::{DROP, REJECT, Ruleset, ruleset};
