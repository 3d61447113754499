//! What the tests share: a small cluster, truth tables, a packet tracer, an oracle, a network of namespaces.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod api;
pub mod cases;
pub mod cluster;
pub mod net;
pub mod oracle;
pub mod random;
pub mod sctp;
pub mod tracer;

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread with a fresh network namespace, which is gone when the thread has ended.
pub fn in_fresh_netns(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What `nft` prints in this thread's namespace.
pub fn nft(args: &[&str]) -> String {
    let output = Command::new("nft")
        .args(args)
        .output()
        .expect("nft is installed (Debian: nftables)");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {args:?}: {error}");
    String::from_utf8(output.stdout).expect("nft prints text")
}
