//! Threads in network namespaces of their own.

use std::fs::File;
use std::sync::mpsc;

pub use knode_testkit::{nft, run};
use nix::sched::{CloneFlags, setns, unshare};

/// Runs `test` on a thread with a fresh network namespace, which is gone when the thread has ended; its `lo` is up.
pub fn in_fresh_netns(test: impl FnOnce() + Send + 'static) {
    knode_testkit::in_fresh_netns(|| {
        run("ip", &["link", "set", "lo", "up"]);
        test();
    });
}

/// A network namespace that lives as long as this value.
#[derive(Debug)]
pub struct Host {
    netns: File,
    pub path: String,
}

impl Host {
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        let made = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
            run("ip", &["link", "set", "lo", "up"]);
            sender
                .send(File::open("/proc/thread-self/ns/net").expect("own namespace"))
                .expect("receiver");
        });
        made.join().expect("namespace made");
        let netns = receiver.recv().expect("namespace");
        let path = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            std::os::fd::AsRawFd::as_raw_fd(&netns)
        );
        Self { netns, path }
    }

    /// Runs `work` on a thread inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.netns, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `work` on a thread inside that runs on its own.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let netns = self.netns.try_clone().expect("namespace handle");
        std::thread::spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            work()
        })
    }

    /// Runs `ip` inside.
    pub fn ip(&self, args: &str) {
        let args: Vec<&str> = args.split_whitespace().collect();
        self.run(|| run("ip", &args));
    }

    /// A veth pair to another host: interface `name` here, `peer` there, each with its address.
    pub fn veth(&self, name: &str, address: &str, other: &Host, peer: &str, other_address: &str) {
        self.ip(&format!(
            "link add {name} type veth peer name {peer} netns {}",
            other.path
        ));
        self.ip(&format!("addr add {address} dev {name}"));
        self.ip(&format!("link set {name} up"));
        other.ip(&format!("addr add {other_address} dev {peer}"));
        other.ip(&format!("link set {peer} up"));
    }
}

/// The elements of a set or map in what `nft list` printed, of both families together.
pub fn elements(listing: &str, set: &str) -> String {
    let begins =
        |line: &&str| [format!("set {set} {{"), format!("map {set} {{")].contains(&line.trim().to_owned());
    let mut lines = listing.lines();
    let mut found = String::new();
    while lines.by_ref().find(begins).is_some() {
        lines
            .by_ref()
            .take_while(|line| line.trim() != "}")
            .for_each(|line| {
                found.push_str(line);
                found.push('\n');
            });
    }
    found
}
