use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ContainerImage, NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures,
};
use serde_json::{Value, json};

use super::object::reconcile_patch;
use super::*;
use crate::NodeConfig;
use crate::machine::MachineInfo;
use crate::status::{Conditions, Pressure};

fn config() -> NodeConfig {
    NodeConfig {
        node_name: "node1".to_owned(),
        node_ips: vec!["10.99.0.1".parse().unwrap()],
        labels: BTreeMap::new(),
        taints: Vec::new(),
        max_pods: 250,
        pods_per_core: 0,
        max_images: Some(50),
        reserved: crate::Reserved::default(),
        version: "v1.36.2".to_owned(),
        root_dir: "/var/lib/kubelet".into(),
        cert_dir: "/var/lib/kubelet/pki".into(),
        kubeconfig: "/var/lib/kubelet/kubeconfig".into(),
        bootstrap_kubeconfig: None,
        certificate_lifetime: None,
        client_ca: None,
        tls: Default::default(),
        listen: "0.0.0.0:10250".parse().unwrap(),
        healthz: None,
        pod_logs_dir: "/var/log/pods".into(),
        pods_cgroup: None,
        eviction: Default::default(),
        image_gc: Default::default(),
        shutdown: Default::default(),
        configz: Value::Null,
        system_logs: true,
        flags: BTreeMap::new(),
    }
}

fn machine() -> MachineInfo {
    MachineInfo {
        cpus: 2,
        memory: 24_684_092 * 1024,
        ephemeral_storage: 264_212_084 * 1024,
        huge_pages: [(1 << 30, 0), (2 << 20, 0)].into(),
        devices: [].into(),
        machine_id: "m".to_owned(),
        system_uuid: "s".to_owned(),
        boot_id: "b".to_owned(),
        kernel: "k".to_owned(),
        os_image: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        architecture: "amd64",
    }
}

fn runtime() -> RuntimeInfo {
    let features = NodeRuntimeHandlerFeatures {
        recursive_read_only_mounts: Some(true),
        user_namespaces: Some(false),
    };
    RuntimeInfo {
        version: "containerd://2.1.9+unknown".to_owned(),
        handlers: vec![NodeRuntimeHandler {
            name: Some(String::new()),
            features: Some(features),
        }],
        features: Some(NodeFeatures {
            supplemental_groups_policy: Some(true),
        }),
        images: vec![ContainerImage {
            names: Some(vec!["docker.io/x:1".to_owned()]),
            size_bytes: Some(5),
        }],
        problems: Vec::new(),
    }
}

fn node() -> k8s_openapi::api::core::v1::Node {
    node_of(&config())
}

fn node_of(config: &NodeConfig) -> k8s_openapi::api::core::v1::Node {
    let problems = vec!["CSINode is not yet initialized".to_owned()];
    let conditions = Conditions {
        pressure: Pressure::default(),
        problems,
    };
    initial_node(
        config,
        &machine(),
        &runtime(),
        &conditions,
        "2026-11-22T14:47:13Z".parse().unwrap(),
    )
}

#[test]
fn pods_of_each_processor_stay_within_the_most() {
    // Of two processors.
    for (each, expected) in [(0, "250"), (3, "6"), (200, "250"), (u32::MAX, "250")] {
        let config = NodeConfig {
            pods_per_core: each,
            ..config()
        };
        let status = node_of(&config).status.unwrap();
        for amounts in [status.capacity, status.allocatable] {
            assert_eq!(amounts.unwrap()["pods"].0, expected, "{each}");
        }
    }
}

/// recordings: kubelet-bootstrap, the body of POST /api/v1/nodes; conditions are tested apart.
#[test]
fn the_object_is_what_upstream_posts_on_the_same_machine() {
    let mut written = serde_json::to_value(node()).unwrap();
    let conditions = written["status"]
        .as_object_mut()
        .unwrap()
        .remove("conditions")
        .unwrap();
    assert_eq!(conditions.as_array().unwrap().len(), 4);
    let expected = json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {
            "name": "node1",
            "labels": {
                "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": "node1", "kubernetes.io/os": "linux",
            },
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": {},
        "status": {
            "capacity": {
                "cpu": "2", "ephemeral-storage": "264212084Ki", "hugepages-1Gi": "0", "hugepages-2Mi": "0",
                "memory": "24684092Ki", "pods": "250",
            },
            "allocatable": {
                "cpu": "2", "ephemeral-storage": "243497856212", "hugepages-1Gi": "0", "hugepages-2Mi": "0",
                "memory": "24581692Ki", "pods": "250",
            },
            "addresses": [
                {"type": "InternalIP", "address": "10.99.0.1"}, {"type": "Hostname", "address": "node1"},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "machineID": "m", "systemUUID": "s", "bootID": "b", "kernelVersion": "k",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
                "containerRuntimeVersion": "containerd://2.1.9+unknown", "kubeletVersion": "v1.36.2",
                "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
            },
            "images": [{"names": ["docker.io/x:1"], "sizeBytes": 5}],
            "runtimeHandlers": [
                {"name": "", "features": {"recursiveReadOnlyMounts": true, "userNamespaces": false}},
            ],
            "features": {"supplementalGroupsPolicy": true},
            "declaredFeatures": [
                "InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers",
                "RestartAllContainersOnContainerExits",
            ],
        },
    });
    assert_eq!(written, expected);
}

/// recordings: kubelet-bootstrap; there the kubelet translates WebSockets for every runtime.
#[test]
fn beside_its_own_engine_all_features_are_declared() {
    let runtime = RuntimeInfo {
        version: "knode://0.1.0".to_owned(),
        ..runtime()
    };
    let conditions = Conditions {
        pressure: Pressure::default(),
        problems: Vec::new(),
    };
    let now = "2026-11-22T14:47:13Z".parse().unwrap();
    let node = initial_node(&config(), &machine(), &runtime, &conditions, now);
    assert_eq!(
        node.status.unwrap().declared_features.unwrap(),
        [
            "ExtendWebSocketsToKubelet",
            "InPlacePodLevelResourcesVerticalScaling",
            "InPlacePodVerticalScalingInitContainers",
            "RestartAllContainersOnContainerExits",
        ]
    );
}

#[test]
fn huge_pages_are_counted_and_taken_from_memory() {
    let machine = MachineInfo {
        huge_pages: [(2 << 20, 512 << 20)].into(),
        memory: 4 << 30,
        ..machine()
    };
    let node = initial_node(
        &config(),
        &machine,
        &runtime(),
        &Conditions::default(),
        "2026-11-22T14:47:13Z".parse().unwrap(),
    );
    let allocatable = node.status.unwrap().allocatable.unwrap();
    assert_eq!(allocatable["hugepages-2Mi"].0, "512Mi");
    assert_eq!(
        allocatable["memory"].0,
        format!("{}Ki", (4 << 20) - (100 << 10) - (512 << 10))
    );
}

#[test]
fn what_is_reserved_is_not_allocatable() {
    let mut config = config();
    config.reserved = crate::Reserved {
        milli_cpu: 500,
        memory: 1 << 30,
        storage: 1 << 20,
    };
    let now = "2026-11-22T14:47:13Z".parse().unwrap();
    let read = |config| {
        let node = initial_node(config, &machine(), &runtime(), &Conditions::default(), now);
        let status = node.status.unwrap();
        (status.capacity.unwrap(), status.allocatable.unwrap())
    };
    let (capacity, allocatable) = read(&config);
    let (_, free) = read(&self::config());
    let bytes = |text: &str| text.trim_end_matches("Ki").parse::<u64>().unwrap();
    assert_eq!(
        (capacity["cpu"].0.as_str(), allocatable["cpu"].0.as_str()),
        ("2", "1500m")
    );
    assert_eq!(
        bytes(&free["memory"].0) - bytes(&allocatable["memory"].0),
        1 << 20
    );
    let storage = "ephemeral-storage";
    assert_eq!(bytes(&free[storage].0) - bytes(&allocatable[storage].0), 1 << 20);
}

#[test]
fn an_existing_node_gets_only_what_it_lacks() {
    let wanted = node();
    let mut existing = wanted.clone();
    assert_eq!(reconcile_patch(&existing, &wanted), None);
    let labels = existing.metadata.labels.as_mut().unwrap();
    labels.insert("mine".to_owned(), "stays".to_owned());
    labels.insert("kubernetes.io/os".to_owned(), "plan9".to_owned());
    existing.metadata.annotations = None;
    let expected = json!({"metadata": {
        "labels": {"kubernetes.io/os": "linux"},
        "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
    }});
    assert_eq!(reconcile_patch(&existing, &wanted), Some(expected));
}
