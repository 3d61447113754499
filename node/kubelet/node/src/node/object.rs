//! The Node object out of what is known (`pkg/kubelet/kubelet_node_status.go`, `initialNode`), pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::runtime::RuntimeInfo;
use crate::config::NodeConfig;
use crate::eviction::Signal;
use crate::machine::MachineInfo;
use crate::status::Conditions;

const MANAGED_ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";

/// The object with which a node registers.
pub fn initial_node(
    config: &NodeConfig,
    machine: &MachineInfo,
    runtime: &RuntimeInfo,
    conditions: &Conditions,
    now: Timestamp,
) -> Node {
    let spec = NodeSpec {
        taints: (!config.taints.is_empty()).then(|| config.taints.clone()),
        ..NodeSpec::default()
    };
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config, machine)),
            annotations: Some(BTreeMap::from([(MANAGED_ATTACH.to_owned(), "true".to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: Some(status_of(
            &NodeStatus::default(),
            config,
            machine,
            runtime,
            conditions,
            now,
        )),
    }
}

/// The status as it should be now; what others wrote into `old` stays.
pub(crate) fn status_of(
    old: &NodeStatus,
    config: &NodeConfig,
    machine: &MachineInfo,
    runtime: &RuntimeInfo,
    conditions: &Conditions,
    now: Timestamp,
) -> NodeStatus {
    let mut status = old.clone();
    let (capacity, allocatable) = resources(config, machine);
    overwrite(&mut status.capacity, capacity);
    overwrite(&mut status.allocatable, allocatable);
    status.conditions = Some(conditions.apply(old.conditions.as_deref().unwrap_or_default(), now));
    status.addresses = Some(addresses(config));
    status.daemon_endpoints = Some(NodeDaemonEndpoints {
        kubelet_endpoint: Some(DaemonEndpoint {
            port: i32::from(config.listen.port()),
        }),
    });
    status.node_info = Some(node_info(config, machine, runtime));
    status.images = (!runtime.images.is_empty()).then(|| runtime.images.clone());
    status.runtime_handlers = (!runtime.handlers.is_empty()).then(|| runtime.handlers.clone());
    status.features = runtime.features.clone();
    status.declared_features = Some(declared(runtime));
    status
}

/// What this kubelet can do that not every one can, in order: schedulers send pods that need it only to nodes that declare
/// it (upstream: `component-helpers/nodedeclaredfeatures`).
fn declared(runtime: &RuntimeInfo) -> Vec<String> {
    let mut all = vec![
        "InPlacePodLevelResourcesVerticalScaling",
        "InPlacePodVerticalScalingInitContainers",
        "RestartAllContainersOnContainerExits",
    ];
    // Streams go to the runtime as they come. Of knode's engine it is known that it speaks WebSocket; for others the API
    // server translates, as long as this is not declared.
    if runtime.version.starts_with("knode://") {
        all.insert(0, "ExtendWebSocketsToKubelet");
    }
    all.into_iter().map(str::to_owned).collect()
}

/// The merge patch that gives an existing node the labels and the annotation that it lacks, if it lacks any.
pub(crate) fn reconcile_patch(existing: &Node, wanted: &Node) -> Option<Value> {
    let missing = |has: &Option<BTreeMap<String, String>>, wants: &Option<BTreeMap<String, String>>| {
        let has = has.clone().unwrap_or_default();
        let wants = wants.clone().unwrap_or_default();
        let lacks = wants
            .into_iter()
            .filter(|(key, value)| has.get(key) != Some(value));
        lacks
            .map(|(key, value)| (key, Value::String(value)))
            .collect::<Map<_, _>>()
    };
    let labels = missing(&existing.metadata.labels, &wanted.metadata.labels);
    let annotations = missing(&existing.metadata.annotations, &wanted.metadata.annotations);
    let mut metadata = Map::new();
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), Value::Object(labels));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), Value::Object(annotations));
    }
    (!metadata.is_empty()).then(|| json!({"metadata": metadata}))
}

fn labels(config: &NodeConfig, machine: &MachineInfo) -> BTreeMap<String, String> {
    let own = [
        ("beta.kubernetes.io/arch", machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture),
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut labels = config.labels.clone();
    labels.extend(own);
    labels
}

fn addresses(config: &NodeConfig) -> Vec<NodeAddress> {
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    let ips = config
        .node_ips
        .iter()
        .map(|ip| address("InternalIP", ip.to_string()));
    ips.chain([address("Hostname", config.node_name.clone())])
        .collect()
}

type Resources = BTreeMap<String, Quantity>;

/// Capacity, and what of it pods may have: less what the eviction thresholds hold back.
fn resources(config: &NodeConfig, machine: &MachineInfo) -> (Resources, Resources) {
    let held = |signal, capacity| config.eviction.held(signal, capacity);
    let held_disk = held(Signal::NodefsAvailable, machine.ephemeral_storage);
    let reserved = config.reserved;
    let free_disk = machine
        .ephemeral_storage
        .saturating_sub(held_disk + reserved.storage);
    let huge: u64 = machine.huge_pages.values().sum();
    let free_memory = machine
        .memory
        .saturating_sub(held(Signal::MemoryAvailable, machine.memory))
        .saturating_sub(huge)
        .saturating_sub(reserved.memory);
    let mut capacity = Resources::new();
    let mut allocatable = Resources::new();
    let mut both = |name: &str, all: String, free: String| {
        capacity.insert(name.to_owned(), Quantity(all));
        allocatable.insert(name.to_owned(), Quantity(free));
    };
    let free_cpus = (u64::from(machine.cpus) * 1000).saturating_sub(reserved.milli_cpu);
    both("cpu", machine.cpus.to_string(), cpus(free_cpus));
    both(
        "ephemeral-storage",
        kib(machine.ephemeral_storage),
        free_disk.to_string(),
    );
    for (size, bytes) in &machine.huge_pages {
        let amount = binary(*bytes);
        both(&format!("hugepages-{}", binary(*size)), amount.clone(), amount);
    }
    both("memory", kib(machine.memory), kib(free_memory));
    let pods = pods(config, machine.cpus);
    both("pods", pods.clone(), pods);
    for (name, (all, healthy)) in &machine.devices {
        both(name, all.to_string(), healthy.to_string());
    }
    (capacity, allocatable)
}

/// How many pods may run.
fn pods(config: &NodeConfig, cpus: u32) -> String {
    let pods = match config.pods_per_core {
        0 => config.max_pods,
        each => each.saturating_mul(cpus).min(config.max_pods),
    };
    pods.to_string()
}

/// Thousandths of a processor, as whole ones if they are.
fn cpus(milli: u64) -> String {
    match milli.is_multiple_of(1000) {
        true => (milli / 1000).to_string(),
        false => format!("{milli}m"),
    }
}

fn kib(bytes: u64) -> String {
    if bytes.is_multiple_of(1024) {
        format!("{}Ki", bytes / 1024)
    } else {
        bytes.to_string()
    }
}

/// The largest binary unit that leaves a whole number.
fn binary(bytes: u64) -> String {
    let units = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let unit = units
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1u64 << shift));
    unit.map_or_else(
        || bytes.to_string(),
        |(shift, name)| format!("{}{name}", bytes >> shift),
    )
}

/// Resources that others added (device plug-ins' extended ones) stay.
fn overwrite(all: &mut Option<Resources>, own: Resources) {
    all.get_or_insert_default().extend(own);
}

fn node_info(config: &NodeConfig, machine: &MachineInfo, runtime: &RuntimeInfo) -> NodeSystemInfo {
    NodeSystemInfo {
        machine_id: machine.machine_id.clone(),
        system_uuid: machine.system_uuid.clone(),
        boot_id: machine.boot_id.clone(),
        kernel_version: machine.kernel.clone(),
        os_image: machine.os_image.clone(),
        container_runtime_version: runtime.version.clone(),
        kubelet_version: config.version.clone(),
        kube_proxy_version: String::new(),
        operating_system: "linux".to_owned(),
        architecture: machine.architecture.to_owned(),
        ..NodeSystemInfo::default()
    }
}
