//! From the plan to nftables: a table of flat maps for each family, and the batches that change it.
//!
//! Frontends of the same [`Shape`](crate::plan::Shape) share a chain that draws an index and finds the endpoint in
//! `eps`, the map of address, protocol, port and index. To that chain lead sets (`to-cluster` and its like, and the
//! bits of the number of endpoints), or, for what is particular about a frontend, the map `svc`. A Service costs a
//! few elements a frontend and one an endpoint, and changing it touches these elements alone.

mod actual;
mod check;
mod config;
mod decode;
mod dispatch;
mod elements;
mod incremental;
mod layout;
mod pick;
mod remember;
mod repair;
mod skeleton;

pub use actual::Actual;
pub use check::misplaced_cidr;
pub(crate) use config::of_family;
pub use config::{Locality, TableConfig};
pub use decode::{Decoder, orders, sticky_clients};
pub(crate) use dispatch::{counted_sets, members};
pub(crate) use elements::ENDPOINT_MAPS;
pub use elements::{
    AFFINITY, AFFINITY_HERE, ENDPOINTS, HAIRPIN, NO_ENDPOINTS, REMEMBER, SERVICES, SPECIAL_ENDPOINTS,
    elements,
};
pub use incremental::batch;
pub use repair::repair;
pub use skeleton::{DROP, REJECT, ruleset};
