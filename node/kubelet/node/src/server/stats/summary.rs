//! The summary's JSON (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`); pure. What is not measured is left out.

use jiff::Timestamp;
use knode_linux::filewatch::FileSystemUsage;
use serde_json::{Map, Value, json};

use super::collect::{Amount, Container, Swap, Usage, Whole};
use super::pods::{Interface, Pod};
use super::pressure::second as seconds;
use super::storage::Held;
use super::volumes::Volume;

pub(super) fn render(usage: &Usage) -> Value {
    let mut node = Map::new();
    node.insert("nodeName".to_owned(), json!(usage.node_name));
    node.insert("startTime".to_owned(), json!(seconds(usage.started)));
    node.insert("cpu".to_owned(), cpu(&usage.node, usage.now));
    let mut memory = memory(&usage.node, usage.now);
    memory["availableBytes"] = json!(usage.memory_available);
    node.insert("memory".to_owned(), memory);
    if let Some(swap) = swap(usage.swap, usage.now) {
        node.insert("swap".to_owned(), swap);
    }
    if let Some(fs) = usage.fs {
        node.insert("fs".to_owned(), storage(&Held::whole(fs), usage.now));
    }
    if let (Some(images), Some(containers)) = &usage.runtime_fs {
        let value = json!({
            "imageFs": storage(images, usage.now),
            "containerFs": storage(containers, usage.now),
        });
        node.insert("runtime".to_owned(), value);
    }
    if let Some(whole) = &usage.whole {
        node.insert("systemContainers".to_owned(), json!([pods_as_one(whole, usage)]));
    }
    if let Some(network) = network(&usage.interfaces, usage.now) {
        node.insert("network".to_owned(), network);
    }
    if let Some((running, most)) = usage.tasks {
        let value = json!({"time": seconds(usage.now), "maxpid": most, "curproc": running});
        node.insert("rlimit".to_owned(), value);
    }
    json!({"node": node, "pods": pods(usage)})
}

/// All pods, which are one of upstream's system containers.
fn pods_as_one(whole: &Whole, usage: &Usage) -> Value {
    let mut memory = memory(&whole.amount, usage.now);
    if let Some(available) = whole.memory_available {
        memory["availableBytes"] = json!(available);
    }
    let swapped = Swap {
        available: None,
        used: Some(whole.swapped),
    };
    json!({
        "name": "pods",
        "startTime": seconds(usage.started),
        "cpu": cpu(&whole.amount, usage.now),
        "memory": memory,
        "swap": swap(swapped, usage.now),
    })
}

fn pods(usage: &Usage) -> Vec<Value> {
    let mut groups: Vec<Vec<&Container>> = Vec::new();
    for container in &usage.containers {
        match groups.iter_mut().find(|group| group[0].uid == container.uid) {
            Some(group) => group.push(container),
            None => groups.push(vec![container]),
        }
    }
    groups
        .iter()
        .map(|group| pod(group, usage.pods.get(&group[0].uid), usage))
        .collect()
}

fn pod(containers: &[&Container], whole: Option<&Pod>, usage: &Usage) -> Value {
    let (first, now) = (containers[0], usage.now);
    let sum = |field: fn(&Amount) -> Option<u64>| {
        containers
            .iter()
            .filter_map(|container| field(&container.amount))
            .reduce(u64::saturating_add)
    };
    let own = whole.map(|pod| pod.amount).unwrap_or_default();
    let total = Amount {
        cpu_nanoseconds: own
            .cpu_nanoseconds
            .or_else(|| sum(|amount| amount.cpu_nanoseconds)),
        cpu_nanocores: own.cpu_nanocores.or_else(|| sum(|amount| amount.cpu_nanocores)),
        working_set: own.working_set.or_else(|| sum(|amount| amount.working_set)),
        usage: own.usage.or_else(|| sum(|amount| amount.usage)),
        rss: own.rss.or_else(|| sum(|amount| amount.rss)),
        page_faults: own.page_faults.or_else(|| sum(|amount| amount.page_faults)),
        major_page_faults: own
            .major_page_faults
            .or_else(|| sum(|amount| amount.major_page_faults)),
    };
    let mut value = json!({
        "podRef": {"name": first.pod, "namespace": first.namespace, "uid": first.uid},
        "containers": containers.iter().map(|container| container_stats(container, usage)).collect::<Vec<_>>(),
        "cpu": cpu(&total, now),
        "memory": memory(&total, now),
    });
    let swapped = Swap {
        available: None,
        used: containers
            .iter()
            .filter_map(|container| container.swap.used)
            .reduce(u64::saturating_add),
    };
    if let Some(swap) = swap(swapped, now) {
        value["swap"] = swap;
    }
    if let Some(held) = ephemeral(containers, whole, usage.fs) {
        value["ephemeral-storage"] = storage(&held, now);
    }
    let Some(whole) = whole else { return value };
    whole.pressures.put_into(&mut value, &seconds(now));
    if let Some(started) = whole.started {
        value["startTime"] = json!(seconds(started));
    }
    if let Some(network) = network(&whole.interfaces, now) {
        value["network"] = network;
    }
    if let Some(count) = whole.processes {
        value["process_stats"] = json!({"process_count": count});
    }
    if !whole.volumes.is_empty() {
        value["volume"] = whole.volumes.iter().map(volume).collect();
    }
    value
}

/// The first one is the one that counts.
fn network(interfaces: &[Interface], at: Timestamp) -> Option<Value> {
    let one = |interface: &Interface| {
        json!({
            "name": interface.name,
            "rxBytes": interface.rx_bytes,
            "rxErrors": interface.rx_errors,
            "txBytes": interface.tx_bytes,
            "txErrors": interface.tx_errors,
        })
    };
    let mut value = one(interfaces.first()?);
    value["time"] = json!(seconds(at));
    value["interfaces"] = interfaces.iter().map(one).collect();
    Some(value)
}

fn volume(volume: &Volume) -> Value {
    let mut value = storage(&volume.held, volume.at);
    value["name"] = json!(volume.name);
    if let Some((name, namespace)) = &volume.claim {
        value["pvcRef"] = json!({"name": name, "namespace": namespace});
    }
    if let Some(abnormal) = volume.abnormal {
        value["volumeHealthStats"] = json!({"abnormal": abnormal});
    }
    value
}

fn storage(held: &Held, at: Timestamp) -> Value {
    let fields = [
        ("availableBytes", held.fs.map(|fs| fs.available)),
        ("capacityBytes", held.fs.map(|fs| fs.capacity)),
        ("usedBytes", Some(held.bytes)),
        ("inodesFree", held.fs.map(|fs| fs.inodes_free)),
        ("inodes", held.fs.map(|fs| fs.inodes)),
        ("inodesUsed", held.inodes),
    ];
    known(at, &fields)
}

/// What goes with the pod: its containers' layers and logs, and volumes on the node's own disk.
fn ephemeral(containers: &[&Container], whole: Option<&Pod>, fs: Option<FileSystemUsage>) -> Option<Held> {
    let layers = containers.iter().filter_map(|container| layer(container));
    let logs = containers.iter().filter_map(|container| container.logs);
    let volumes = whole.into_iter().flat_map(|pod| &pod.volumes);
    let volumes = volumes.filter(|volume| volume.local).map(|volume| volume.held);
    let sum = layers.chain(logs).chain(volumes).reduce(|sum, one| Held {
        bytes: sum.bytes.saturating_add(one.bytes),
        inodes: sum
            .inodes
            .zip(one.inodes)
            .map(|(sum, one)| sum.saturating_add(one)),
        fs: None,
    });
    Some(Held { fs, ..sum? })
}

fn layer(container: &Container) -> Option<Held> {
    Some(Held {
        bytes: container.layer_bytes?,
        inodes: container.layer_inodes,
        fs: None,
    })
}

fn container_stats(container: &Container, usage: &Usage) -> Value {
    let mut value = json!({
        "name": container.name,
        "cpu": cpu(&container.amount, container.at),
        "memory": memory(&container.amount, container.at),
    });
    if let Some(available) = container.memory_available {
        value["memory"]["availableBytes"] = json!(available);
    }
    container.pressures.put_into(&mut value, &seconds(container.at));
    if let Some(swap) = swap(container.swap, container.at) {
        value["swap"] = swap;
    }
    if let Some(layer) = layer(container) {
        let fs = usage.runtime_fs.1.and_then(|held| held.fs);
        value["rootfs"] = storage(&Held { fs, ..layer }, container.at);
    }
    if let Some(logs) = &container.logs {
        value["logs"] = storage(logs, container.at);
    }
    if let Some(started) = container.started {
        value["startTime"] = json!(seconds(started));
    }
    value
}

fn cpu(amount: &Amount, at: Timestamp) -> Value {
    known(
        at,
        &[
            ("usageNanoCores", amount.cpu_nanocores),
            ("usageCoreNanoSeconds", amount.cpu_nanoseconds),
        ],
    )
}

fn memory(amount: &Amount, at: Timestamp) -> Value {
    known(
        at,
        &[
            ("usageBytes", amount.usage),
            ("workingSetBytes", amount.working_set),
            ("rssBytes", amount.rss),
            ("pageFaults", amount.page_faults),
            ("majorPageFaults", amount.major_page_faults),
        ],
    )
}

fn swap(swap: Swap, at: Timestamp) -> Option<Value> {
    swap.available.or(swap.used)?;
    let fields = [
        ("swapAvailableBytes", swap.available),
        ("swapUsageBytes", swap.used),
    ];
    Some(known(at, &fields))
}

fn known(at: Timestamp, fields: &[(&str, Option<u64>)]) -> Value {
    let mut value = json!({"time": seconds(at)});
    for (name, amount) in fields {
        if let Some(amount) = amount {
            value[*name] = json!(amount);
        }
    }
    value
}
