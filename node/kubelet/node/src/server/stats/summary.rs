//! The summary's JSON (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`); pure. What is not measured is left out.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::collect::{Amount, Container, Swap, Usage};
use super::pods::{Interface, Pod, Volume};

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
        let value = json!({
            "time": seconds(usage.now),
            "availableBytes": fs.available,
            "capacityBytes": fs.capacity,
            "usedBytes": fs.used,
            "inodesFree": fs.inodes_free,
            "inodes": fs.inodes,
            "inodesUsed": fs.inodes.saturating_sub(fs.inodes_free),
        });
        node.insert("fs".to_owned(), value);
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
        .map(|group| pod(group, usage.pods.get(&group[0].uid), usage.now))
        .collect()
}

fn pod(containers: &[&Container], whole: Option<&Pod>, now: Timestamp) -> Value {
    let first = containers[0];
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
        "containers": containers.iter().map(|container| container_stats(container)).collect::<Vec<_>>(),
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
    let Some(whole) = whole else { return value };
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
    json!({
        "name": volume.name,
        "time": seconds(volume.at),
        "availableBytes": volume.fs.available,
        "capacityBytes": volume.fs.capacity,
        "usedBytes": volume.used,
        "inodesFree": volume.fs.inodes_free,
        "inodes": volume.fs.inodes,
        "inodesUsed": volume.inodes_used,
    })
}

fn container_stats(container: &Container) -> Value {
    let mut value = json!({
        "name": container.name,
        "cpu": cpu(&container.amount, container.at),
        "memory": memory(&container.amount, container.at),
    });
    if let Some(available) = container.memory_available {
        value["memory"]["availableBytes"] = json!(available);
    }
    if let Some(swap) = swap(container.swap, container.at) {
        value["swap"] = swap;
    }
    if let Some(used) = container.layer_bytes {
        value["rootfs"] = json!({"time": seconds(container.at), "usedBytes": used});
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

fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
