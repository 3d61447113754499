//! Namespaces: of the host, of the pod, of the container, and users of their own.

use std::net::TcpListener;
use std::process::Command;

use knode_cri::*;

use crate::case::Case;
use crate::support::{sandbox_secured, secured};

async fn pod_with(case: &Case<'_>, options: &NamespaceOption) -> String {
    let config = sandbox_secured(case.sandbox_config(), |context| {
        context.namespace_options = Some(options.clone());
    });
    case.pod_of(config).await
}

async fn container_with(case: &Case<'_>, pod: &str, options: &NamespaceOption, words: &[&str]) -> String {
    let config = secured(case.container(words).await, |context| {
        context.namespace_options = Some(options.clone());
    });
    case.run_config(pod, config).await
}

fn pid(mode: NamespaceMode) -> NamespaceOption {
    NamespaceOption {
        pid: mode as i32,
        ..Default::default()
    }
}

pub async fn processes_of_the_host(case: &Case<'_>) {
    let options = pid(NamespaceMode::Node);
    let pod = pod_with(case, &options).await;
    let other = container_with(case, &pod, &options, &["sleep", "43210"]).await;
    let process = case.info(&other).await["pid"].to_string();
    let id = container_with(case, &pod, &options, &["sleep", "1000"]).await;
    let pids = case.prints_inside(&id, &["busybox", "pidof", "sleep"]).await;
    assert!(
        pids.split_whitespace().any(|pid| pid == process),
        "{process} is not in {pids}"
    );
}

pub async fn processes_of_the_pod(case: &Case<'_>) {
    let options = pid(NamespaceMode::Pod);
    let pod = pod_with(case, &options).await;
    let id = container_with(case, &pod, &options, &["sleep", "43211"]).await;
    let first = case.prints_inside(&id, &["cat", "/proc/1/cmdline"]).await;
    assert!(!first.contains("43211"), "{first:?}");
}

pub async fn processes_of_the_container(case: &Case<'_>) {
    let options = pid(NamespaceMode::Container);
    let pod = pod_with(case, &options).await;
    let id = container_with(case, &pod, &options, &["sleep", "43212"]).await;
    let first = case.prints_inside(&id, &["cat", "/proc/1/cmdline"]).await;
    assert!(first.contains("43212"), "{first:?}");
}

/// Shared memory of the host, removed with this.
struct Segment(String);

impl Segment {
    fn new() -> Self {
        let output = Command::new("ipcmk").args(["-M", "1048576"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Self(text.split_whitespace().last().unwrap().to_owned())
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // A failed test has more to say than this.
        let _ = Command::new("ipcrm").args(["-m", &self.0]).status();
    }
}

pub async fn shared_memory(case: &Case<'_>, mode: NamespaceMode) {
    let segment = Segment::new();
    let options = NamespaceOption {
        ipc: mode as i32,
        ..Default::default()
    };
    let pod = pod_with(case, &options).await;
    let id = container_with(case, &pod, &options, &["sleep", "1000"]).await;
    let seen = case.prints_inside(&id, &["cat", "/proc/sysvipc/shm"]).await;
    let found = seen.split_whitespace().any(|word| word == segment.0);
    assert_eq!(found, mode == NamespaceMode::Node, "{} in {seen}", segment.0);
}

pub async fn network(case: &Case<'_>, mode: NamespaceMode) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = format!(":{} ", listener.local_addr().unwrap().port());
    let options = NamespaceOption {
        network: mode as i32,
        ..Default::default()
    };
    let pod = pod_with(case, &options).await;
    let id = container_with(case, &pod, &options, &["busybox", "netstat", "-ln"]).await;
    case.wait_exited(&id).await;
    let log = case.log(&id).await;
    assert_eq!(
        log.contains(&port),
        mode == NamespaceMode::Node,
        "{port} in {log}"
    );
}

fn users(mode: NamespaceMode, mappings: &[(u32, u32, u32)]) -> NamespaceOption {
    let mapping: Vec<IdMapping> = mappings
        .iter()
        .map(|(container_id, host_id, length)| IdMapping {
            container_id: *container_id,
            host_id: *host_id,
            length: *length,
        })
        .collect();
    NamespaceOption {
        userns_options: Some(UserNamespace {
            mode: mode as i32,
            uids: mapping.clone(),
            gids: mapping,
        }),
        ..Default::default()
    }
}

/// What `/proc/self/uid_map` says, without its padding.
fn without_padding(map: &str) -> Vec<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    map.lines().map(words).collect()
}

/// The map of users that a container of a pod with these options sees.
async fn map_inside(case: &Case<'_>, options: &NamespaceOption) -> Vec<Vec<String>> {
    let pod = pod_with(case, options).await;
    let config = secured(case.container(&["cat", "/proc/self/uid_map"]).await, |context| {
        context.namespace_options = Some(options.clone());
    });
    without_padding(&case.prints(&pod, config).await)
}

pub async fn users_of_the_pod(case: &Case<'_>) {
    let options = users(NamespaceMode::Pod, &[(0, 1000, 100_000)]);
    assert_eq!(map_inside(case, &options).await, [["0", "1000", "100000"]]);
}

pub async fn users_of_the_host(case: &Case<'_>) {
    let options = users(NamespaceMode::Node, &[]);
    let own = without_padding(&std::fs::read_to_string("/proc/self/uid_map").unwrap());
    assert_eq!(map_inside(case, &options).await, own);
}

pub async fn users_that_cannot_be(case: &Case<'_>, mode: NamespaceMode, mappings: &[(u32, u32, u32)]) {
    let options = users(mode, mappings);
    let config = sandbox_secured(case.sandbox_config(), |context| {
        context.namespace_options = Some(options);
    });
    case.run_sandbox(config).await.unwrap_err();
}
