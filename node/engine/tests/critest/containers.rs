//! Containers: their life, commands in them, usage, volumes of the host, logs.

use std::path::PathBuf;
use std::time::Duration;

use knode_cri::*;
use knode_testkit::wait::wait_until_async;

use crate::case::Case;
use crate::support::{BOUND, bind, limited};

pub async fn is_created(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = case.create(&pod, case.staying().await).await.unwrap();
    assert_eq!(case.listed(&id).await.len(), 1);
}

pub async fn keeps_its_attributes(case: &Case<'_>) {
    let pod = case.pod().await;
    let mut config = case.container(&[]).await;
    config.labels = [
        ("foo".to_string(), "bar".to_string()),
        ("io.kubernetes.pod.uid".into(), "fake-pod-uid".into()),
    ]
    .into();
    config.annotations = [("abc".to_string(), "def".to_string())].into();
    let wanted = (
        config.metadata.clone(),
        config.labels.clone(),
        config.annotations.clone(),
    );
    let id = case.create(&pod, config).await.unwrap();
    let status = case.status(&id).await;
    assert_eq!((status.metadata, status.labels, status.annotations), wanted);
    let listed = case.listed(&id).await;
    assert_eq!(listed.len(), 1);
    let one = listed.into_iter().next().unwrap();
    assert_eq!((one.metadata, one.labels, one.annotations), wanted);
}

pub async fn starts(case: &Case<'_>) {
    let pod = case.pod().await;
    case.stays(&pod, |_| ()).await;
}

/// As upstream's suite: within a minute by a shell that handles no signal. It would not hear of it as the first process
/// of a namespace, which CRI's default does not make it.
pub async fn stops(case: &Case<'_>) {
    let pod = case.pod().await;
    let pause = ["sh", "-c", "sleep 1000; true"].map(str::to_owned).to_vec();
    let id = case.stays(&pod, |config| config.command = pause).await;
    let stopped = tokio::time::timeout(Duration::from_secs(30), case.stop(&id, 60)).await;
    stopped.expect("it ends by the signal").unwrap();
    assert_eq!(case.status(&id).await.state(), ContainerState::ContainerExited);
}

/// How far a container is when it is removed.
#[derive(Clone, Copy, PartialEq)]
pub enum When {
    Created,
    Running,
    Stopped,
}

pub async fn is_removed(case: &Case<'_>, when: When) {
    let pod = case.pod().await;
    let id = case.create(&pod, case.staying().await).await.unwrap();
    if when != When::Created {
        case.start_container(&id).await.unwrap();
    }
    if when == When::Stopped {
        case.stop(&id, 0).await.unwrap();
        assert_eq!(case.status(&id).await.state(), ContainerState::ContainerExited);
    }
    case.remove(&id).await.unwrap();
    assert!(case.listed(&id).await.is_empty());
}

pub async fn runs_a_command(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = case.stays(&pod, |_| ()).await;
    assert_eq!(case.prints_inside(&id, &["echo", "-n", "hello"]).await, "hello");
}

pub async fn ends_a_command_that_takes_too_long(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = case
        .run_config(&pod, case.container(&["tail", "-f", "/dev/null"]).await)
        .await;
    let error = case.exec_for(&id, &["sleep", "4321"], 1).await.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    let left = case
        .prints_inside(&id, &["sh", "-c", "busybox pidof sleep || true"])
        .await;
    assert_eq!(left.trim(), "");
}

pub async fn has_usage(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = case.stays(&pod, |_| ()).await;
    let request = ContainerStatsRequest {
        container_id: id.clone(),
    };
    let stats = case.cri().container_stats(request).await.unwrap().stats.unwrap();
    let attributes = stats.attributes.unwrap();
    assert_eq!(
        (&attributes.id, attributes.metadata),
        (&id, case.status(&id).await.metadata)
    );
    assert_ne!(
        (stats.cpu.unwrap().timestamp, stats.memory.unwrap().timestamp),
        (0, 0)
    );
}

async fn usage(case: &Case<'_>, filter: Option<ContainerStatsFilter>) -> Vec<String> {
    let request = ListContainerStatsRequest { filter };
    let stats = case.cri().list_container_stats(request).await.unwrap().stats;
    stats.into_iter().map(|one| one.attributes.unwrap().id).collect()
}

pub async fn usage_is_listed_by_id(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = case.stays(&pod, |_| ()).await;
    let filter = ContainerStatsFilter {
        id: id.clone(),
        ..Default::default()
    };
    assert_eq!(usage(case, Some(filter)).await, [id]);
}

pub async fn usage_is_listed_without_a_filter(case: &Case<'_>, count: usize) {
    let pod = case.pod().await;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(case.stays(&pod, |_| ()).await);
    }
    let found = usage(case, None).await;
    assert!(ids.iter().all(|id| found.contains(id)), "{found:?}");
}

pub async fn usage_is_listed_by_labels(case: &Case<'_>) {
    let pod = case.pod().await;
    let by = |value: &str| ContainerStatsFilter {
        label_selector: [("foo".to_string(), value.to_string())].into(),
        ..Default::default()
    };
    let id = case
        .stays(&pod, |config| config.labels = by("bar").label_selector)
        .await;
    assert!(usage(case, Some(by("bar"))).await.contains(&id));
    assert!(!usage(case, Some(by("baz"))).await.contains(&id));
}

pub async fn sees_a_volume(case: &Case<'_>, by_a_link: bool) {
    let pod = case.pod().await;
    let mut volume = case.scratch.join(format!("volume-of-{pod}"));
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join("testVolume.file"), "").unwrap();
    if by_a_link {
        let link = PathBuf::from(format!("{}-symlink", volume.display()));
        std::os::unix::fs::symlink(&volume, &link).unwrap();
        volume = link;
    }
    let path = volume.display().to_string();
    let mut mount = bind(&volume, &path);
    mount.selinux_relabel = true;
    let id = case.stays(&pod, |config| config.mounts = vec![mount]).await;
    assert_eq!(
        case.prints_inside(&id, &["ls", "-A", &path]).await,
        "testVolume.file\n"
    );
}

pub async fn writes_its_log(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = case
        .run_config(&pod, case.container(&["echo", "hello World"]).await)
        .await;
    let path = case.wait_exited(&id).await.log_path;
    let log = std::fs::read_to_string(path).unwrap();
    let words: Vec<&str> = log.trim_end().splitn(4, ' ').collect();
    assert_eq!(words[1..], ["stdout", "F", "hello World"]);
    // RFC 3339 with nanoseconds.
    assert!(words[0].contains('T') && words[0].contains('.'), "{log}");
}

pub async fn reopens_its_log(case: &Case<'_>) {
    let pod = case.pod().await;
    let script = "while true; do echo hello World; sleep 0.05; done";
    let id = case
        .run_config(&pod, case.container(&["sh", "-c", script]).await)
        .await;
    let path = case.status(&id).await.log_path;
    let lines = |path: &str| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let some = async |path: &str| {
        let path = path.to_string();
        wait_until_async("lines in the log", BOUND, || async { lines(&path) > 0 }).await;
    };
    some(&path).await;
    let old = format!("{path}.new");
    std::fs::rename(&path, &old).unwrap();
    let request = ReopenContainerLogRequest { container_id: id };
    case.cri().reopen_container_log(request).await.unwrap();
    assert!(std::path::Path::new(&path).exists());
    let count = lines(&old);
    some(&path).await;
    assert_eq!(lines(&old), count, "the old file does not change");
}

pub async fn is_killed_for_want_of_memory(case: &Case<'_>) {
    let pod = case.privileged_pod(true).await;
    let words = ["sh", "-c", "dd if=/dev/zero of=/dev/null bs=20M"];
    let config = limited(case.container(&words).await, |resources| {
        resources.memory_limit_in_bytes = 15 << 20;
        resources.memory_swap_limit_in_bytes = 15 << 20;
    });
    let id = case.run_config(&pod, config).await;
    let status = case.wait_exited(&id).await;
    assert_eq!((status.reason.as_str(), status.exit_code), ("OOMKilled", 137));
}

/// Several containers of one pod: their logs and commands are their own.
pub async fn have_logs_of_their_own(case: &Case<'_>) {
    let (one, other) = two(case).await;
    case.wait_log(&one, "httpd").await;
    case.wait_log(&other, "hello World").await;
}

pub async fn run_commands_of_their_own(case: &Case<'_>) {
    let (one, other) = two(case).await;
    assert_eq!(case.prints_inside(&one, &["echo", "httpd"]).await, "httpd\n");
    assert_eq!(
        case.prints_inside(&other, &["echo", "busybox"]).await,
        "busybox\n"
    );
}

async fn two(case: &Case<'_>) -> (String, String) {
    let pod = case.pod().await;
    let mut ids = Vec::new();
    for text in ["httpd", "hello World"] {
        let script = format!("echo {text}; sleep 1000");
        ids.push(
            case.run_config(&pod, case.container(&["sh", "-c", &script]).await)
                .await,
        );
    }
    (ids[0].clone(), ids[1].clone())
}
