//! Many pods come and go at once, and nothing of them stays. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use support::daemon::Daemon;
use support::*;

const AT_ONCE: usize = 50;

fn open_files(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

async fn cycle(daemon: &Daemon) {
    let sandbox = daemon.run_sandbox(daemon.sandbox_config()).await.unwrap();
    let container = daemon
        .run(&sandbox, "trap 'exit 0' TERM; while :; do sleep 1; done")
        .await;
    daemon.stop(&container, 0).await.unwrap();
    daemon.remove(&container).await.unwrap();
    daemon.stop_sandbox(&sandbox).await.unwrap();
    daemon.remove_sandbox(&sandbox).await.unwrap();
}

async fn cycles(name: &str, count: usize) {
    let daemon = Arc::new(Daemon::new(name).await);
    cycle(&daemon).await;
    daemon.assert_clean("the first cycle");
    let before = open_files(daemon.pid());
    let started = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (daemon, next) = (daemon.clone(), next.clone());
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    cycle(&daemon).await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    println!("{count} pods, {AT_ONCE} at once: {:?}", started.elapsed());
    daemon.assert_clean("all cycles");
    knode_testkit::wait::wait_until("descriptors to be closed", BOUND, || {
        let now = open_files(daemon.pid());
        if now <= before + 2 {
            Ok(())
        } else {
            Err(format!("{now} are open, {before} were"))
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_come_and_go_fifty_at_once() {
    cycles("cycles", 200).await;
}

/// As above for longer: `cargo test -p knode-engine --test cycles -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_thousand_pods_come_and_go() {
    cycles("thousand", 1000).await;
}
