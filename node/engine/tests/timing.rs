//! How long each step takes; run with `--nocapture` to see. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use knode_cri::*;
use support::daemon::Daemon;
use support::*;

const ROUNDS: usize = 20;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_takes_long() {
    let daemon = Daemon::new("timing").await;
    let names = [
        "run sandbox",
        "create",
        "start",
        "exec",
        "stop",
        "remove",
        "stop sandbox",
        "remove sandbox",
    ];
    let mut times: [Vec<Duration>; 8] = Default::default();
    for _ in 0..ROUNDS {
        let mut at = Instant::now();
        let mut step = 0;
        let mut lap = || {
            times[step].push(at.elapsed());
            step += 1;
            at = Instant::now();
        };
        let sandbox = daemon.sandbox().await;
        lap();
        let id = daemon
            .create(&sandbox, command(&["sleep", "1000"]))
            .await
            .unwrap();
        lap();
        daemon.start_container(&id).await.unwrap();
        lap();
        daemon.exec(&id, &["true"]).await.unwrap();
        lap();
        daemon.stop(&id, 0).await.unwrap();
        lap();
        let engine = daemon.cri();
        engine
            .remove_container(RemoveContainerRequest { container_id: id })
            .await
            .unwrap();
        lap();
        engine
            .stop_pod_sandbox(StopPodSandboxRequest {
                pod_sandbox_id: sandbox.clone(),
            })
            .await
            .unwrap();
        lap();
        engine
            .remove_pod_sandbox(RemovePodSandboxRequest {
                pod_sandbox_id: sandbox,
            })
            .await
            .unwrap();
        lap();
    }
    for (name, times) in names.into_iter().zip(times) {
        let median = median(times);
        println!("{name}: {median:.1?}");
        // Far above what an unloaded machine needs, far below what a poll or a time-out in the way costs.
        assert!(median < Duration::from_millis(500), "{name} takes {median:?}");
    }
    daemon.end().await;
}
