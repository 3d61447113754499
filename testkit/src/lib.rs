//! Test support: hosts as network namespaces, images, a registry, waiting with a bound, leak detection.
//!
//! Everything that is started or made here goes when its value is dropped, also when a test fails.

pub mod containerd;
pub mod hosts;
pub mod image;
pub mod leaks;
pub mod process;
pub mod registry;
pub mod scratch;
pub mod wait;

pub use hosts::{Host, Lan};
pub use process::Process;
pub use registry::Registry;
pub use scratch::Scratch;
pub use wait::{wait_until, wait_until_async};

/// Panics with a plain message when the test does not run as root.
#[track_caller]
pub fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes namespaces and mounts: run it as root"
    );
}
