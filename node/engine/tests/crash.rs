//! Whatever dies wherever, nothing is lost and nothing is left. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use futures::StreamExt;
use knode_cri::*;
use knode_engine::crash::{BELOW, DAEMON};
use knode_testkit::wait::wait_until_async;
use support::daemon::Daemon;
use support::*;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

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
        config: if operation == "run-users" {
            with_users(config)
        } else {
            config
        },
        sandbox: String::new(),
        container: String::new(),
    };
    if operation.starts_with("run") {
        return pod;
    }
    pod.sandbox = daemon.run_sandbox(pod.config.clone()).await.unwrap();
    if operation.starts_with("create") {
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

/// A container in the PID namespace that containers of its pod share.
fn sharing(name: &str) -> ContainerConfig {
    secured(named(name), |context| context.namespace_options = None)
}

/// A pod with users of its own.
fn with_users(config: PodSandboxConfig) -> PodSandboxConfig {
    let mapping = vec![IdMapping {
        container_id: 0,
        host_id: 200_000,
        length: 65_536,
    }];
    let users = UserNamespace {
        mode: NamespaceMode::Pod as i32,
        uids: mapping.clone(),
        gids: mapping,
    };
    sandbox_secured(config, |context| {
        context.namespace_options = Some(NamespaceOption {
            userns_options: Some(users),
            ..Default::default()
        });
    })
}

/// What is run in a container. At one point it runs although nobody was told of it, and must not go on.
fn words(point: &str) -> &'static [&'static str] {
    match point {
        "enter.made" => &["sleep", "987"],
        _ => &["echo", "said"],
    }
}

async fn operate(daemon: &Daemon, operation: &str, point: &str, pod: &Pod) -> Result<(), String> {
    let words = words(point);
    let done = match operation {
        "run" | "run-users" => daemon.run_sandbox(pod.config.clone()).await.map(|_| ()),
        "create" => daemon.create(&pod.sandbox, named("c")).await.map(|_| ()),
        "create-shared" => daemon.create(&pod.sandbox, sharing("c")).await.map(|_| ()),
        "start" => daemon.start_container(&pod.container).await,
        "exec" => daemon.exec(&pod.container, words).await.map(|_| ()),
        "stream" => return on_a_terminal(daemon, &pod.container, words).await,
        "stop" => daemon.stop(&pod.container, 5).await,
        "remove" => daemon.remove(&pod.container).await,
        "stop-sandbox" => daemon.stop_sandbox(&pod.sandbox).await,
        "remove-sandbox" => daemon.remove_sandbox(&pod.sandbox).await,
        other => panic!("{other} is no operation"),
    };
    done.map_err(|error| error.to_string())
}

/// Runs a command on a terminal to its end, with somebody who may be left alone at any time.
async fn on_a_terminal(daemon: &Daemon, container: &str, words: &[&str]) -> Result<(), String> {
    fn text(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    let request = ExecRequest {
        container_id: container.into(),
        cmd: words.iter().map(|word| word.to_string()).collect(),
        stdout: true,
        tty: true,
        ..Default::default()
    };
    let url = daemon.cri().exec(request).await.map_err(text)?.url;
    let mut request = url.replace("http://", "ws://").into_client_request().unwrap();
    let protocol = HeaderValue::from_static("v5.channel.k8s.io");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    let address = url.trim_start_matches("http://").split('/').next().unwrap();
    let stream = TcpStream::connect(address).await.map_err(text)?;
    let (mut client, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .map_err(text)?;
    while let Some(message) = client.next().await {
        if let Message::Binary(bytes) = message.map_err(text)?
            && bytes.first() == Some(&3)
        {
            let status = String::from_utf8_lossy(&bytes[1..]).into_owned();
            return if status.contains("Success") {
                Ok(())
            } else {
                Err(status)
            };
        }
    }
    Err("no word of how it ended".into())
}

/// A container that was being started, or that something was run in, runs, can be started, or has ended with what held
/// it. That a shim is gone is told a moment later.
async fn settled(daemon: &Daemon, point: &str, pod: &Pod) {
    if daemon.status(&pod.container).await.state() == ContainerState::ContainerCreated
        && let Err(error) = daemon.start_container(&pod.container).await
    {
        // Its shim died together with the daemon that asked it.
        let sandboxes = daemon.sandboxes().await;
        assert_eq!(
            sandboxes[0].state(),
            PodSandboxState::SandboxNotready,
            "{point}: {error}"
        );
        return;
    }
    wait_until_async(
        &format!("{point}: a container that runs or has ended"),
        BOUND,
        || async {
            let status = daemon.status(&pod.container).await;
            match status.state() {
                ContainerState::ContainerRunning => {
                    let answer = daemon.exec(&pod.container, &["echo", "alive"]).await?;
                    assert_eq!(answer.stdout, b"alive\n", "{point}");
                }
                // What was below it died with it.
                ContainerState::ContainerExited => assert!(status.exit_code != 0, "{point}: {status:?}"),
                other => panic!("{point}: {other:?}"),
            }
            Ok::<_, CriError>(())
        },
    )
    .await;
}

/// Nothing but a shim takes a container with it, and of a command that could not be told of nothing is left.
async fn unharmed(daemon: &Daemon, point: &str, pod: &Pod) {
    settled(daemon, point, pod).await;
    if point.starts_with("shim.") {
        return;
    }
    let status = daemon.status(&pod.container).await;
    assert_eq!(
        status.state(),
        ContainerState::ContainerRunning,
        "{point}: {status:?}"
    );
    wait_until_async(&format!("{point}: no stray command"), BOUND, || async {
        let processes = daemon.output(&pod.container, "ps").await;
        if processes.contains("sleep 987") {
            Err(processes)
        } else {
            Ok(())
        }
    })
    .await;
}

/// A sandbox has ended with its shim, and the pod can have another.
async fn ended_with_its_shim(daemon: &Daemon, point: &str, pod: &Pod) {
    wait_until_async(&format!("{point}: no sandbox that is ready"), BOUND, || async {
        let ready = |sandbox: &PodSandbox| sandbox.state() == PodSandboxState::SandboxReady;
        let sandboxes = daemon.sandboxes().await;
        if sandboxes.iter().any(ready) {
            Err(format!("{sandboxes:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    let mut config = pod.config.clone();
    if let Some(metadata) = &mut config.metadata {
        metadata.attempt = 1;
    }
    daemon.run_sandbox(config).await.unwrap();
}

/// Containers can share a PID namespace, if not the one that was being made. That its first process has ended is seen a
/// moment later.
async fn shares(daemon: &Daemon, point: &str, pod: &Pod) {
    let attempt = std::sync::atomic::AtomicU32::new(0);
    wait_until_async(&format!("{point}: a container that runs"), BOUND, || async {
        let number = attempt.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = daemon
            .create(&pod.sandbox, sharing(&format!("next{number}")))
            .await?;
        daemon.start_container(&id).await?;
        let answer = daemon.exec(&id, &["echo", "alive"]).await?;
        assert_eq!(answer.stdout, b"alive\n", "{point}");
        Ok::<_, CriError>(())
    })
    .await;
}

/// After a crash what was acknowledged is there, and the operation can be done.
async fn check(daemon: &Daemon, operation: &str, point: &str, pod: &Pod) {
    match operation {
        "run" | "create-shared" if point.starts_with("shim.") => {
            ended_with_its_shim(daemon, point, pod).await;
        }
        "create-shared" => shares(daemon, point, pod).await,
        "exec" | "stream" => unharmed(daemon, point, pod).await,
        "run" | "run-users" => {
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
        "start" => settled(daemon, point, pod).await,
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

            daemon.crash_at(point);
            let answer = operate(&daemon, operation, point, &pod).await;
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

            daemon.crash_at(point);
            // The answer depends on whether there was somebody left to give it.
            let _ = operate(&daemon, operation, point, &pod).await;
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
    for (operation, point) in [
        ("run", "shim.begin"),
        ("run", "shim.met"),
        ("run-users", "users.mapped"),
        ("create-shared", "shim.namespace-made"),
        ("create-shared", "pod.forked"),
        ("start", "shim.asked"),
        ("start", "shim.spawned"),
        ("start", "creator.begin"),
        ("start", "creator.built"),
        ("start", "creator.started"),
        ("exec", "shim.exec-spawned"),
        ("exec", "enter.made"),
        ("stream", "enter.inside"),
    ] {
        let pod = pod(&daemon, operation).await;

        daemon.crash_at(point);
        let crashed = wait_until_async(point, BOUND, || async { daemon.crashed() });
        let asked = async {
            // Only that it is begun counts: there will be nobody left to answer.
            let _ = operate(&daemon, operation, point, &pod).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = crashed => {}
            () = asked => {}
        }
        daemon.restart().await;
        check(&daemon, operation, point, &pod).await;
        daemon.clear().await;
        daemon.assert_clean(point);
    }
}

/// Layers of random bytes, so that they are large on the wire too.
fn large_image() -> knode_testkit::image::Image {
    let mut state = 0x1234_5678_9ABC_DEF1_u64;
    let mut bytes = |count: usize| {
        let step = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        (0..count / 8).flat_map(step).collect::<Vec<u8>>()
    };
    let mut builder = knode_testkit::image::ImageBuilder::new("test/large:1");
    for layer in 0..3 {
        let layer = knode_testkit::image::Layer::new().file(&format!("file{layer}"), 0o644, bytes(8 << 20));
        builder = builder.layer(layer);
    }
    builder.build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_in_a_pull_leaves_no_half_image() {
    let host = knode_testkit::Host::new("crashpull");
    let registry = knode_testkit::Registry::start(&host);
    let reference = registry.push(&large_image());
    let netns = format!("--net={}", host.path().display());
    let mut daemon = Daemon::within("pull", &["nsenter".into(), netns, "--".into()]).await;
    let spec = ImageSpec {
        image: reference.clone(),
        ..Default::default()
    };
    let pull = PullImageRequest {
        image: Some(spec.clone()),
        ..Default::default()
    };
    for round in 0..3 {
        let client = daemon.cri().clone();
        let request = pull.clone();
        let pulling = tokio::spawn(async move { client.pull_image(request).await });
        let tmp = daemon.scratch.join("images/tmp");
        wait_until_async("a pull under way", BOUND, || async {
            std::fs::read_dir(&tmp).is_ok_and(|entries| entries.count() > round)
        })
        .await;
        daemon.kill();
        assert!(
            pulling.await.unwrap().is_err(),
            "the pull was over before it was cut"
        );
        daemon.start().await;
        let request = ImageStatusRequest {
            image: Some(spec.clone()),
            verbose: false,
        };
        assert_eq!(daemon.cri().image_status(request).await.unwrap().image, None);
    }
    daemon.cri().pull_image(pull).await.unwrap();
    let sandbox = daemon.run_sandbox(daemon.sandbox_config()).await.unwrap();
    let mut config = command(&["/file0"]);
    config.image = Some(spec);
    let id = daemon.create(&sandbox, config).await.unwrap();
    assert_eq!(daemon.status(&id).await.state(), ContainerState::ContainerCreated);
    daemon.clear().await;
    daemon.assert_clean("pulls");
}
