//! The daemon comes and goes; containers do not notice. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use futures::StreamExt;
use knode_cri::*;
use knode_testkit::wait::{wait_until, wait_until_async};
use support::daemon::Daemon;
use support::traces::processes_below;
use support::*;

fn lines(path: &str) -> usize {
    std::fs::read_to_string(path)
        .map(|text| text.lines().count())
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_daemon_takes_everything_up() {
    let mut daemon = Daemon::new("restart").await;
    let sandbox = daemon.sandbox().await;
    let running = daemon
        .run(&sandbox, "while :; do echo tick; sleep 0.05; done")
        .await;
    let gate = daemon.scratch.join("gate");
    std::fs::create_dir(&gate).unwrap();
    let mut ends = shell("while [ ! -e /gate/go ]; do sleep 0.05; done; exit 9");
    ends.mounts = vec![Mount {
        container_path: "/gate".into(),
        host_path: gate.display().to_string(),
        ..Default::default()
    }];
    let ends = daemon.create(&sandbox, ends).await.unwrap();
    daemon.start_container(&ends).await.unwrap();
    let created = daemon
        .create(&sandbox, shell("echo late; sleep 1000"))
        .await
        .unwrap();
    let before = daemon.status(&running).await;

    daemon.kill();
    let seen = lines(&before.log_path);
    wait_until("the log to go on without a daemon", BOUND, || {
        lines(&before.log_path) > seen + 3
    });
    std::fs::write(gate.join("go"), "").unwrap();
    let exit = daemon.scratch.join(format!("engine/containers/{ends}/exit.json"));
    wait_until("the end to be recorded", BOUND, || exit.exists());

    daemon.restart().await;
    assert_eq!(daemon.status(&running).await, before);
    let ended = daemon.status(&ends).await;
    assert_eq!(
        (ended.state(), ended.exit_code),
        (ContainerState::ContainerExited, 9)
    );
    assert_eq!(daemon.output(&running, "echo hello").await, "hello\n");
    daemon.start_container(&created).await.unwrap();
    daemon.wait_log(&created, "late").await;
    daemon.stop(&running, 0).await.unwrap();
    assert_eq!(daemon.status(&running).await.exit_code, 137);
    let again = daemon.create(&sandbox, shell("exit 0")).await.unwrap();
    daemon.start_container(&again).await.unwrap();
    assert_eq!(daemon.wait_exited(&again).await.reason, "Completed");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn teardown_needs_no_daemon() {
    let mut daemon = Daemon::new("teardown").await;
    let sandbox = daemon.sandbox().await;
    daemon
        .run(&sandbox, "trap '' TERM; while :; do sleep 1; done")
        .await;
    daemon.create(&sandbox, shell("true")).await.unwrap();
    daemon.teardown();
    daemon.assert_clean("the teardown");
    let mounts = knode_linux::overlay::mount_points_below(daemon.scratch.path()).unwrap();
    assert!(mounts.is_empty(), "mounted still: {mounts:?}");
    assert!(daemon.attached().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_that_dies_takes_its_containers_along() {
    let daemon = Daemon::new("shimdeath").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    let shim = shim_of(&daemon);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shim),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let status = daemon.wait_exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    wait_until_async("the sandbox to be over", BOUND, || async {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: sandbox.clone(),
            verbose: false,
        };
        let status = daemon
            .cri()
            .pod_sandbox_status(request)
            .await
            .unwrap()
            .status
            .unwrap();
        status.state() == PodSandboxState::SandboxNotready
    })
    .await;
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_an_earlier_boot_have_ended() {
    let mut daemon = Daemon::new("reboot").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "sleep 1000").await;
    daemon.stop(&id, 0).await.unwrap();
    let other = daemon.create(&sandbox, shell("sleep 1000")).await.unwrap();
    let shim = shim_of(&daemon);
    daemon.kill();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shim),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let path = daemon
        .scratch
        .join(format!("engine/sandboxes/{sandbox}/record.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim()));
    std::fs::write(&path, text.replace(boot.trim(), "an-earlier-boot")).unwrap();
    daemon.restart().await;
    let items = daemon
        .cri()
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await
        .unwrap()
        .items;
    assert_eq!(items[0].state(), PodSandboxState::SandboxNotready);
    assert_eq!(daemon.status(&id).await.exit_code, 137);
    assert!(daemon.start_container(&other).await.is_err());
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_reopened_where_the_old_one_was() {
    let daemon = Daemon::new("rotate").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon
        .run(&sandbox, "while :; do echo tick; sleep 0.02; done")
        .await;
    let path = daemon.status(&id).await.log_path;
    wait_until("a first line", BOUND, || lines(&path) > 0);
    let old = format!("{path}.1");
    std::fs::rename(&path, &old).unwrap();
    let request = ReopenContainerLogRequest {
        container_id: id.clone(),
    };
    daemon.cri().reopen_container_log(request).await.unwrap();
    assert!(
        std::path::Path::new(&path).exists(),
        "the file is there when the call returns"
    );
    let frozen = lines(&old);
    wait_until("lines in the new file", BOUND, || lines(&path) > 3);
    assert_eq!(lines(&old), frozen);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_the_story_in_order() {
    let daemon = Daemon::new("events").await;
    let mut events = daemon.cri().container_events().await.unwrap();
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "exit 4").await;
    daemon.wait_exited(&id).await;
    let request = RemovePodSandboxRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    daemon.cri().remove_pod_sandbox(request).await.unwrap();
    use ContainerEventType::*;
    let wanted = [
        (&sandbox, ContainerCreatedEvent),
        (&sandbox, ContainerStartedEvent),
        (&id, ContainerCreatedEvent),
        (&id, ContainerStartedEvent),
        (&id, ContainerStoppedEvent),
        (&sandbox, ContainerStoppedEvent),
        (&id, ContainerDeletedEvent),
        (&sandbox, ContainerDeletedEvent),
    ];
    for (object, kind) in wanted {
        let event = tokio::time::timeout(BOUND, events.next())
            .await
            .expect("an event")
            .unwrap()
            .unwrap();
        assert_eq!(
            (&event.container_id, event.container_event_type()),
            (object, kind)
        );
        if kind == ContainerStoppedEvent && object == &id {
            assert_eq!(event.containers_statuses[0].exit_code, 4);
            assert_eq!(event.pod_sandbox_status.unwrap().id, sandbox);
        }
    }
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_is_small() {
    let daemon = Daemon::new("small").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon.run(&sandbox, "echo up; sleep 1000").await;
    daemon.wait_log(&id, "up").await;
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim_of(&daemon))).unwrap();
    let kilobytes = |name: &str| -> u64 {
        let lines = rollup.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum()
    };
    let private = kilobytes("Private_Dirty:");
    println!("{rollup}");
    // An unoptimized program has more to relocate than a released one.
    assert!(private < 4096, "a shim has {private} kB of its own");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_write_to_the_program_that_enters_containers() {
    let daemon = Daemon::new("sealed").await;
    let sandbox = daemon.sandbox().await;
    // One that comes to every process of the host.
    let config = secured(shell("sleep 1000"), |context| {
        context.privileged = true;
        context.namespace_options = Some(NamespaceOption {
            pid: NamespaceMode::Node as i32,
            ..Default::default()
        });
    });
    let id = daemon.run_config(&sandbox, config).await;
    let shim = shim_of(&daemon);
    // As somebody in a privileged container has it, who waits for its end.
    let kept = std::fs::File::open(format!("/proc/{shim}/exe")).unwrap();
    let written = daemon
        .exec(&id, &["sh", "-c", &format!(": >> /proc/{shim}/exe")])
        .await
        .unwrap();
    assert_ne!(
        written.exit_code, 0,
        "a container has opened the shim's program to write"
    );
    // While anybody runs it, it is busy. What protects it then as well as later is the mount that it was found on.
    let mount = rustix::fs::fstatvfs(&kept).unwrap().f_flag;
    assert!(mount.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{mount:?}");
    daemon.end().await;
}

/// The only shim of the daemon's engine.
fn shim_of(daemon: &Daemon) -> i32 {
    let marks = processes_below(&daemon.scratch.join("engine").display().to_string());
    let shims: Vec<&String> = marks
        .iter()
        .filter(|line| line.contains(" shim ") || line.contains("entry shim"))
        .collect();
    assert_eq!(shims.len(), 1, "{marks:?}");
    shims[0].split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_come_up_side_by_side() {
    let daemon = Daemon::new("crowd").await;
    let start = std::time::Instant::now();
    let pods = (0..20).map(|_| async {
        let sandbox = daemon.sandbox().await;
        daemon.run(&sandbox, "echo up; sleep 1000").await
    });
    let ids = futures::future::join_all(pods).await;
    println!("20 pods in {:?}", start.elapsed());
    for id in &ids {
        daemon.wait_log(id, "up").await;
    }
    assert!(start.elapsed() < Duration::from_secs(60));
    daemon.end().await;
}
