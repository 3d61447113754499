//! Containers from creation to removal, with real processes. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use knode_cri::*;
use support::daemon::Daemon;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_lives_and_leaves_nothing_behind() {
    let daemon = Daemon::new("lifecycle").await;
    let engine = daemon.cri();
    let sandbox = daemon.sandbox().await;
    let id = daemon
        .create(&sandbox, shell("echo out; echo err >&2; exit 3"))
        .await
        .unwrap();
    let status = daemon.status(&id).await;
    assert_eq!(status.state(), ContainerState::ContainerCreated);
    assert_eq!((status.started_at, status.finished_at), (0, 0));
    daemon.start_container(&id).await.unwrap();
    let status = daemon.wait_exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(
        status.created_at < status.started_at && status.started_at <= status.finished_at,
        "{status:?}"
    );
    assert_eq!(status.image.unwrap().image, IMAGE);
    let digest = status.image_ref.strip_prefix("localhost/test/busybox@sha256:");
    assert_eq!(digest.map(str::len), Some(64), "{}", status.image_ref);

    let log = daemon.log(&id).await;
    let mut streams: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    streams.sort_unstable();
    assert_eq!(streams, ["stderr F err", "stdout F out"]);

    let again = daemon.start_container(&id).await.unwrap_err();
    assert_eq!(again.code, Code::FailedPrecondition, "{again:?}");
    engine
        .remove_container(RemoveContainerRequest {
            container_id: id.clone(),
        })
        .await
        .unwrap();
    engine
        .remove_container(RemoveContainerRequest {
            container_id: id.clone(),
        })
        .await
        .expect("twice is no error");
    let request = ContainerStatusRequest {
        container_id: id.clone(),
        verbose: false,
    };
    let gone = engine.container_status(request).await.unwrap_err();
    assert_eq!(gone.code, Code::NotFound);
    assert_eq!(
        gone.message,
        format!("an error occurred when try to find container {id:?}: not found")
    );
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_ready_until_it_is_stopped() {
    let daemon = Daemon::new("sandbox").await;
    let engine = daemon.cri();
    let sandbox = daemon.sandbox().await;
    let status = |id: String| async move {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id,
            verbose: false,
        };
        engine.pod_sandbox_status(request).await
    };
    let up = status(sandbox.clone()).await.unwrap();
    let up_status = up.status.unwrap();
    assert_eq!(up_status.state(), PodSandboxState::SandboxReady);
    assert_eq!(up_status.network.unwrap().ip, "10.9.8.7");
    let running = daemon.run(&sandbox, "sleep 1000").await;

    engine
        .stop_pod_sandbox(StopPodSandboxRequest {
            pod_sandbox_id: sandbox.clone(),
        })
        .await
        .unwrap();
    let down = status(sandbox.clone()).await.unwrap();
    assert_eq!(down.status.unwrap().state(), PodSandboxState::SandboxNotready);
    assert_eq!(down.containers_statuses[0].exit_code, 137);
    assert!(daemon.attached().is_empty());
    let late = daemon.create(&sandbox, shell("true")).await.unwrap_err();
    assert!(late.message.contains("is not ready"), "{late:?}");

    for _ in 0..2 {
        engine
            .stop_pod_sandbox(StopPodSandboxRequest {
                pod_sandbox_id: sandbox.clone(),
            })
            .await
            .unwrap();
        engine
            .remove_pod_sandbox(RemovePodSandboxRequest {
                pod_sandbox_id: sandbox.clone(),
            })
            .await
            .unwrap();
    }
    assert!(status(sandbox).await.unwrap_err().is_not_found());
    let request = ContainerStatusRequest {
        container_id: running,
        verbose: false,
    };
    assert!(engine.container_status(request).await.unwrap_err().is_not_found());
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_asks_first_and_kills_after_the_grace() {
    let daemon = Daemon::new("stop").await;
    let sandbox = daemon.sandbox().await;
    let polite = daemon
        .run(
            &sandbox,
            "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done",
        )
        .await;
    let stubborn = daemon
        .run(&sandbox, "trap '' TERM; echo up; while :; do sleep 0.05; done")
        .await;
    daemon.wait_log(&polite, "up").await;
    daemon.wait_log(&stubborn, "up").await;

    daemon.stop(&polite, 30).await.unwrap();
    let status = daemon.status(&polite).await;
    assert_eq!(
        (status.state(), status.exit_code),
        (ContainerState::ContainerExited, 7)
    );
    assert!(daemon.log(&polite).await.contains("stdout F bye"));

    let before = std::time::Instant::now();
    daemon.stop(&stubborn, 1).await.unwrap();
    assert!(before.elapsed() >= std::time::Duration::from_secs(1));
    let status = daemon.status(&stubborn).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    daemon.stop(&stubborn, 1).await.unwrap();
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_start_says_why() {
    let daemon = Daemon::new("cannot").await;
    let sandbox = daemon.sandbox().await;
    let script = "printf '#!/no/interpreter\\n' > /bin/script; chmod +x /bin/script";
    let cases: &[(&[&str], &str)] = &[
        (
            &["/no/such/program"],
            "exec: \"/no/such/program\": stat /no/such/program: no such file or directory",
        ),
        (
            &["nothing-here"],
            "exec: \"nothing-here\": executable file not found in $PATH",
        ),
        (&["/etc/passwd"], "exec: \"/etc/passwd\": permission denied"),
    ];
    for (words, text) in cases {
        let id = daemon.create(&sandbox, command(words)).await.unwrap();
        let error = daemon.start_container(&id).await.unwrap_err();
        assert!(error.message.ends_with(text), "{error:?}");
        let status = daemon.status(&id).await;
        assert_eq!(
            (status.state(), status.exit_code),
            (ContainerState::ContainerExited, 128)
        );
        assert_eq!(status.reason, "StartError");
        assert!(status.message.ends_with(text), "{}", status.message);
    }
    let id = daemon.run(&sandbox, "sleep 1000").await;
    daemon.output(&id, script).await;
    let error = daemon.exec(&id, &["/bin/script"]).await.unwrap_err();
    assert!(
        error
            .message
            .ends_with("exec /bin/script: no such file or directory"),
        "{error:?}"
    );
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered() {
    let daemon = Daemon::new("lists").await;
    let engine = daemon.cri();
    let (one, other) = (daemon.sandbox().await, daemon.sandbox().await);
    let mut labelled = shell("sleep 1000");
    labelled.labels.insert("app".into(), "web".into());
    let web = daemon.create(&one, labelled).await.unwrap();
    daemon.start_container(&web).await.unwrap();
    let created = daemon.create(&other, shell("true")).await.unwrap();
    let ids = |filter: ContainerFilter| async move {
        let request = ListContainersRequest { filter: Some(filter) };
        let listed = engine.list_containers(request).await.unwrap().containers;
        listed
            .into_iter()
            .map(|container| container.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(ContainerFilter::default()).await,
        [created.clone(), web.clone()]
    );
    let running = ContainerStateValue {
        state: ContainerState::ContainerRunning as i32,
    };
    assert_eq!(
        ids(ContainerFilter {
            state: Some(running),
            ..Default::default()
        })
        .await,
        std::slice::from_ref(&web)
    );
    assert_eq!(
        ids(ContainerFilter {
            pod_sandbox_id: other,
            ..Default::default()
        })
        .await,
        [created]
    );
    let labels = [("app".to_string(), "web".to_string())].into();
    assert_eq!(
        ids(ContainerFilter {
            label_selector: labels,
            ..Default::default()
        })
        .await,
        [web]
    );
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_leaves_nothing() {
    let daemon = Daemon::new("refused").await;
    let engine = daemon.cri();
    daemon.refuse_network(Some("no subnet yet"));
    let error = daemon.run_sandbox(daemon.sandbox_config()).await.unwrap_err();
    assert!(
        error.message.contains("failed to setup network") && error.message.ends_with("no subnet yet"),
        "{error:?}"
    );
    let status = engine
        .status(StatusRequest::default())
        .await
        .unwrap()
        .status
        .unwrap();
    assert!(
        !status.conditions[1].status && status.conditions[1].message == "no subnet yet",
        "{status:?}"
    );
    daemon.refuse_network(None);
    assert!(
        engine
            .list_pod_sandbox(ListPodSandboxRequest::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );

    let config = daemon.sandbox_config();
    let sandbox = daemon.run_sandbox(config.clone()).await.unwrap();
    let taken = daemon.run_sandbox(config).await.unwrap_err();
    assert_eq!(taken.code, Code::AlreadyExists);
    let mut unknown = shell("true");
    unknown.image = Some(ImageSpec {
        image: "localhost/none:1".into(),
        ..Default::default()
    });
    let error = daemon.create(&sandbox, unknown).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    let group = secured(shell("true"), |context| {
        context.run_as_group = Some(Int64Value { value: 5 })
    });
    let error = daemon.create(&sandbox, group).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument, "{error:?}");
    assert!(
        engine
            .list_containers(ListContainersRequest::default())
            .await
            .unwrap()
            .containers
            .is_empty()
    );
    daemon.end().await;
}

/// A container in the PID namespace of another.
fn guest_of(target: &str) -> ContainerConfig {
    secured(shell(PATIENT), |context| {
        context.namespace_options = Some(NamespaceOption {
            pid: NamespaceMode::Target as i32,
            target_id: target.into(),
            ..Default::default()
        });
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_not_started_where_the_one_that_it_joins_has_ended() {
    let daemon = Daemon::new("target").await;
    let sandbox = daemon.sandbox().await;
    let ends = daemon.run(&sandbox, PATIENT).await;
    let goes = daemon.run(&sandbox, PATIENT).await;
    let late = daemon.create(&sandbox, guest_of(&ends)).await.unwrap();
    let later = daemon.create(&sandbox, guest_of(&goes)).await.unwrap();
    daemon.stop(&ends, 20).await.unwrap();
    daemon.stop(&goes, 20).await.unwrap();
    daemon.remove(&goes).await.unwrap();

    let error = daemon.start_container(&late).await.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    assert_eq!(
        error.message,
        format!("container {ends}, whose PID namespace is to be joined, is in CONTAINER_EXITED state")
    );
    let error = daemon.start_container(&later).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound, "{error}");
    assert!(error.message.contains(&goes), "{error}");
    for id in [&late, &later] {
        let status = daemon.status(id).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        assert!(status.message.contains("container"), "{status:?}");
    }
    let refused = daemon.create(&sandbox, guest_of(&ends)).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
    daemon.end().await;
}

/// The process that the PID namespace in a container's specification is named by.
fn joined_process(daemon: &Daemon, container: &str) -> i32 {
    let path = daemon
        .scratch
        .join(format!("engine/containers/{container}/config.json"));
    let spec: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
    let path = namespaces.iter().find(|one| one["type"] == "pid").unwrap()["path"].clone();
    path.as_str().unwrap().split('/').nth(2).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_another_shared_namespace_when_its_first_has_ended() {
    let daemon = Daemon::new("another").await;
    let sandbox = daemon.sandbox().await;
    let sharing = || secured(shell(PATIENT), |context| context.namespace_options = None);
    let early = daemon.run_config(&sandbox, sharing()).await;
    let late = daemon.create(&sandbox, sharing()).await.unwrap();
    let first = joined_process(&daemon, &late);
    assert_eq!(joined_process(&daemon, &early), first);

    let process = nix::unistd::Pid::from_raw(first);
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(daemon.wait_exited(&early).await.exit_code, 137);
    knode_testkit::wait::wait_until("the first process to be waited for", BOUND, || {
        !std::path::Path::new(&format!("/proc/{first}")).exists()
    });
    let error = daemon.start_container(&late).await.unwrap_err();
    assert!(
        error.message.contains("the PID namespace of the pod has ended"),
        "{error}"
    );
    assert_eq!(daemon.status(&late).await.reason, "StartError");

    let next = daemon.run_config(&sandbox, sharing()).await;
    assert!(
        daemon.output(&next, "ps").await.contains("knode"),
        "the shared namespace is not seen"
    );
    daemon.end().await;
}

/// The parent of a process, and the name that goes by.
fn parent(process: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"))?;
    std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_run_harms_nothing_else() {
    let daemon = Daemon::new("harmless").await;
    let sandbox = daemon.sandbox().await;
    let script = format!("sh -c 'sleep 986 & echo orphan $!'; {PATIENT}");
    let config = secured(shell(&script), |context| {
        context.namespace_options = Some(NamespaceOption {
            pid: NamespaceMode::Node as i32,
            ..Default::default()
        });
    });
    let id = daemon.run_config(&sandbox, config).await;
    let log = daemon.wait_log(&id, "orphan").await;
    let orphan = log.trim().rsplit(' ').next().unwrap().to_owned();
    knode_testkit::wait::wait_until("the shim to have the orphan", BOUND, || {
        parent(&orphan).is_some_and(|name| name.trim() == "knode-shim")
    });
    daemon.exec(&id, &["no-such-program"]).await.unwrap_err();
    assert_eq!(
        parent(&orphan).as_deref().map(str::trim),
        Some("knode-shim"),
        "it was killed"
    );
    let state = std::fs::read_to_string(format!("/proc/{orphan}/stat")).unwrap();
    assert!(!state.contains(") Z "), "it was killed: {state}");
    daemon.end().await;
}
