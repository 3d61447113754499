//! Pods whose parent is a slice, under a systemd of their own. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use knode_cri::*;
use knode_engine::OciProgram;
use knode_testkit::Systemd;
use knode_testkit::wait::{wait_until, wait_until_async};
use support::daemon::Daemon;
use support::*;

const SLICE: &str = "kubepods-burstable-pod1_2.slice";
const SLICE_GROUP: &str = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
const MEBIBYTE: i64 = 1024 * 1024;
/// A whole hundredth of a processor: systemd knows no parts of it.
const QUOTA: i64 = 26_000;

fn unit(id: &str) -> String {
    format!("knode-{id}.scope")
}

fn group(id: &str) -> PathBuf {
    Path::new(SLICE_GROUP).join(unit(id))
}

/// What a container's group says of limits and devices, and what systemd knows of them.
fn settings(systemd: &Systemd, id: &str) -> Vec<String> {
    let v1 = !is_v2();
    let files: &[(&str, &str)] = if v1 {
        &[
            ("memory", "memory.limit_in_bytes"),
            ("cpu", "cpu.shares"),
            ("cpu", "cpu.cfs_quota_us"),
            ("pids", "pids.max"),
            ("devices", "devices.list"),
        ]
    } else {
        &[
            ("", "memory.max"),
            ("", "cpu.weight"),
            ("", "cpu.max"),
            ("", "pids.max"),
        ]
    };
    let read = |(controller, file): &(&str, &str)| {
        let path = systemd.group(controller, &group(id)).join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        format!("{file}={}", lines.join(","))
    };
    files.iter().map(read).collect()
}

/// Properties of a unit, one a line.
fn shown(systemd: &Systemd, unit: &str, properties: &str) -> String {
    systemd.run("systemctl", &["show", "-p", properties, unit])
}

/// Units that containers have.
fn scopes(systemd: &Systemd) -> Vec<String> {
    let list = [
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        "--no-pager",
        "knode-*",
    ];
    let listed = systemd.run("systemctl", &list);
    listed.lines().map(str::to_owned).collect()
}

/// With the slice as the kubelet names it.
fn in_slice(daemon: &Daemon) -> PodSandboxConfig {
    let mut config = daemon.sandbox_config();
    config.linux.get_or_insert_default().cgroup_parent = SLICE_GROUP.into();
    config
}

fn with_limits(script: &str) -> ContainerConfig {
    limited(shell(script), |resources| {
        resources.memory_limit_in_bytes = 64 * MEBIBYTE;
        resources.cpu_shares = 512;
        resources.cpu_quota = QUOTA;
        resources.cpu_period = 100_000;
    })
}

/// Every process is in the scope, in all hierarchies.
async fn assert_inside(daemon: &Daemon, id: &str, when: &str) {
    for process in ["1", "self"] {
        let groups = daemon.output(id, &format!("cat /proc/{process}/cgroup")).await;
        // In version 2 the scope is the root of what the container sees.
        let expected = match is_v2() {
            true => "0::/".to_owned(),
            false => group(id).display().to_string(),
        };
        let outside: Vec<&str> = groups.lines().filter(|line| !line.ends_with(&expected)).collect();
        assert!(outside.is_empty(), "{when}: {process}: {groups}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_slice_are_scopes() {
    let systemd = Systemd::start();
    let mut daemon = Daemon::under("scopes", &systemd).await;
    let answer = daemon
        .cri()
        .runtime_config(RuntimeConfigRequest::default())
        .await
        .unwrap();
    assert_eq!(answer.linux.unwrap().cgroup_driver(), CgroupDriver::Systemd);

    // The kubelet's part.
    systemd.run("systemctl", &["start", SLICE]);

    let sandbox = daemon.run_sandbox(in_slice(&daemon)).await.unwrap();
    let id = daemon.run_config(&sandbox, with_limits("sleep 1000")).await;
    let known = shown(&systemd, &unit(&id), "ActiveState,Slice,Delegate,ControlGroup");
    for line in ["ActiveState=active", &format!("Slice={SLICE}"), "Delegate=yes"] {
        assert!(
            known.lines().any(|other| other == line),
            "{line} is not in {known}"
        );
    }
    assert!(known.contains(&group(&id).display().to_string()), "{known}");
    assert_inside(&daemon, &id, "at first").await;
    reloads_change_nothing(&systemd, &daemon, &id).await;

    without_limits(&systemd, &daemon, &sandbox).await;

    daemon.set_runtimes(&[("runc", runc())]);
    daemon.restart().await;
    assert_inside(&daemon, &id, "after a restart").await;
    let settled = settings(&systemd, &id);
    by_a_program(&systemd, &daemon).await;
    // Others in the slice change nothing.
    assert_eq!(settings(&systemd, &id), settled);
    assert_inside(&daemon, &id, "beside another").await;
    cut_off_and_out_of_memory(&systemd, &daemon, &sandbox).await;

    let scope = unit(&id);
    assert_eq!(scopes(&systemd).len(), 1, "{:#?}", scopes(&systemd));
    daemon.clear().await;
    assert_eq!(scopes(&systemd), Vec::<String>::new(), "{scope}");
    assert_eq!(shown(&systemd, SLICE, "ActiveState"), "ActiveState=active\n");
    gone(&systemd);
    daemon.kill();
    daemon.assert_clean("the pods");
}

/// Has systemd read all units anew and write what it finds.
fn reload(systemd: &Systemd) {
    systemd.run("systemctl", &["daemon-reload"]);
    // It writes before it hears of anything else.
    shown(systemd, SLICE, "ActiveState");
}

/// What has no limits gets none of systemd's, and a privileged container keeps all devices.
async fn without_limits(systemd: &Systemd, daemon: &Daemon, sandbox: &str) {
    let plain = daemon.run(sandbox, "sleep 1000").await;
    let privileged = secured(shell("sleep 1000"), |context| context.privileged = true);
    let privileged = daemon.run_config(sandbox, privileged).await;
    let before = settings(systemd, &plain);
    reload(systemd);
    assert_eq!(settings(systemd, &plain), before);
    assert_inside(daemon, &plain, "without limits").await;
    let output = daemon.output(&privileged, "mknod /tmp/x c 1 11 && : < /tmp/x && echo opened");
    assert_eq!(output.await, "opened\n");
    for id in [plain, privileged] {
        daemon.remove(&id).await.unwrap();
    }
}

/// Nor does an update that systemd is told of.
async fn reloads_change_nothing(systemd: &Systemd, daemon: &Daemon, id: &str) {
    let before = settings(systemd, id);
    let quota = |settings: &[String]| settings.iter().any(|line| line.contains(&QUOTA.to_string()));
    assert!(quota(&before) && before[0].contains("67108864"), "{before:?}");
    reload(systemd);
    assert_eq!(settings(systemd, id), before);
    let linux = LinuxContainerResources {
        memory_limit_in_bytes: 96 * MEBIBYTE,
        ..Default::default()
    };
    let request = UpdateContainerResourcesRequest {
        container_id: id.into(),
        linux: Some(linux),
        ..Default::default()
    };
    daemon.cri().update_container_resources(request).await.unwrap();
    let after = settings(systemd, id);
    assert!(quota(&after) && after[0].contains("100663296"), "{after:?}");
    assert_eq!(after[1..], before[1..]);
    reload(systemd);
    assert_eq!(settings(systemd, id), after);
    let memory = if is_v2() { "MemoryMax" } else { "MemoryLimit" };
    assert_eq!(shown(systemd, &unit(id), memory), format!("{memory}=100663296\n"));
}

fn runc() -> OciProgram {
    OciProgram {
        path: "/usr/sbin/runc".into(),
        options: Vec::new(),
    }
}

/// A runtime that is a program of its own asks systemd itself, for a scope of the same name.
async fn by_a_program(systemd: &Systemd, daemon: &Daemon) {
    let request = RunPodSandboxRequest {
        config: Some(in_slice(daemon)),
        runtime_handler: "runc".into(),
    };
    let sandbox = daemon
        .cri()
        .run_pod_sandbox(request)
        .await
        .unwrap()
        .pod_sandbox_id;
    let id = daemon.run_config(&sandbox, with_limits("sleep 1000")).await;
    let state = shown(systemd, &unit(&id), "ActiveState");
    assert_eq!(state, "ActiveState=active\n");
    assert!(settings(systemd, &id)[0].contains("67108864"));
    assert_inside(daemon, &id, "of runc").await;
    daemon.stop_sandbox(&sandbox).await.unwrap();
    daemon.remove_sandbox(&sandbox).await.unwrap();
    let state = shown(systemd, &unit(&id), "ActiveState");
    assert_eq!(state, "ActiveState=inactive\n");
}

/// Neither a start that is cut off nor an end by the kernel leaves a scope.
async fn cut_off_and_out_of_memory(systemd: &Systemd, daemon: &Daemon, sandbox: &str) {
    daemon.crash_at("creator.built");
    let id = daemon.create(sandbox, with_limits("sleep 1000")).await.unwrap();
    daemon.start_container(&id).await.unwrap_err();
    assert!(daemon.crashed());
    daemon.remove(&id).await.unwrap();
    let greedy = "x=0123456789abcdef; while :; do x=$x$x; done";
    let id = daemon.run_config(sandbox, with_limits(greedy)).await;
    let status = daemon.wait_exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    wait_until_async("the scope to end", BOUND, || async {
        let state = shown(systemd, &unit(&id), "ActiveState");
        if state == "ActiveState=inactive\n" {
            Ok(())
        } else {
            Err(state)
        }
    })
    .await;
    daemon.remove(&id).await.unwrap();
}

/// Nothing is left in the slice, in no hierarchy; itself it is the kubelet's.
fn gone(systemd: &Systemd) {
    wait_until("no groups in the slice", BOUND, || {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let names = hierarchies.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let slices = names.map(|name| systemd.group(&name, Path::new(SLICE_GROUP)));
        let inside = slices.flat_map(|slice| std::fs::read_dir(slice).into_iter().flatten().flatten());
        let left = inside.map(|entry| entry.path()).filter(|path| path.is_dir());
        let left: Vec<PathBuf> = left.collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
}

#[test]
fn the_same_with_version_2_control_groups() {
    machine::again("");
}
