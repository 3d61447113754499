//! Test support: hosts as network namespaces, images, a registry, waiting with a bound, leak detection.
//!
//! Everything that is started or made here goes when its value is dropped, also when a test fails.

pub mod containerd;
pub mod hosts;
pub mod image;
pub mod leaks;
pub mod machine;
pub mod netns;
pub mod process;
pub mod random;
pub mod registry;
pub mod scratch;
pub mod systemd;
pub mod wait;

pub use hosts::{Host, Lan};
pub use netns::{in_fresh_netns, nft, run};
pub use process::Process;
pub use random::Random;
pub use registry::Registry;
pub use scratch::Scratch;
pub use systemd::Systemd;
pub use wait::{wait_until, wait_until_async};

/// Panics with a plain message when the test does not run as root.
#[track_caller]
pub fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes namespaces and mounts: run it as root"
    );
}
