//! End-to-end tests of the real binary: machines as network namespaces without a way out, the real kubectl.

mod cluster;
mod containerd;
mod driver;
pub mod kubectl;
pub mod load;
mod output;
pub mod proxy;
pub mod recordings;
mod site;
mod traces;

pub use cluster::{Cluster, ROOMY, binary, over_containerd};
pub use containerd::Containerd;
pub use driver::{Call, CsiDriver};
pub use output::Output;
pub use site::{Site, ready};

use std::time::Duration;

/// How long anything may take that normally takes seconds.
pub const BOUND: Duration = Duration::from_secs(90);
