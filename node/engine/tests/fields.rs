//! CRI over the socket: what a container sees of each field. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use futures::StreamExt;
use knode_cri::security_profile::ProfileType;
use knode_cri::*;
use knode_testkit::wait::wait_until;
use support::daemon::Daemon;
use support::*;

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn with_namespaces(mut config: PodSandboxConfig, options: NamespaceOption) -> PodSandboxConfig {
    let linux = config.linux.get_or_insert_default();
    linux.security_context = Some(LinuxSandboxSecurityContext {
        namespace_options: Some(options),
        ..Default::default()
    });
    config
}

fn users() -> UserNamespace {
    let mapping = vec![IdMapping {
        container_id: 0,
        host_id: 100_000,
        length: 65_536,
    }];
    UserNamespace {
        mode: NamespaceMode::Pod as i32,
        uids: mapping.clone(),
        gids: mapping,
    }
}

fn mount(host: &std::path::Path, container: &str) -> Mount {
    Mount {
        host_path: host.display().to_string(),
        container_path: container.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_can_have_users_of_its_own() {
    let daemon = Daemon::new("users").await;
    if !users_are_mapped() {
        let options = NamespaceOption {
            userns_options: Some(users()),
            ..Default::default()
        };
        let asked = daemon.run_sandbox(with_namespaces(daemon.sandbox_config(), options));
        let error = asked.await.unwrap_err();
        assert!(error.message.contains("need Linux 6.3"), "{error}");
        return daemon.end().await;
    }
    let options = NamespaceOption {
        pid: NamespaceMode::Pod as i32,
        userns_options: Some(users()),
        ..Default::default()
    };
    let mut config = with_namespaces(daemon.sandbox_config(), options.clone());
    let sysctls = [("net.ipv4.ip_forward".to_string(), "1".to_string())];
    config.linux.get_or_insert_default().sysctls = sysctls.into();
    let hostname = config.hostname.clone();
    let sandbox = daemon.run_sandbox(config).await.unwrap();

    let volume = daemon.scratch.join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("given"), "content").unwrap();
    let mut given = mount(&volume, "/volume");
    given.uid_mappings = users().uids;
    given.gid_mappings = users().gids;
    let mut config = secured(shell(SLEEP), |context| context.namespace_options = Some(options));
    config.mounts = vec![given];
    config.working_dir = "/made/for/me".into();
    let id = daemon.run_config(&sandbox, config).await;

    let map = daemon
        .output(&id, "cat /proc/self/uid_map /proc/self/gid_map")
        .await;
    for line in map.lines() {
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["0", "100000", "65536"]
        );
    }
    assert_eq!(
        daemon
            .output(
                &id,
                "id -u; stat -c %u:%g / /bin/sh /etc/hosts /volume/given /made/for/me"
            )
            .await,
        "0\n0:0\n0:0\n0:0\n0:0\n0:0\n"
    );
    assert_eq!(
        daemon
            .output(&id, "hostname; cat /proc/sys/net/ipv4/ip_forward")
            .await,
        format!("{hostname}\n1\n")
    );
    // What it writes is its users' inside, and in a mapped volume the host's as if there were no namespace.
    daemon
        .output(
            &id,
            "echo x > /root-file && echo y > /volume/made && chown 5:6 /volume/made",
        )
        .await;
    let made = fs::metadata(volume.join("made")).unwrap();
    assert_eq!(
        (
            std::os::unix::fs::MetadataExt::uid(&made),
            std::os::unix::fs::MetadataExt::gid(&made)
        ),
        (5, 6)
    );
    assert_eq!(daemon.output(&id, "stat -c %u /root-file; ls /proc/1/exe >/dev/null; echo ok > /dev/null; echo > /dev/shm/x; echo done").await, "0\ndone\n");
    // Being root there is nothing outside.
    let refused = daemon
        .exec_for(&id, &["sh", "-c", "echo 1 > /proc/sys/kernel/panic"], 0)
        .await
        .unwrap();
    assert_ne!(refused.exit_code, 0);
    let host = fs::read_to_string("/proc/self/uid_map").unwrap();
    let process = daemon_process(&daemon, &id).await;
    assert_ne!(
        fs::read_to_string(format!("/proc/{process}/uid_map")).unwrap(),
        host
    );
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    assert!(status.contains("Uid:\t100000\t100000"), "{status}");

    daemon.clear().await;
    daemon.assert_clean("a pod with users of its own");
    // What cannot be is refused, and leaves nothing.
    for bad in [
        UserNamespace {
            uids: vec![],
            ..users()
        },
        UserNamespace {
            mode: NamespaceMode::Container as i32,
            ..Default::default()
        },
        UserNamespace {
            mode: NamespaceMode::Target as i32,
            ..Default::default()
        },
    ] {
        let options = NamespaceOption {
            userns_options: Some(bad),
            ..Default::default()
        };
        let config = with_namespaces(daemon.sandbox_config(), options);
        let error = daemon.run_sandbox(config).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
    }
    daemon.assert_clean("refusals");
}

/// First process of a container, as verbose status tells.
async fn daemon_process(daemon: &Daemon, id: &str) -> i64 {
    let request = ContainerStatusRequest {
        container_id: id.into(),
        verbose: true,
    };
    let info = daemon.cri().container_status(request).await.unwrap().info;
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    info["pid"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_images_and_devices_are_as_asked() {
    let daemon = Daemon::new("fields").await;
    let mut config = daemon.sandbox_config();
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.96.0.10".into()],
        searches: vec!["a.b".into()],
        options: vec!["ndots:5".into()],
    });
    let sandbox = daemon.run_sandbox(config).await.unwrap();
    let asked = fs::read_to_string(daemon.scratch.join(format!("network/{sandbox}"))).unwrap();
    assert!(
        asked.contains("10.96.0.10") && asked.contains(&daemon.cgroup),
        "{asked}"
    );

    // Parts of an image, and its refusals.
    let image = |part: &str, readonly| Mount {
        container_path: "/image".into(),
        image: Some(ImageSpec {
            image: IMAGE.into(),
            ..Default::default()
        }),
        image_sub_path: part.into(),
        readonly,
        ..Default::default()
    };
    let with = |script: &str, mounts: Vec<Mount>| {
        let mut config = shell(script);
        config.mounts = mounts;
        config
    };
    let script = "ls /image/passwd; touch /image/x 2>/dev/null || echo read-only";
    let config = with(script, vec![image("etc", true)]);
    assert_eq!(daemon.prints(&sandbox, config).await, "/image/passwd\nread-only");
    for bad in [
        image("nothing/there", true),
        image("../..", true),
        image("/etc", true),
        image("etc", false),
    ] {
        let error = daemon
            .create(&sandbox, with("true", vec![bad]))
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
    }
    let id = daemon
        .create(&sandbox, with("true", vec![image("", true)]))
        .await
        .unwrap();
    let status = daemon.status(&id).await;
    assert_eq!(
        status.mounts[0].image.as_ref().unwrap().image_ref,
        status.image_id
    );
    daemon.remove(&id).await.unwrap();

    cdi(&daemon, &sandbox).await;
    refusals(&daemon, &sandbox).await;
    daemon.clear().await;
    daemon.assert_clean("mounts and devices");
}

/// A file of devices, removed with this.
struct CdiFile(std::path::PathBuf);

impl Drop for CdiFile {
    fn drop(&mut self) {
        // A failed test has more to say than this.
        let _ = fs::remove_file(&self.0);
    }
}

async fn cdi(daemon: &Daemon, sandbox: &str) {
    let vendor = format!("knode-test-{}.com", std::process::id());
    fs::create_dir_all("/var/run/cdi").unwrap();
    let file = CdiFile(format!("/var/run/cdi/{vendor}.yaml").into());
    let text = format!(
        "cdiVersion: 0.6.0\nkind: {vendor}/device\ncontainerEdits:\n  env: [ALL=1]\ndevices:\n- name: one\n  \
         containerEdits:\n    env: [ONE=yes]\n    additionalGids: [4321]\n    deviceNodes:\n    - path: /dev/mine\n      \
         hostPath: /dev/null\n      permissions: rw\n    mounts:\n    - hostPath: {}\n      containerPath: /given\n      \
         options: [ro, rbind, rprivate]\n",
        daemon.scratch.path().display()
    );
    fs::write(&file.0, text).unwrap();
    let mut config = shell(
        "echo $ALL $ONE; echo x > /dev/mine && echo written; stat -c %t:%T /dev/mine; ls /given | grep -c cri.sock; id -G | grep -c 4321",
    );
    config.cdi_devices = vec![CdiDevice {
        name: format!("{vendor}/device=one"),
    }];
    assert_eq!(
        daemon.prints(sandbox, config.clone()).await,
        "1 yes\nwritten\n1:3\n1\n1"
    );
    config.cdi_devices[0].name = format!("{vendor}/device=two");
    let error = daemon.create(sandbox, config).await.unwrap_err();
    assert!(error.message.contains("unresolvable CDI devices"), "{error}");
}

/// What this machine lacks or nobody may ask for is said, never passed over.
async fn refusals(daemon: &Daemon, sandbox: &str) {
    let profile = SecurityProfile {
        profile_type: ProfileType::Localhost as i32,
        localhost_ref: "knode-no-such-profile".into(),
    };
    let missing = SecurityProfile {
        localhost_ref: "/dev/zero".into(),
        ..profile.clone()
    };
    let mut outside = shell("true");
    outside.log_path = "../../outside.log".into();
    let mut nul = shell("true");
    nul.envs = vec![KeyValue {
        key: "A".into(),
        value: "\0".into(),
    }];
    let mut relative = shell("true");
    relative.mounts = vec![mount("etc".as_ref(), "/x")];
    let bad = [
        secured(shell("true"), |context| context.apparmor = Some(profile.clone())),
        secured(shell("true"), |context| context.seccomp = Some(missing.clone())),
        secured(shell("true"), |context| {
            context.run_as_group = Some(Int64Value { value: 5 })
        }),
        outside,
        nul,
        relative,
        limited(shell("true"), |resources| {
            resources.unified = [("../../x".to_string(), "1".to_string())].into();
        }),
    ];
    for config in bad {
        let shown = format!("{config:?}");
        let error = daemon.create(sandbox, config).await.unwrap_err();
        assert!(
            matches!(error.code, Code::InvalidArgument | Code::Unimplemented),
            "{error}: {shown}"
        );
    }
    let checkpoint = CheckpointContainerRequest::default();
    let error = daemon.cri().checkpoint_container(checkpoint).await.unwrap_err();
    assert_eq!(error.code, Code::Unimplemented);
    let mut slice = daemon.sandbox_config();
    slice.linux.get_or_insert_default().cgroup_parent = "kubepods-pod1.slice".into();
    let error = daemon.run_sandbox(slice).await.unwrap_err();
    assert!(error.message.contains("kubepods-pod1.slice"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_end_with_all_they_have_started() {
    let daemon = Daemon::new("tree").await;
    let sandbox = daemon.run_sandbox(daemon.sandbox_config()).await.unwrap();
    let id = daemon.run(&sandbox, SLEEP).await;
    // One child in its own session, one orphan, one that ignores what can be ignored.
    let script = "setsid sleep 4321 & (setsid sleep 4322 &) ; trap '' TERM INT; sleep 4323";
    let error = daemon.exec_for(&id, &["sh", "-c", script], 1).await.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded, "{error}");
    let left = daemon
        .output(&id, "ps | grep 'sleep 432' | grep -v grep; true")
        .await;
    assert_eq!(left, "");
    // A command that ends in time keeps what it has started, as upstream's do.
    daemon
        .exec_for(&id, &["sh", "-c", "setsid sleep 4324 >/dev/null 2>&1 &"], 5)
        .await
        .unwrap();
    assert!(daemon.output(&id, "ps").await.contains("sleep 4324"));

    // Whoever is executed in it counts as the container's.
    let groups = daemon.output(&id, "cat /proc/self/cgroup").await;
    assert_eq!(groups, daemon.output(&id, "cat /proc/1/cgroup").await);
    // In version 2 it is the root of what it sees.
    let own = if is_v2() { "0::/" } else { id.as_str() };
    assert!(groups.contains(own), "{groups}");

    let much = daemon
        .exec_for(
            &id,
            &["sh", "-c", "head -c 20000000 /dev/zero; echo end >&2; exit 3"],
            0,
        )
        .await;
    match much {
        Ok(answer) => {
            assert_eq!((answer.exit_code, answer.stdout.len()), (3, 16 * 1024 * 1024));
            assert_eq!(answer.stderr, b"end\n");
        }
        // More than a message holds: said, not sent.
        Err(error) => assert!(
            error.message.contains("16777216") || error.message.contains("limit"),
            "{error}"
        ),
    }
    assert_eq!(daemon.output(&id, "echo alive").await, "alive\n");
    daemon.clear().await;
    daemon.assert_clean("commands");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_metrics_and_events_are_told() {
    let daemon = Daemon::new("told").await;
    let mut events = daemon.cri().container_events().await.unwrap();
    let sandbox = daemon.run_sandbox(daemon.sandbox_config()).await.unwrap();
    let config = limited(
        shell("head -c 1000000 /dev/zero > /written; trap 'exit 0' TERM; while :; do sleep 0.05; done"),
        |resources| {
            resources.cpu_period = 100_000;
            resources.cpu_quota = 50_000;
            resources.cpu_shares = 512;
            resources.memory_limit_in_bytes = 64 << 20;
        },
    );
    let id = daemon.run_config(&sandbox, config).await;

    let descriptors = daemon
        .cri()
        .list_metric_descriptors(ListMetricDescriptorsRequest {})
        .await
        .unwrap()
        .descriptors;
    wait_until("the file to be written", BOUND, || {
        daemon_file(&daemon, &id).is_some_and(|size| size == 1_000_000)
    });
    let metrics = daemon
        .cri()
        .list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {})
        .await
        .unwrap()
        .pod_metrics;
    assert_eq!(metrics.len(), 1);
    assert_eq!(metrics[0].pod_sandbox_id, sandbox);
    let own = &metrics[0].container_metrics[0];
    assert_eq!(own.container_id, id);
    let all: Vec<&Metric> = metrics[0].metrics.iter().chain(&own.metrics).collect();
    for metric in &all {
        let descriptor = descriptors.iter().find(|one| one.name == metric.name).unwrap();
        assert_eq!(
            metric.label_values.len(),
            descriptor.label_keys.len(),
            "{metric:?}"
        );
    }
    let found: BTreeSet<&str> = all.iter().map(|metric| metric.name.as_str()).collect();
    let missing: Vec<_> = descriptors
        .iter()
        .filter(|one| !found.contains(one.name.as_str()))
        .collect();
    let may_miss = |name: &str| {
        ["blkio", "fs_reads", "fs_writes", "hugetlb", "pressure", "network"]
            .iter()
            .any(|part| name.contains(part))
    };
    let missing: Vec<_> = missing.into_iter().filter(|one| !may_miss(&one.name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let value = |name: &str| {
        own.metrics
            .iter()
            .find(|metric| metric.name == name)
            .unwrap()
            .value
            .unwrap()
            .value
    };
    assert_eq!(value("container_spec_memory_limit_bytes"), 64 << 20);
    assert!(value("container_fs_usage_bytes") >= 1_000_000);
    assert!(value("container_processes") >= 1 && value("container_file_descriptors") > 0);

    let stats = daemon
        .cri()
        .container_stats(ContainerStatsRequest {
            container_id: id.clone(),
        })
        .await
        .unwrap()
        .stats
        .unwrap();
    assert!(stats.memory.unwrap().usage_bytes.unwrap().value > 0);
    assert!(stats.writable_layer.unwrap().used_bytes.unwrap().value >= 1_000_000);
    let pod = daemon
        .cri()
        .pod_sandbox_stats(PodSandboxStatsRequest {
            pod_sandbox_id: sandbox.clone(),
        })
        .await
        .unwrap();
    assert!(
        pod.stats
            .unwrap()
            .linux
            .unwrap()
            .process
            .unwrap()
            .process_count
            .unwrap()
            .value
            >= 1
    );

    let resources = LinuxContainerResources {
        cpu_shares: 1024,
        ..Default::default()
    };
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: sandbox.clone(),
        overhead: None,
        resources: Some(resources),
    };
    daemon.cri().update_pod_sandbox_resources(request).await.unwrap();
    let verbose = PodSandboxStatusRequest {
        pod_sandbox_id: sandbox.clone(),
        verbose: true,
    };
    let info = daemon.cri().pod_sandbox_status(verbose).await.unwrap().info;
    assert!(info["info"].contains("\"cpu_shares\":1024"), "{info:?}");

    daemon.stop(&id, 5).await.unwrap();
    daemon.clear().await;
    let mut kinds = Vec::new();
    let start = Instant::now();
    while kinds
        .iter()
        .filter(|(_, kind)| *kind == ContainerEventType::ContainerDeletedEvent)
        .count()
        < 2
    {
        let event = tokio::time::timeout(BOUND.saturating_sub(start.elapsed()), events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("{kinds:?}")).unwrap().unwrap();
        kinds.push((event.container_id.clone(), event.container_event_type()));
    }
    use ContainerEventType::*;
    let of = |wanted: &str| {
        kinds
            .iter()
            .filter(|(id, _)| id == wanted)
            .map(|(_, kind)| *kind)
            .collect::<Vec<_>>()
    };
    let life = [
        ContainerCreatedEvent,
        ContainerStartedEvent,
        ContainerStoppedEvent,
        ContainerDeletedEvent,
    ];
    assert_eq!(of(&id), life);
    assert_eq!(of(&sandbox), life);
    daemon.assert_clean("metrics");
    assert!(start.elapsed() < Duration::from_secs(60));
}

/// Size of the file that the container writes, seen from outside.
fn daemon_file(daemon: &Daemon, id: &str) -> Option<u64> {
    let path = daemon.scratch.join(format!("images/s/{id}/fs/written"));
    fs::metadata(path).ok().map(|metadata| metadata.len())
}

#[test]
fn the_same_with_version_2_control_groups() {
    machine::again("");
}
