//! Containers of other OCI runtimes, by runtime handler. Needs the packages runc and crun.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::PermissionsExt;

use knode_cri::*;
use knode_engine::OciProgram;
use support::daemon::Daemon;
use support::shell;

const HANDLERS: [&str; 2] = ["runc", "crun"];

/// Debian's crun refuses machines whose second hierarchy of control groups has controllers left: there it is started
/// where that one is not to be seen.
const CRUN: &str = r#"#!/bin/sh
exec unshare --mount sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"' crun "$@"
"#;

fn program(daemon: &Daemon, handler: &str) -> OciProgram {
    let path = match handler {
        "runc" => "/usr/sbin/runc".into(),
        _ => {
            let path = daemon.scratch.join("crun");
            std::fs::write(&path, CRUN).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        }
    };
    OciProgram {
        path,
        options: Vec::new(),
    }
}

async fn daemon(name: &str) -> Daemon {
    let mut daemon = Daemon::new(name).await;
    let programs = HANDLERS.map(|handler| (handler, program(&daemon, handler)));
    daemon.set_runtimes(&programs);
    daemon.restart().await;
    daemon
}

async fn sandbox(daemon: &Daemon, handler: &str) -> String {
    let request = RunPodSandboxRequest {
        config: Some(daemon.sandbox_config()),
        runtime_handler: handler.into(),
    };
    daemon
        .cri()
        .run_pod_sandbox(request)
        .await
        .unwrap()
        .pod_sandbox_id
}

/// What a container is, inside and outside, does not depend on who makes it.
#[tokio::test]
async fn a_container_is_the_same_whoever_makes_it() {
    let daemon = daemon("same").await;
    let mut seen = Vec::new();
    for handler in ["", "runc", "crun"] {
        let pod = sandbox(&daemon, handler).await;
        let script = "trap 'exit 7' TERM; echo out; echo err >&2; while :; do sleep 1000 & wait; done";
        let container = daemon.run(&pod, script).await;
        let log = daemon.wait_log(&container, "stdout F out").await;
        assert!(log.contains("stderr F err"), "{handler:?}: {log}");
        let command = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/1/status; hostname; id; ls /; pwd";
        seen.push(
            daemon
                .output(&container, command)
                .await
                .replace(&pod[..12], "POD"),
        );
        let answer = daemon
            .exec(&container, &["sh", "-c", "echo e >&2; exit 5"])
            .await
            .unwrap();
        assert_eq!(
            (answer.exit_code, &answer.stderr[..]),
            (5, &b"e\n"[..]),
            "{handler:?}"
        );
        daemon.stop(&container, 20).await.unwrap();
        let ended = daemon.wait_exited(&container).await;
        assert_eq!(
            (ended.exit_code, ended.reason.as_str()),
            (7, "Error"),
            "{handler:?}"
        );
    }
    let names = |text: &str| text.replace("pod-1", "pod-0").replace("pod-2", "pod-0");
    assert_eq!(names(&seen[1]), seen[0], "runc");
    assert_eq!(names(&seen[2]), seen[0], "crun");
    daemon.end().await;
}

/// Why a program cannot run is said in the runtime's words.
#[tokio::test]
async fn what_cannot_run_says_why() {
    let daemon = daemon("why").await;
    for handler in HANDLERS {
        let pod = sandbox(&daemon, handler).await;
        let container = daemon.create(&pod, support::command(&["nope"])).await.unwrap();
        let error = daemon.start_container(&container).await.unwrap_err().message;
        assert!(
            error.contains("nope") && error.contains("not found in $PATH"),
            "{handler}: {error}"
        );
        let status = daemon.status(&container).await;
        assert_eq!(
            (status.exit_code, status.reason.as_str()),
            (128, "StartError"),
            "{handler}"
        );
        let container = daemon.run(&pod, "sleep 1000").await;
        let error = daemon.exec(&container, &["nope"]).await.unwrap_err().message;
        assert!(error.contains("nope"), "{handler}: {error}");
        let late = daemon
            .exec_for(&container, &["sleep", "100"], 1)
            .await
            .unwrap_err();
        assert_eq!(late.code, Code::DeadlineExceeded, "{handler}");
    }
    let request = RunPodSandboxRequest {
        config: Some(daemon.sandbox_config()),
        runtime_handler: "kata".into(),
    };
    let unknown = daemon.cri().run_pod_sandbox(request).await.unwrap_err();
    assert_eq!(unknown.message, "no runtime for \"kata\" is configured");
    daemon.end().await;
}

/// A container keeps the runtime that made it, also when the engine comes back without it.
#[tokio::test]
async fn a_container_stays_with_its_runtime() {
    let mut daemon = daemon("stays").await;
    let mut containers = Vec::new();
    for handler in HANDLERS {
        let pod = sandbox(&daemon, handler).await;
        let mut config = shell("test -t 1 && echo terminal; sleep 1000");
        config.tty = handler == "crun";
        let container = daemon.create(&pod, config).await.unwrap();
        daemon.start_container(&container).await.unwrap();
        containers.push((pod, container));
    }
    daemon.wait_log(&containers[1].1, "terminal").await;
    daemon.set_runtimes(&[]);
    daemon.restart().await;
    for (pod, container) in &containers {
        assert_eq!(daemon.output(container, "echo there").await, "there\n");
        let refused = daemon.create(pod, shell("true")).await.unwrap_err();
        assert!(refused.message.contains("is configured"), "{refused}");
        daemon.stop(container, 0).await.unwrap();
        assert_eq!(daemon.wait_exited(container).await.exit_code, 137);
        let request = RemoveContainerRequest {
            container_id: container.clone(),
        };
        daemon.cri().remove_container(request).await.unwrap();
        assert!(!daemon.scratch.join("run/oci").join(container).exists());
    }
    daemon.end().await;
}
