//! CRI over the socket: fields and calls that no other test's subject is. `field_table.rs` sees to it that each field
//! has a test. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::sync::{Arc, Mutex};

use knode_cri::image_service_client::ImageServiceClient;
use knode_cri::runtime_service_client::RuntimeServiceClient;
use knode_cri::*;
use knode_testkit::wait::wait_until_async;
use support::daemon::Daemon;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_network_and_settings_are_as_asked() {
    let daemon = Daemon::new("podfields").await;
    let mut config = sandbox_secured(daemon.sandbox_config(), |context| {
        // Labels mean nothing without SELinux; there is no process of the pod's own to confine.
        context.selinux_options = Some(SeLinuxOption {
            user: "system_u".into(),
            role: "system_r".into(),
            r#type: "container_t".into(),
            level: "s0:c1,c2".into(),
        });
        context.namespace_options = Some(NamespaceOption {
            pid: NamespaceMode::Container as i32,
            ..Default::default()
        });
    });
    config.port_mappings = vec![PortMapping {
        protocol: Protocol::Udp as i32,
        container_port: 53,
        host_port: 5353,
        host_ip: "127.0.0.1".into(),
    }];
    let linux = config.linux.get_or_insert_default();
    let limits = LinuxContainerResources {
        cpu_shares: 77,
        ..Default::default()
    };
    (linux.overhead, linux.resources) = (Some(limits.clone()), Some(limits));
    let pod = daemon.run_sandbox(config).await.unwrap();
    let asked = fs::read_to_string(daemon.scratch.join(format!("network/{pod}"))).unwrap();
    for word in ["Udp", "container_port: 53", "host_port: 5353", "127.0.0.1"] {
        assert!(asked.contains(word), "{asked}");
    }
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: pod.clone(),
        verbose: true,
    };
    let answer = daemon.cri().pod_sandbox_status(request).await.unwrap();
    assert!(answer.timestamp > 0 && answer.containers_statuses.is_empty());
    let status = answer.status.unwrap();
    let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(
        (options.network(), options.pid()),
        (NamespaceMode::Pod, NamespaceMode::Container)
    );
    assert_eq!(status.runtime_handler, "");
    let network = status.network.unwrap();
    assert_eq!(
        (network.ip.as_str(), network.additional_ips[0].ip.as_str()),
        ("10.9.8.7", "fd00::7")
    );
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    assert_eq!(info["config"]["linux"]["overhead"]["cpu_shares"], 77);

    let usage = network_usage(&daemon, &pod, info["namespaces"]["network"].as_str().unwrap()).await;
    let own = usage.default_interface.unwrap();
    assert_eq!(
        (own.name.as_str(), usage.interfaces[0].name.as_str()),
        ("eth0", "other")
    );
    let counts = [own.rx_bytes, own.rx_errors, own.tx_bytes, own.tx_errors];
    assert!(counts.iter().all(Option::is_some), "{counts:?}");

    // A kubelet tells the network's range, and is told how control groups are made.
    let network_config = Some(NetworkConfig {
        pod_cidr: "10.1.2.0/24".into(),
    });
    let request = UpdateRuntimeConfigRequest {
        runtime_config: Some(RuntimeConfig { network_config }),
    };
    daemon.cri().update_runtime_config(request).await.unwrap();
    assert_eq!(
        fs::read_to_string(daemon.scratch.join("pod-cidr")).unwrap(),
        "10.1.2.0/24"
    );
    let config = daemon
        .cri()
        .runtime_config(RuntimeConfigRequest {})
        .await
        .unwrap();
    assert_eq!(config.linux.unwrap().cgroup_driver(), CgroupDriver::Cgroupfs);
    daemon.end().await;
}

/// Puts interfaces into the pod's namespace; gives what its usage says of them.
async fn network_usage(daemon: &Daemon, pod: &str, namespace: &str) -> NetworkUsage {
    let status = std::process::Command::new("nsenter")
        .arg(format!("--net={namespace}"))
        .args("ip link add eth0 type veth peer name other".split(' '))
        .status();
    assert!(status.unwrap().success());
    let request = PodSandboxStatsRequest {
        pod_sandbox_id: pod.into(),
    };
    let stats = daemon
        .cri()
        .pod_sandbox_stats(request)
        .await
        .unwrap()
        .stats
        .unwrap();
    stats.linux.unwrap().network.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_rarer_settings_are_in_force() {
    let daemon = Daemon::new("rarer").await;
    let pod = daemon.sandbox().await;
    let mut config = shell("trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done");
    config.set_stop_signal(Signal::Sigusr1);
    let image = config.image.as_mut().unwrap();
    image.user_specified_image = "busybox".into();
    image.annotations = [("of".to_string(), "the image".to_string())].into();
    let first = daemon.run_config(&pod, config).await;
    daemon.wait_log(&first, "up").await;
    let status = daemon.status(&first).await;
    assert_eq!(status.stop_signal(), Signal::Sigusr1);
    assert_eq!(status.image.unwrap().user_specified_image, "busybox");

    // Whose processes are seen: those of the target.
    let guest_of_first = || {
        secured(shell(PATIENT), |context| {
            context.namespace_options = Some(NamespaceOption {
                pid: NamespaceMode::Target as i32,
                target_id: first.clone(),
                ..Default::default()
            });
        })
    };
    let guest = daemon.run_config(&pod, guest_of_first()).await;
    let elsewhere = daemon.sandbox().await;
    let refused = daemon.create(&elsewhere, guest_of_first()).await.unwrap_err();
    assert!(
        refused.message.contains("does not belong to sandbox"),
        "{refused}"
    );
    assert!(daemon.output(&guest, "ps").await.contains("exit 9"));
    daemon.stop(&first, 20).await.unwrap();
    assert_eq!(daemon.status(&first).await.exit_code, 9);

    let config = secured(shell("grep CapAmb /proc/self/status"), |context| {
        context.run_as_user = Some(Int64Value { value: 1000 });
        context.capabilities = Some(Capability {
            add_ambient_capabilities: vec!["NET_RAW".into()],
            ..Default::default()
        });
    });
    assert_eq!(daemon.prints(&pod, config).await, "CapAmb:\t0000000000002000");
    older_names_of_profiles(&daemon, &pod).await;
    daemon.end().await;
}

/// The fields of profiles that kubelets sent before `seccomp` and `apparmor`.
#[allow(deprecated, reason = "that is what this is about")]
async fn older_names_of_profiles(daemon: &Daemon, pod: &str) {
    // Upstream runtimes have forgotten this one too: only `seccomp` counts.
    let config = secured(shell("grep Seccomp: /proc/self/status"), |context| {
        context.seccomp_profile_path = "runtime/default".into();
    });
    assert_eq!(daemon.prints(pod, config).await, "Seccomp:\t0");
    if fs::exists("/sys/kernel/security/apparmor").unwrap() {
        return;
    }
    let config = secured(shell("true"), |context| {
        context.apparmor_profile = "localhost/mine".into()
    });
    let error = daemon.create(pod, config).await.unwrap_err();
    assert!(error.message.contains("AppArmor is not supported"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_and_huge_pages_are_limited() {
    let daemon = Daemon::new("cpuset").await;
    let pod = daemon.sandbox().await;
    let config = limited(shell(PATIENT), |resources| {
        (resources.cpuset_cpus, resources.cpuset_mems) = ("0".into(), "0".into());
        resources.hugepage_limits = vec![HugepageLimit {
            page_size: "2MB".into(),
            limit: 0,
        }];
    });
    let id = daemon.run_config(&pod, config).await;
    let seen = daemon
        .output(&id, "grep -E '^(Cpus|Mems)_allowed_list' /proc/self/status")
        .await;
    assert_eq!(seen, "Cpus_allowed_list:\t0\nMems_allowed_list:\t0\n");
    assert_eq!(daemon.group_file(&id, "cpuset/cpuset.cpus").await, "0");
    assert_eq!(daemon.group_file(&id, "cpuset/cpuset.mems").await, "0");
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(LinuxContainerResources {
            cpuset_cpus: "0-1".into(),
            ..Default::default()
        }),
        annotations: [("kept".to_string(), "by nobody".to_string())].into(),
    };
    daemon.cri().update_container_resources(request).await.unwrap();
    assert_eq!(daemon.group_file(&id, "cpuset/cpuset.cpus").await, "0-1");
    let seen = daemon
        .output(&id, "grep Cpus_allowed_list /proc/self/status")
        .await;
    assert_eq!(seen, "Cpus_allowed_list:\t0-1\n");

    let bad = limited(shell("true"), |resources| {
        resources.hugepage_limits = vec![HugepageLimit {
            page_size: "../2MB".into(),
            limit: 1,
        }];
    });
    daemon.create(&pod, bad).await.unwrap_err();
    unified(&daemon, &pod).await;
    daemon.end().await;
}

/// Settings by the names of version 2's files.
async fn unified(daemon: &Daemon, pod: &str) {
    let config = limited(shell(PATIENT), |resources| {
        resources.unified = [("memory.high".to_string(), "67108864".to_string())].into();
    });
    if is_v2() {
        let id = daemon.run_config(pod, config).await;
        assert_eq!(daemon.group_file(&id, "memory/memory.high").await, "67108864");
    } else {
        let error = daemon.create(pod, config).await.unwrap_err();
        assert!(error.message.contains("version 2 control groups"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_told_to_the_last_number() {
    let daemon = Daemon::new("usage").await;
    let pod = daemon.sandbox().await;
    let config = limited(shell("while :; do :; done"), |resources| {
        resources.memory_limit_in_bytes = 64 << 20;
    });
    let id = daemon.run_config(&pod, config).await;
    // The rate needs two readings with time between them.
    let stats = wait_until_async("a rate", BOUND, || async {
        let request = ContainerStatsRequest {
            container_id: id.clone(),
        };
        let stats = daemon
            .cri()
            .container_stats(request)
            .await
            .unwrap()
            .stats
            .unwrap();
        match stats.cpu.as_ref().unwrap().usage_nano_cores {
            Some(rate) if rate.value > 1_000_000 => Ok(stats),
            _ => Err(format!("{stats:?}")),
        }
    })
    .await;
    let memory = stats.memory.unwrap();
    assert!(
        memory.rss_bytes.unwrap().value > 0 && memory.page_faults.unwrap().value > 0,
        "{memory:?}"
    );
    assert!(memory.major_page_faults.is_some());
    assert!(stats.swap.unwrap().swap_usage_bytes.is_some());
    let pressure = [stats.cpu.unwrap().psi, memory.psi, stats.io.and_then(|io| io.psi)];
    for psi in pressure {
        assert_eq!(
            psi.is_some(),
            is_v2(),
            "only version 2 of control groups keeps it"
        );
        let (Some(some), Some(full)) = (psi.and_then(|psi| psi.some), psi.and_then(|psi| psi.full)) else {
            continue;
        };
        assert!(some.total >= full.total && some.avg10 >= 0.0 && some.avg60 >= 0.0 && some.avg300 >= 0.0);
    }
    let layer = stats.writable_layer.unwrap();
    assert!(layer.inodes_used.unwrap().value > 0 && !layer.fs_id.unwrap().mountpoint.is_empty());

    let info = daemon.cri().image_fs_info(ImageFsInfoRequest {}).await.unwrap();
    for one in info.image_filesystems.iter().chain(&info.container_filesystems) {
        let place = &one.fs_id.as_ref().unwrap().mountpoint;
        assert!(
            place.starts_with(daemon.scratch.path().to_str().unwrap()),
            "{place}"
        );
        assert!(one.used_bytes.unwrap().value > 0 && one.inodes_used.unwrap().value > 0 && one.timestamp > 0);
    }
    assert_eq!(
        (info.image_filesystems.len(), info.container_filesystems.len()),
        (1, 1)
    );
    let request = ListPodSandboxMetricsRequest {};
    let metrics = daemon
        .cri()
        .list_pod_sandbox_metrics(request)
        .await
        .unwrap()
        .pod_metrics;
    let all = &metrics[0].container_metrics[0].metrics;
    let kind = |name: &str| all.iter().find(|one| one.name == name).unwrap().metric_type();
    assert_eq!(kind("container_cpu_usage_seconds_total"), MetricType::Counter);
    assert_eq!(kind("container_processes"), MetricType::Gauge);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_tells_what_it_can() {
    let daemon = Daemon::new("abilities").await;
    let answer = daemon
        .cri()
        .status(StatusRequest { verbose: true })
        .await
        .unwrap();
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    assert_eq!(info["cgroupVersion"], if is_v2() { 2 } else { 1 });
    let handler = &answer.runtime_handlers[0];
    let features = handler.features.unwrap();
    assert_eq!(handler.name, "");
    assert!(features.recursive_read_only_mounts);
    assert_eq!(features.user_namespaces, users_are_mapped());
    let features = answer.features.unwrap();
    assert!(features.supplemental_groups_policy && !features.user_namespaces_host_network);

    let image = Some(ImageSpec {
        image: IMAGE.into(),
        ..Default::default()
    });
    let request = ImageStatusRequest { image, verbose: true };
    let answer = daemon.cri().image_status(request).await.unwrap();
    // As containerd tells it, which is what tools look for.
    let info: serde_json::Value = serde_json::from_str(&answer.info["info"]).unwrap();
    assert!(info["imageSpec"]["rootfs"]["diff_ids"].is_array(), "{info}");
    assert!(!answer.image.unwrap().pinned);

    let pod = daemon.sandbox().await;
    let container_id = daemon.run(&pod, PATIENT).await;
    let request = CheckpointContainerRequest {
        container_id,
        location: daemon.scratch.join("checkpoint.tar").display().to_string(),
        timeout: 5,
    };
    let error = daemon.cri().checkpoint_container(request).await.unwrap_err();
    assert_eq!(error.code, Code::Unimplemented);
    assert!(!daemon.scratch.join("checkpoint.tar").exists());
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_there_and_no_more_than_permitted() {
    let daemon = Daemon::new("devices").await;
    let pod = daemon.sandbox().await;
    let mut config = shell(PATIENT);
    config.devices = vec![
        Device {
            container_path: "/dev/readable".into(),
            host_path: "/dev/fuse".into(),
            permissions: "r".into(),
        },
        Device {
            container_path: "/dev/deep/all".into(),
            host_path: "/dev/full".into(),
            permissions: "rwm".into(),
        },
    ];
    let id = daemon.run_config(&pod, config.clone()).await;
    let seen = daemon
        .output(&id, "stat -c %F,%t:%T /dev/readable /dev/deep/all")
        .await;
    assert_eq!(seen, "character special file,a:e5\ncharacter special file,1:7\n");
    daemon
        .output(&id, ": < /dev/readable && head -c 1 /dev/deep/all")
        .await;
    let refused = daemon
        .exec(&id, &["sh", "-c", ": > /dev/readable"])
        .await
        .unwrap();
    assert_ne!(refused.exit_code, 0, "only reading was permitted");
    config.metadata.as_mut().unwrap().name = "another".into();
    config.devices[0].host_path = "/dev/not-there".into();
    daemon.create(&pod, config).await.unwrap_err();
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered() {
    let daemon = Daemon::new("filters").await;
    let labels = |value: &str| [("app".to_string(), value.to_string())].into();
    let mut config = daemon.sandbox_config();
    config.labels = labels("web");
    let web = daemon.run_sandbox(config).await.unwrap();
    let stopped = daemon.sandbox().await;
    daemon.stop_sandbox(&stopped).await.unwrap();
    let pods = async |filter: PodSandboxFilter| {
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let items = daemon.cri().list_pod_sandbox(request).await.unwrap().items;
        items.into_iter().map(|item| item.id).collect::<Vec<_>>()
    };
    let state = |state: PodSandboxState| PodSandboxFilter {
        state: Some(PodSandboxStateValue { state: state as i32 }),
        ..Default::default()
    };
    assert_eq!(
        pods(state(PodSandboxState::SandboxNotready)).await,
        std::slice::from_ref(&stopped)
    );
    assert_eq!(
        pods(state(PodSandboxState::SandboxReady)).await,
        std::slice::from_ref(&web)
    );
    let by_labels = |value: &str| PodSandboxFilter {
        label_selector: labels(value),
        ..Default::default()
    };
    assert_eq!(pods(by_labels("web")).await, std::slice::from_ref(&web));
    assert!(pods(by_labels("db")).await.is_empty());
    let by_id = PodSandboxFilter {
        id: web[..20].to_owned(),
        ..Default::default()
    };
    assert_eq!(
        pods(by_id).await,
        std::slice::from_ref(&web),
        "the beginning of an id does"
    );
    for (value, wanted) in [("web", 1), ("db", 0)] {
        let filter = Some(PodSandboxStatsFilter {
            label_selector: labels(value),
            ..Default::default()
        });
        let request = ListPodSandboxStatsRequest { filter };
        let stats = daemon.cri().list_pod_sandbox_stats(request).await.unwrap().stats;
        assert_eq!(stats.len(), wanted);
        assert!(
            stats
                .iter()
                .all(|one| one.attributes.as_ref().unwrap().labels == labels("web"))
        );
    }
    for (name, wanted) in [(IMAGE, 1), ("localhost/test/none:1", 0)] {
        let image = Some(ImageSpec {
            image: name.into(),
            ..Default::default()
        });
        let filter = Some(ImageFilter { image });
        let images = daemon
            .cri()
            .list_images(ListImagesRequest { filter })
            .await
            .unwrap()
            .images;
        assert_eq!(images.len(), wanted, "{name}");
    }
    daemon.end().await;
}

/// All objects of a stream of lists, each list with at least one.
macro_rules! collect {
    ($stream:expr, $field:ident) => {{
        let mut stream = $stream.await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(part) = stream.message().await.unwrap() {
            assert!(!part.$field.is_empty(), "an empty part");
            all.extend(part.$field);
        }
        all
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_can_be_streamed() {
    let daemon = Daemon::new("streamed").await;
    let channel = knode_cri::client::channel(&daemon.socket()).await.unwrap();
    let mut runtime = RuntimeServiceClient::new(channel.clone());
    let nothing = collect!(
        runtime.stream_containers(StreamContainersRequest::default()),
        containers
    );
    assert!(nothing.is_empty());
    let (one, other) = (daemon.sandbox().await, daemon.sandbox().await);
    let first = daemon.run(&one, PATIENT).await;
    let second = daemon.run(&other, PATIENT).await;

    let pods = collect!(
        runtime.stream_pod_sandboxes(StreamPodSandboxesRequest::default()),
        pod_sandboxes
    );
    assert_eq!(pods, daemon.sandboxes().await);
    let containers = collect!(
        runtime.stream_containers(StreamContainersRequest::default()),
        containers
    );
    assert_eq!(containers, daemon.containers().await);
    let filter = Some(ContainerFilter {
        pod_sandbox_id: one.clone(),
        ..Default::default()
    });
    let some = collect!(
        runtime.stream_containers(StreamContainersRequest { filter }),
        containers
    );
    assert_eq!((some.len(), &some[0].id), (1, &first));
    let filter = Some(ContainerStatsFilter {
        pod_sandbox_id: other.clone(),
        ..Default::default()
    });
    let request = StreamContainerStatsRequest { filter };
    let stats = collect!(runtime.stream_container_stats(request), container_stats);
    assert_eq!(
        (stats.len(), &stats[0].attributes.as_ref().unwrap().id),
        (1, &second)
    );
    let filter = Some(PodSandboxStatsFilter {
        id: one.clone(),
        ..Default::default()
    });
    let request = StreamPodSandboxStatsRequest { filter };
    let stats = collect!(runtime.stream_pod_sandbox_stats(request), pod_sandbox_stats);
    assert_eq!(
        (stats.len(), &stats[0].attributes.as_ref().unwrap().id),
        (1, &one)
    );
    let request = StreamPodSandboxMetricsRequest {};
    let metrics = collect!(runtime.stream_pod_sandbox_metrics(request), pod_sandbox_metrics);
    assert_eq!(metrics.len(), 2);
    let mut images = ImageServiceClient::new(channel);
    let images = collect!(images.stream_images(StreamImagesRequest::default()), images);
    assert_eq!(images[0].repo_tags, [IMAGE]);
    daemon.end().await;
}

/// A registry that has nothing, asks for credentials, and writes down what it is sent.
struct Curious {
    address: String,
    heard: Arc<Mutex<String>>,
}

impl Curious {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = Arc::new(Mutex::new(String::new()));
        let (here, book) = (address.clone(), heard.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, here.clone(), book.clone()));
            }
        });
        Self { address, heard }
    }
}

async fn answer(mut stream: TcpStream, here: String, book: Arc<Mutex<String>>) {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("\r\n\r\n") || (text.starts_with("POST") && !text.contains("grant_type")) {
        match stream.read(&mut buffer).await {
            Ok(count @ 1..) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            _ => return,
        }
    }
    book.lock().unwrap().push_str(&text);
    let scheme = if text.contains("/v2/token/") {
        format!("Bearer realm=\"http://{here}/auth\",service=\"s\"")
    } else {
        "Basic realm=\"r\"".to_owned()
    };
    let answer = if text.contains(" /auth") {
        "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{\"token\":\"t\"}".to_owned()
    } else if text.contains("/v2/nothing/") {
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
    } else {
        format!(
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {scheme}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    };
    // The client may have gone.
    let _ = stream.write_all(answer.as_bytes()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_reach_the_registry_they_are_for() {
    let daemon = Daemon::new("auth").await;
    let registry = Curious::start().await;
    let config = AuthConfig::default;
    let basic = "authorization: basic dtpw";
    let cases = [
        (
            AuthConfig {
                username: "u".into(),
                password: "p".into(),
                ..config()
            },
            "basic",
            basic,
        ),
        (
            AuthConfig {
                auth: "dTpw".into(),
                ..config()
            },
            "basic",
            basic,
        ),
        (
            AuthConfig {
                auth: "dTpw".into(),
                server_address: registry.address.clone(),
                ..config()
            },
            "basic",
            basic,
        ),
        (
            AuthConfig {
                auth: "dTpw".into(),
                server_address: "https://other.example".into(),
                ..config()
            },
            "basic",
            "",
        ),
        (
            AuthConfig {
                registry_token: "given".into(),
                ..config()
            },
            "basic",
            "authorization: bearer given",
        ),
        (
            AuthConfig {
                identity_token: "lasting".into(),
                ..config()
            },
            "token",
            "refresh_token=lasting",
        ),
    ];
    for (repository, code) in [("nothing", Code::NotFound), ("basic", Code::Unknown)] {
        let image = Some(ImageSpec {
            image: format!("{}/{repository}/a:1", registry.address),
            ..Default::default()
        });
        let request = PullImageRequest {
            image,
            ..Default::default()
        };
        let error = daemon.cri().pull_image(request).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
    }
    for (auth, repository, wanted) in cases {
        registry.heard.lock().unwrap().clear();
        let image = Some(ImageSpec {
            image: format!("{}/{repository}/a:1", registry.address),
            ..Default::default()
        });
        let request = PullImageRequest {
            image,
            auth: Some(auth.clone()),
            sandbox_config: Some(daemon.sandbox_config()),
        };
        daemon.cri().pull_image(request).await.unwrap_err();
        let heard = registry.heard.lock().unwrap().to_lowercase();
        if wanted.is_empty() {
            assert!(!heard.contains("authorization"), "{auth:?}: {heard}");
        } else {
            assert!(heard.contains(wanted), "{auth:?}: {heard}");
        }
    }
    daemon.end().await;
}

#[test]
fn the_same_with_version_2_control_groups() {
    machine::again("devices_are processors_and rarer_settings the_engine_tells");
}
