//! CRI's messages as JSON, in the form of protocol buffers' own mapping: names in camel case, large numbers as text.

use std::collections::{BTreeMap, HashMap};

use knode_cri::{
    Container, ContainerEventResponse, ContainerStats, ContainerStatus, FilesystemUsage, Image,
    LinuxContainerResources, Mount, PodSandbox, PodSandboxStats, PodSandboxStatus, UInt64Value,
};
use serde_json::{Value, json};

fn labels(map: &HashMap<String, String>) -> Value {
    // Sorted, so that two answers can be compared.
    json!(map.iter().collect::<BTreeMap<_, _>>())
}

fn number(value: Option<&UInt64Value>) -> Value {
    json!({"value": value.map_or(0, |value| value.value).to_string()})
}

pub fn container(container: &Container) -> Value {
    let metadata = container.metadata.clone().unwrap_or_default();
    json!({
        "id": container.id,
        "podSandboxId": container.pod_sandbox_id,
        "metadata": {"name": metadata.name, "attempt": metadata.attempt},
        "image": {"image": container.image.as_ref().map(|image| &image.image)},
        "imageRef": container.image_ref,
        "imageId": container.image_id,
        "state": container.state().as_str_name(),
        "createdAt": container.created_at.to_string(),
        "labels": labels(&container.labels),
        "annotations": labels(&container.annotations),
    })
}

pub fn pod(pod: &PodSandbox) -> Value {
    let metadata = pod.metadata.clone().unwrap_or_default();
    json!({
        "id": pod.id,
        "metadata": {
            "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid, "attempt": metadata.attempt,
        },
        "state": pod.state().as_str_name(),
        "createdAt": pod.created_at.to_string(),
        "labels": labels(&pod.labels),
        "annotations": labels(&pod.annotations),
        "runtimeHandler": pod.runtime_handler,
    })
}

pub fn image(image: &Image) -> Value {
    json!({
        "id": image.id,
        "repoTags": image.repo_tags,
        "repoDigests": image.repo_digests,
        "size": image.size.to_string(),
        "uid": image.uid.as_ref().map(|uid| json!({"value": uid.value.to_string()})),
        "username": image.username,
        "pinned": image.pinned,
    })
}

pub fn container_status(status: &ContainerStatus) -> Value {
    let metadata = status.metadata.clone().unwrap_or_default();
    let user = status.user.as_ref().and_then(|user| user.linux.clone());
    json!({
        "id": status.id,
        "metadata": {"name": metadata.name, "attempt": metadata.attempt},
        "state": status.state().as_str_name(),
        "createdAt": super::table::time(status.created_at),
        "startedAt": super::table::time(status.started_at),
        "finishedAt": super::table::time(status.finished_at),
        "exitCode": status.exit_code,
        "reason": status.reason,
        "message": status.message,
        "image": {"image": status.image.as_ref().map(|image| &image.image)},
        "imageRef": status.image_ref,
        "imageId": status.image_id,
        "labels": labels(&status.labels),
        "annotations": labels(&status.annotations),
        "mounts": status.mounts.iter().map(mount).collect::<Vec<_>>(),
        "logPath": status.log_path,
        "resources": status.resources.as_ref().and_then(|all| all.linux.as_ref()).map(resources),
        "user": user.map(|user| json!({
            "linux": {"uid": user.uid.to_string(), "gid": user.gid.to_string(),
                "supplementalGroups": user.supplemental_groups.iter().map(i64::to_string).collect::<Vec<_>>()},
        })),
        "stopSignal": status.stop_signal().as_str_name(),
    })
}

fn mount(mount: &Mount) -> Value {
    json!({
        "containerPath": mount.container_path,
        "hostPath": mount.host_path,
        "image": mount.image.as_ref().map(|image| &image.image),
        "readonly": mount.readonly,
        "recursiveReadOnly": mount.recursive_read_only,
        "propagation": mount.propagation().as_str_name(),
        "selinuxRelabel": mount.selinux_relabel,
    })
}

fn resources(resources: &LinuxContainerResources) -> Value {
    json!({"linux": {
        "cpuPeriod": resources.cpu_period.to_string(),
        "cpuQuota": resources.cpu_quota.to_string(),
        "cpuShares": resources.cpu_shares.to_string(),
        "cpusetCpus": resources.cpuset_cpus,
        "cpusetMems": resources.cpuset_mems,
        "memoryLimitInBytes": resources.memory_limit_in_bytes.to_string(),
        "memorySwapLimitInBytes": resources.memory_swap_limit_in_bytes.to_string(),
        "oomScoreAdj": resources.oom_score_adj.to_string(),
        "unified": labels(&resources.unified),
    }})
}

pub fn pod_status(status: &PodSandboxStatus) -> Value {
    let metadata = status.metadata.clone().unwrap_or_default();
    let network = status.network.clone().unwrap_or_default();
    let ips: Vec<_> = network
        .additional_ips
        .iter()
        .map(|ip| json!({"ip": ip.ip}))
        .collect();
    json!({
        "id": status.id,
        "metadata": {
            "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid, "attempt": metadata.attempt,
        },
        "state": status.state().as_str_name(),
        "createdAt": super::table::time(status.created_at),
        "network": {"ip": network.ip, "additionalIps": ips},
        "labels": labels(&status.labels),
        "annotations": labels(&status.annotations),
        "runtimeHandler": status.runtime_handler,
    })
}

pub fn container_stats(stats: &ContainerStats) -> Value {
    let attributes = stats.attributes.clone().unwrap_or_default();
    json!({
        "attributes": {
            "id": attributes.id,
            "metadata": {"name": attributes.metadata.unwrap_or_default().name},
            "labels": labels(&attributes.labels),
        },
        "cpu": stats.cpu.as_ref().map(|cpu| json!({
            "timestamp": cpu.timestamp.to_string(),
            "usageCoreNanoSeconds": number(cpu.usage_core_nano_seconds.as_ref()),
        })),
        "memory": stats.memory.as_ref().map(|memory| json!({
            "timestamp": memory.timestamp.to_string(),
            "workingSetBytes": number(memory.working_set_bytes.as_ref()),
            "usageBytes": number(memory.usage_bytes.as_ref()),
            "rssBytes": number(memory.rss_bytes.as_ref()),
        })),
        "writableLayer": stats.writable_layer.as_ref().map(filesystem),
    })
}

fn filesystem(usage: &FilesystemUsage) -> Value {
    json!({
        "timestamp": usage.timestamp.to_string(),
        "fsId": {"mountpoint": usage.fs_id.as_ref().map(|id| &id.mountpoint)},
        "usedBytes": number(usage.used_bytes.as_ref()),
        "inodesUsed": number(usage.inodes_used.as_ref()),
    })
}

pub fn pod_stats(stats: &PodSandboxStats) -> Value {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let metadata = attributes.metadata.unwrap_or_default();
    let linux = stats.linux.as_ref();
    json!({
        "attributes": {
            "id": attributes.id,
            "metadata": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
        },
        "linux": {
            "cpu": linux.and_then(|linux| linux.cpu.as_ref()).map(|cpu| json!({
                "usageCoreNanoSeconds": number(cpu.usage_core_nano_seconds.as_ref()),
            })),
            "memory": linux.and_then(|linux| linux.memory.as_ref()).map(|memory| json!({
                "workingSetBytes": number(memory.working_set_bytes.as_ref()),
                "usageBytes": number(memory.usage_bytes.as_ref()),
            })),
            "process": linux.and_then(|linux| linux.process.as_ref()).map(|process| json!({
                "processCount": number(process.process_count.as_ref()),
            })),
            "containers": linux.map(|linux| linux.containers.iter().map(container_stats).collect::<Vec<_>>()),
        },
    })
}

pub fn event(event: &ContainerEventResponse) -> Value {
    json!({
        "containerId": event.container_id,
        "containerEventType": event.container_event_type().as_str_name(),
        "createdAt": event.created_at.to_string(),
        "podSandboxStatus": event.pod_sandbox_status.as_ref().map(pod_status),
        "containersStatuses": event.containers_statuses.iter().map(container_status).collect::<Vec<_>>(),
    })
}

/// As people like to read it.
pub fn print(value: &Value) {
    println!("{value:#}");
}
