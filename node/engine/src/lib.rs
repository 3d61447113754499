//! The container engine behind the CRI traits: sandboxes, containers, shims, logs, streaming.
//!
//! [`Engine`] implements [`knode_cri::RuntimeService`] and [`knode_cri::ImageService`] in this process.
//! Containers run under a small process per pod ([`shim`]) that outlives the engine; the engine finds it
//! again when it is opened anew. Programs that use the engine call [`entry::dispatch`] first thing in
//! `main`, because shim and container creator are this same program executed anew.

mod config;
mod container;
pub mod crash;
mod engine;
pub mod entry;
mod error;
mod events;
pub mod fuzz;
mod guard;
mod link;
pub mod net;
mod recovery;
mod runtime;
mod sandbox;
mod scope;
mod secluded;
mod selinux;
mod service;
pub mod shim;
pub mod spec;
mod state;
mod streaming;
mod teardown;

pub use config::{CgroupDriver, EngineConfig};
pub use engine::Engine;
pub use error::{EngineError, Result};
pub use runtime::{OciProgram, Runtimes, RuntimesError};
pub use teardown::teardown;
