//! Whatever dies wherever, nothing is lost and nothing is left. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use knode_cri::*;
use knode_engine::crash::{BELOW, DAEMON};
use knode_testkit::wait::wait_until_async;
use support::daemon::Daemon;
use support::*;

const SCRIPT: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done";

/// A pod in the middle of its life.
struct Pod {
    config: PodSandboxConfig,
    sandbox: String,
    container: String,
}

/// Brings a pod to the point at which `operation` is the next.
async fn pod(daemon: &Daemon, operation: &str) -> Pod {
    let config = daemon.sandbox_config();
    let mut pod = Pod {
        config: config.clone(),
        sandbox: String::new(),
        container: String::new(),
    };
    if operation == "run" {
        return pod;
    }
    pod.sandbox = daemon.run_sandbox(config).await.unwrap();
    if operation == "create" {
        return pod;
    }
    pod.container = daemon.create(&pod.sandbox, named("c")).await.unwrap();
    if operation != "start" {
        daemon.start_container(&pod.container).await.unwrap();
    }
    pod
}

fn named(name: &str) -> ContainerConfig {
    let mut config = shell(SCRIPT);
    config.metadata = Some(ContainerMetadata {
        name: name.into(),
        attempt: 0,
    });
    config
}

async fn operate(daemon: &Daemon, operation: &str, pod: &Pod) -> CriResult<()> {
    match operation {
        "run" => daemon.run_sandbox(pod.config.clone()).await.map(|_| ()),
        "create" => daemon.create(&pod.sandbox, named("c")).await.map(|_| ()),
        "start" => daemon.start_container(&pod.container).await,
        "stop" => daemon.stop(&pod.container, 5).await,
        "remove" => daemon.remove(&pod.container).await,
        "stop-sandbox" => daemon.stop_sandbox(&pod.sandbox).await,
        "remove-sandbox" => daemon.remove_sandbox(&pod.sandbox).await,
        other => panic!("{other} is no operation"),
    }
}

/// After a crash what was acknowledged is there, and the operation can be done.
async fn check(daemon: &Daemon, operation: &str, point: &str, pod: &Pod) {
    match operation {
        "run" => {
            // A sandbox is there whole or not at all; with the latter its name is free.
            match daemon.sandboxes().await.as_slice() {
                [] => drop(daemon.run_sandbox(pod.config.clone()).await.unwrap()),
                [one] => assert_eq!(one.state(), PodSandboxState::SandboxReady, "{point}"),
                more => panic!("{point}: {more:?}"),
            }
        }
        "create" => {
            let made = daemon.containers().await;
            let id = match made.as_slice() {
                [] => daemon.create(&pod.sandbox, named("c")).await.unwrap(),
                [one] => one.id.clone(),
                more => panic!("{point}: {more:?}"),
            };
            daemon.start_container(&id).await.unwrap();
        }
        "start" => {
            let status = daemon.status(&pod.container).await;
            match status.state() {
                ContainerState::ContainerCreated => {
                    daemon.start_container(&pod.container).await.unwrap();
                    assert_eq!(
                        daemon.output(&pod.container, "echo alive").await,
                        "alive\n",
                        "{point}"
                    );
                }
                ContainerState::ContainerRunning => {
                    assert_eq!(
                        daemon.output(&pod.container, "echo alive").await,
                        "alive\n",
                        "{point}"
                    );
                }
                // What was below it died with it.
                ContainerState::ContainerExited => assert!(status.exit_code != 0, "{point}: {status:?}"),
                ContainerState::ContainerUnknown => panic!("{point}: {status:?}"),
            }
        }
        "stop" => {
            daemon.stop(&pod.container, 5).await.unwrap();
            let status = daemon.status(&pod.container).await;
            assert_eq!(status.state(), ContainerState::ContainerExited, "{point}");
        }
        "remove" => {
            daemon.remove(&pod.container).await.unwrap();
            assert_eq!(daemon.containers().await, vec![], "{point}");
        }
        "stop-sandbox" | "remove-sandbox" => {
            daemon.stop_sandbox(&pod.sandbox).await.unwrap();
            daemon.remove_sandbox(&pod.sandbox).await.unwrap();
        }
        other => panic!("{other} is no operation"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_at_any_step_leaves_nothing_behind() {
    let mut daemon = Daemon::new("crash").await;
    for (operation, points) in DAEMON {
        for point in *points {
            let pod = pod(&daemon, operation).await;
            println!("{operation}: {point}");
            daemon.crash_at(point);
            let answer = operate(&daemon, operation, &pod).await;
            // An end is told before everything that follows from it is done.
            assert!(
                answer.is_err() || point.starts_with("end."),
                "{point}: a dead daemon has answered"
            );
            wait_until_async(point, BOUND, || async { daemon.crashed() }).await;
            daemon.restart().await;
            check(&daemon, operation, point, &pod).await;
            daemon.clear().await;
            daemon.assert_clean(point);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_or_creator_that_dies_at_any_step_leaves_nothing_behind() {
    let mut daemon = Daemon::new("below").await;
    for (operation, points) in BELOW {
        for point in *points {
            let pod = pod(&daemon, operation).await;
            println!("{operation}: {point}");
            daemon.crash_at(point);
            // The answer depends on whether there was somebody left to give it.
            let _ = operate(&daemon, operation, &pod).await;
            wait_until_async(point, BOUND, || async { daemon.crashed() }).await;
            assert!(daemon.is_alive(), "{point}: the daemon has died too");
            check(&daemon, operation, point, &pod).await;
            daemon.clear().await;
            daemon.assert_clean(point);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_and_shim_that_die_together_leave_nothing_behind() {
    let mut daemon = Daemon::new("both").await;
    for point in [
        "shim.asked",
        "shim.spawned",
        "creator.begin",
        "creator.built",
        "creator.started",
    ] {
        let pod = pod(&daemon, "start").await;
        println!("{point}");
        daemon.crash_at(point);
        let start = StartContainerRequest {
            container_id: pod.container.clone(),
        };
        let client = daemon.cri().clone();
        let asked = tokio::spawn(async move { client.start_container(start).await });
        wait_until_async(point, BOUND, || async { daemon.crashed() }).await;
        daemon.kill();
        // Only that it is over counts: there is nobody left to answer.
        let _ = asked.await;
        daemon.start().await;
        check(&daemon, "start", point, &pod).await;
        daemon.clear().await;
        daemon.assert_clean(point);
    }
}
