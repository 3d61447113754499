//! Limits, what is used, and what happens beyond. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use knode_cri::*;
use knode_testkit::wait::wait_until_async;
use support::daemon::Daemon;
use support::*;

const MEBIBYTE: i64 = 1024 * 1024;

/// Doubles a string until there is no memory for it.
const GREEDY: &str = "x=0123456789abcdef; while :; do x=$x$x; done";

#[tokio::test(flavor = "multi_thread")]
async fn a_container_past_its_memory_is_oom_killed() {
    let daemon = Daemon::new("oom").await;
    let sandbox = daemon.sandbox().await;
    let greedy = limited(shell(GREEDY), |resources| {
        resources.memory_limit_in_bytes = 32 * MEBIBYTE
    });
    let id = daemon.create(&sandbox, greedy).await.unwrap();
    daemon.start_container(&id).await.unwrap();
    let status = daemon.wait_exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_in_force_and_can_be_changed() {
    let daemon = Daemon::new("limits").await;
    let sandbox = daemon.sandbox().await;
    let config = limited(shell("sleep 1000"), |resources| {
        resources.memory_limit_in_bytes = 64 * MEBIBYTE;
        resources.memory_swap_limit_in_bytes = 64 * MEBIBYTE;
        resources.cpu_shares = 512;
        resources.cpu_quota = 50_000;
        resources.cpu_period = 100_000;
        resources.oom_score_adj = 900;
    });
    let id = daemon.create(&sandbox, config).await.unwrap();
    daemon.start_container(&id).await.unwrap();
    assert_eq!(daemon.output(&id, "cat /proc/1/oom_score_adj").await, "900\n");
    let v1 = std::path::Path::new("/sys/fs/cgroup/memory").exists();
    let files = if v1 {
        [
            ("memory/memory.limit_in_bytes", "67108864"),
            ("cpu/cpu.cfs_quota_us", "50000"),
        ]
    } else {
        [("memory/memory.max", "67108864"), ("cpu/cpu.max", "50000 100000")]
    };
    for (file, wanted) in files {
        assert_eq!(daemon.group_file(&id, file).await, wanted, "{file}");
    }
    let linux = LinuxContainerResources {
        memory_limit_in_bytes: 128 * MEBIBYTE,
        memory_swap_limit_in_bytes: 128 * MEBIBYTE,
        ..Default::default()
    };
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(linux),
        ..Default::default()
    };
    daemon.cri().update_container_resources(request).await.unwrap();
    let now = daemon.group_file(&id, files[0].0).await;
    assert_eq!(now, (128 * MEBIBYTE).to_string());
    let resources = daemon.status(&id).await.resources.unwrap().linux.unwrap();
    assert_eq!(
        (resources.memory_limit_in_bytes, resources.cpu_shares),
        (128 * MEBIBYTE, 512)
    );
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_counted() {
    let daemon = Daemon::new("stats").await;
    let engine = daemon.cri();
    let sandbox = daemon.sandbox().await;
    let script = "dd if=/dev/zero of=/written bs=1024 count=2048 2>/dev/null; while :; do :; done";
    let config = limited(shell(script), |resources| {
        resources.memory_limit_in_bytes = 256 * MEBIBYTE
    });
    let id = daemon.create(&sandbox, config).await.unwrap();
    daemon.start_container(&id).await.unwrap();
    let stats = wait_until_async("usage to grow", BOUND, || async {
        let request = ContainerStatsRequest {
            container_id: id.clone(),
        };
        let stats = engine.container_stats(request).await.unwrap().stats.unwrap();
        let value = |value: Option<UInt64Value>| value.map_or(0, |value| value.value);
        let cpu = value(stats.cpu.as_ref().unwrap().usage_core_nano_seconds);
        let disk = value(stats.writable_layer.as_ref().unwrap().used_bytes);
        if cpu > 10_000_000 && disk >= 2048 * 1024 {
            Ok(stats)
        } else {
            Err(format!("{stats:?}"))
        }
    })
    .await;
    let memory = stats.memory.unwrap();
    assert!(memory.working_set_bytes.unwrap().value > 0);
    assert!(memory.available_bytes.unwrap().value < 256 * MEBIBYTE as u64);

    let listed = engine
        .list_pod_sandbox_stats(ListPodSandboxStatsRequest::default())
        .await
        .unwrap()
        .stats;
    let linux = listed[0].linux.clone().unwrap();
    assert_eq!(linux.containers.len(), 1);
    assert!(linux.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(linux.network.is_some());
    daemon.end().await;
}

#[test]
fn the_same_with_version_2_control_groups() {
    machine::again("");
}
