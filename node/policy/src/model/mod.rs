//! Pods, namespaces and policies, reduced to what decides about packets.

mod block;
mod identity;
mod labels;
mod pod;
mod policy;
mod selector;
mod space;
mod types;

pub use block::{Blocks, IpRange};
pub(crate) use identity::identity;
pub use knode_nft::IpFamily;
pub use labels::Labels;
pub use pod::{ContainerPort, Pod};
pub use policy::{Peers, Policy, PortList, PortMatch, Ports, Rule};
pub use selector::{Namespaces, Selector};
pub use space::{Model, Space};
pub use types::{Direction, Key, Name, Protocol};
