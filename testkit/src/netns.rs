//! Threads in network namespaces of their own, and the programs that look into them.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread with a fresh network namespace, which is gone when the thread has ended; its `lo` is down.
///
/// # Panics
/// Without root, and as `test` does.
pub fn in_fresh_netns(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command in this thread's namespaces; what it prints.
///
/// # Panics
/// When the program is not installed, fails, or prints no text.
#[track_caller]
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program} is not installed (scripts/debian.sh): {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap_or_else(|error| panic!("{program} prints no text: {error}"))
}

/// What `nft` prints in this thread's network namespace.
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn nft(args: &[&str]) -> String {
    run("nft", args)
}
