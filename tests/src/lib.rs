//! End-to-end tests of the real binary: machines as network namespaces without a way out, the real kubectl.

mod cluster;
pub mod kubectl;
mod output;
pub mod recordings;

pub use cluster::{Cluster, ROOMY, binary};
pub use output::Output;

use std::time::Duration;

/// How long anything may take that normally takes seconds.
pub const BOUND: Duration = Duration::from_secs(90);
