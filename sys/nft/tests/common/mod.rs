//! A thread in a fresh network namespace, and `nft` to look with.

use std::process::Command;

/// Runs `test` on a thread with a network namespace of its own, which is gone when the thread ends.
pub fn in_fresh_netns(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this test needs root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What `nft` prints; a child of this thread is in its network namespace.
#[allow(dead_code, reason = "not every test looks with nft")]
pub fn nft(args: &[&str]) -> String {
    let output = Command::new("nft")
        .args(args)
        .output()
        .expect("nft is installed (Debian: nftables)");
    assert!(
        output.status.success(),
        "nft {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("nft prints text")
}

/// Runs a command and wants it to succeed.
#[allow(dead_code, reason = "not every test needs it")]
pub fn run(program: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .output()
        .expect("the program is installed");
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
