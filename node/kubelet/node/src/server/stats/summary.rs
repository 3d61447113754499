//! The summary's JSON (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`); pure. What is not measured is left out.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::collect::{Amount, Container, Usage};

pub(super) fn render(usage: &Usage) -> Value {
    let mut node = Map::new();
    node.insert("nodeName".to_owned(), json!(usage.node_name));
    node.insert("startTime".to_owned(), json!(seconds(usage.started)));
    node.insert("cpu".to_owned(), cpu(&usage.node, usage.now));
    let mut memory = memory(&usage.node, usage.now);
    memory["availableBytes"] = json!(usage.memory_available);
    node.insert("memory".to_owned(), memory);
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
    groups.iter().map(|group| pod(group, usage.now)).collect()
}

fn pod(containers: &[&Container], now: Timestamp) -> Value {
    let first = containers[0];
    let sum = |field: fn(&Amount) -> Option<u64>| {
        containers
            .iter()
            .filter_map(|container| field(&container.amount))
            .reduce(u64::saturating_add)
    };
    let total = Amount {
        cpu_nanoseconds: sum(|amount| amount.cpu_nanoseconds),
        cpu_nanocores: sum(|amount| amount.cpu_nanocores),
        working_set: sum(|amount| amount.working_set),
        usage: sum(|amount| amount.usage),
        rss: sum(|amount| amount.rss),
    };
    json!({
        "podRef": {"name": first.pod, "namespace": first.namespace, "uid": first.uid},
        "containers": containers.iter().map(|container| container_stats(container)).collect::<Vec<_>>(),
        "cpu": cpu(&total, now),
        "memory": memory(&total, now),
    })
}

fn container_stats(container: &Container) -> Value {
    let mut value = json!({
        "name": container.name,
        "cpu": cpu(&container.amount, container.at),
        "memory": memory(&container.amount, container.at),
    });
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
        ],
    )
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
