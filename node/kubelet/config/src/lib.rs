//! What upstream's kubelet can be told, by flags and by `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1) files with
//! drop-ins, to one effective configuration. Everything here is pure: the caller reads the files.
//!
//! A table ([`schema`]) says of each field what form it has and what becomes of it: it is honoured, or it may only be set
//! to what this kubelet does anyway and is refused by name otherwise, or it has no effect, which a warning says.

mod defaults;
mod error;
mod file;
mod flags;
mod merge;
mod schema;
mod settings;
mod settle;
mod validate;

pub use error::Error;
pub use flags::{Command, CommandLine, Own, parse as parse_flags, usage};
pub use settings::{MemoryReservation, PriorityGrace, ResourceSettings, Settings, Taint};
pub use settle::{Effective, Sources, settle};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
