//! What the runtime is asked for, against what upstream's kubelet 1.36.2 asked containerd for the same pods.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use common::runtime::Behaviour;
use common::{Bench, probe_by_command};
use k8s_openapi::api::core::v1::Pod;
use knode_cri as cri;
use serde_json::{Map, Value, json};

struct Recording {
    pod: Pod,
    sandbox: Value,
    containers: Vec<Value>,
}

fn load(name: &str) -> Recording {
    let path = format!("{}/tests/data/cri/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    Recording {
        pod: serde_json::from_value(all["pod"].take()).unwrap(),
        sandbox: all["sandbox"].take(),
        containers: all["containers"].as_array().unwrap().clone(),
    }
}

/// An object as protobuf's JSON has it: what is empty is absent.
fn object(fields: Vec<(&str, Value)>) -> Value {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty() || text == "0",
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    };
    let fields = fields.into_iter().filter(|(_, value)| !empty(value));
    Value::Object(
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

fn map(map: &HashMap<String, String>) -> Value {
    let kept = map.iter().filter(|(key, _)| *key != "kubernetes.io/config.seen");
    let sorted: BTreeMap<_, _> = kept.collect();
    if sorted.is_empty() {
        Value::Null
    } else {
        json!(sorted)
    }
}

fn resources(all: &cri::LinuxContainerResources) -> Value {
    object(vec![
        ("cpuPeriod", json!(all.cpu_period.to_string())),
        ("cpuQuota", json!(all.cpu_quota.to_string())),
        ("cpuShares", json!(all.cpu_shares.to_string())),
        ("memoryLimitInBytes", json!(all.memory_limit_in_bytes.to_string())),
        (
            "memorySwapLimitInBytes",
            json!(all.memory_swap_limit_in_bytes.to_string()),
        ),
        ("oomScoreAdj", json!(all.oom_score_adj.to_string())),
    ])
}

fn namespaces(all: &cri::NamespaceOption) -> Value {
    let mode = |mode: i32| match cri::NamespaceMode::try_from(mode).unwrap() {
        cri::NamespaceMode::Pod => Value::Null,
        other => json!(other.as_str_name()),
    };
    let users = all
        .userns_options
        .as_ref()
        .map(|users| object(vec![("mode", mode(users.mode))]));
    object(vec![
        ("network", mode(all.network)),
        ("pid", mode(all.pid)),
        ("ipc", mode(all.ipc)),
        ("usernsOptions", json!(users)),
    ])
}

fn profile(profile: &cri::SecurityProfile) -> Value {
    let kind = match profile.profile_type() {
        cri::security_profile::ProfileType::RuntimeDefault => Value::Null,
        other => json!(other.as_str_name()),
    };
    object(vec![
        ("profileType", kind),
        ("localhostRef", json!(profile.localhost_ref)),
    ])
}

fn sandbox(config: &cri::PodSandboxConfig) -> Value {
    let metadata = config.metadata.as_ref().unwrap();
    let dns = config.dns_config.as_ref().unwrap();
    let linux = config.linux.as_ref().unwrap();
    let security = linux.security_context.as_ref().unwrap();
    let ports = config.port_mappings.iter().map(|port| {
        object(vec![
            ("containerPort", json!(port.container_port)),
            ("hostPort", json!(port.host_port)),
        ])
    });
    object(vec![
        (
            "metadata",
            object(vec![
                ("name", json!(metadata.name)),
                ("uid", json!(metadata.uid)),
                ("namespace", json!(metadata.namespace)),
            ]),
        ),
        ("hostname", json!(config.hostname)),
        ("logDirectory", json!(config.log_directory)),
        (
            "dnsConfig",
            object(vec![
                ("servers", json!(dns.servers)),
                ("searches", json!(dns.searches)),
                ("options", json!(dns.options)),
            ]),
        ),
        ("portMappings", json!(ports.collect::<Vec<_>>())),
        ("labels", map(&config.labels)),
        ("annotations", map(&config.annotations)),
        (
            "linux",
            object(vec![
                ("cgroupParent", json!(linux.cgroup_parent)),
                (
                    "securityContext",
                    object(vec![
                        (
                            "namespaceOptions",
                            namespaces(security.namespace_options.as_ref().unwrap()),
                        ),
                        ("seccomp", profile(security.seccomp.as_ref().unwrap())),
                    ]),
                ),
                ("overhead", json!(linux.overhead.as_ref().map(resources))),
                ("resources", json!(linux.resources.as_ref().map(resources))),
            ]),
        ),
    ])
}

fn container(config: &cri::ContainerConfig) -> Value {
    let linux = config.linux.as_ref().unwrap();
    let security = linux.security_context.as_ref().unwrap();
    let capabilities = security.capabilities.as_ref().map(|all| {
        object(vec![
            ("addCapabilities", json!(all.add_capabilities)),
            ("dropCapabilities", json!(all.drop_capabilities)),
        ])
    });
    let mounts = config.mounts.iter().map(|mount| {
        object(vec![
            ("containerPath", json!(mount.container_path)),
            ("hostPath", json!(mount.host_path)),
            ("readonly", json!(mount.readonly)),
        ])
    });
    let mut envs: Vec<(String, String)> = config
        .envs
        .iter()
        .map(|env| (env.key.clone(), env.value.clone()))
        .collect();
    envs.sort();
    let user = security
        .run_as_user
        .map(|user| object(vec![("value", json!(user.value.to_string()))]));
    object(vec![
        (
            "metadata",
            json!({"name": config.metadata.as_ref().unwrap().name}),
        ),
        (
            "image",
            json!({"userSpecifiedImage": config.image.as_ref().unwrap().user_specified_image}),
        ),
        ("command", json!(config.command)),
        ("args", json!(config.args)),
        ("envs", json!(envs)),
        ("mounts", json!(mounts.collect::<Vec<_>>())),
        ("labels", map(&config.labels)),
        ("annotations", map(&config.annotations)),
        ("logPath", json!(config.log_path)),
        (
            "linux",
            object(vec![
                ("resources", json!(linux.resources.as_ref().map(resources))),
                (
                    "securityContext",
                    object(vec![
                        ("capabilities", json!(capabilities)),
                        (
                            "namespaceOptions",
                            namespaces(security.namespace_options.as_ref().unwrap()),
                        ),
                        ("runAsUser", json!(user)),
                        ("readonlyRootfs", json!(security.readonly_rootfs)),
                        ("noNewPrivs", json!(security.no_new_privs)),
                        ("maskedPaths", json!(security.masked_paths)),
                        ("readonlyPaths", json!(security.readonly_paths)),
                        ("seccomp", profile(security.seccomp.as_ref().unwrap())),
                    ]),
                ),
            ]),
        ),
    ])
}

/// Takes out what differs by nature: the image's id, huge pages that the node has, the name of the message file.
fn normal(mut value: Value, root: &str) -> Value {
    if let Some(image) = value.get_mut("image").and_then(Value::as_object_mut) {
        image.remove("image");
    }
    if let Some(resources) = value
        .pointer_mut("/linux/resources")
        .and_then(Value::as_object_mut)
    {
        resources.remove("hugepageLimits");
    }
    for mount in value
        .get_mut("mounts")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if mount["containerPath"] == "/dev/termination-log" {
            let path = mount["hostPath"].as_str().unwrap();
            mount["hostPath"] = json!(path.rsplit_once('/').unwrap().0);
        }
    }
    let text = value
        .to_string()
        .replace("$RUN/logs/pods", &format!("{root}/pods"));
    serde_json::from_str(&text.replace("$RUN", root)).unwrap()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

async fn compare(name: &str) {
    let mut recording = load(name);
    probe_by_command(&mut recording.pod);
    let bench = Bench::start(&format!("cri-{name}")).await;
    let root = bench.root.to_str().unwrap().to_owned();
    std::fs::write(
        bench.root.join("resolv.conf"),
        if name == "hostnet" {
            "nameserver 127.0.0.53\n"
        } else {
            ""
        },
    )
    .unwrap();
    for (map, data) in [
        ("kube-root-ca.crt", json!({"ca.crt": "CA"})),
        ("cm", json!({"a": "1", "b.txt": "two\n"})),
    ] {
        bench
            .api
            .put_config_map(map, serde_json::from_value(json!({"data": data})).unwrap(), &[]);
    }
    bench.api.put_secret(
        "sec",
        serde_json::from_value(json!({"data": {"pw": "c3dvcmRmaXNo"}})).unwrap(),
    );
    let once = Behaviour {
        exit: Some((Duration::ZERO, 0)),
        ..Behaviour::default()
    };
    bench.runtime.behave("i1", once);
    bench.api.put(recording.pod);
    bench.pass(1).await;
    let runs = bench.runtime.runs();
    let ours = normal(sandbox(runs[0].config.as_ref().unwrap()), &root);
    assert_eq!(
        pretty(&ours),
        pretty(&normal(recording.sandbox, &root)),
        "{name}: sandbox, upstream's on the right"
    );
    let creates = bench.runtime.creates();
    assert_eq!(creates.len(), recording.containers.len());
    for (ours, theirs) in creates.iter().zip(recording.containers) {
        let ours = normal(container(ours.config.as_ref().unwrap()), &root);
        let mut theirs = normal(theirs, &root);
        // The pod's address is another here.
        for pair in theirs["envs"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .filter(|pair| pair[0] == "IP")
        {
            pair[1] = json!("10.244.0.5");
        }
        assert_eq!(
            pretty(&ours),
            pretty(&theirs),
            "{name}: container, upstream's on the right"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_pod() {
    compare("plain").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_limits_security_and_an_init_container() {
    compare("init").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_every_volume_and_environment() {
    compare("volumes").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_the_nodes_network() {
    compare("hostnet").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_a_hook_and_named_ports() {
    compare("probes").await;
}
