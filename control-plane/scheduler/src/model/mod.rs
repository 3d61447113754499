//! What scheduling needs to know of pods and nodes, taken out of the API objects.

mod node;
mod pod;
mod resources;

pub use node::Node;
#[cfg(test)]
pub(crate) use pod::Condition;
pub use pod::{HostPort, Pod};
pub use resources::Resources;
