//! `stats`: two looks, a second apart, tell how much of a processor is used.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use knode_cri::client::RemoteRuntime;
use knode_cri::{ContainerStats, CpuUsage, PodSandboxStats, RuntimeService, UInt64Value};
use serde_json::json;

use super::cli::Listing;
use super::table::{Table, bytes, short};
use super::{find, json as show};
use crate::output::TableFormat;

const CONTAINERS: &[&str] = &["CONTAINER", "NAME", "CPU %", "MEM", "DISK", "INODES"];
const PODS: &[&str] = &["POD-ID", "NAME", "NAMESPACE", "CPU %", "MEM", "PROCESSES"];
/// Between the two looks.
const SPAN: Duration = Duration::from_secs(1);

pub async fn run(listing: &Listing, pods: bool) -> anyhow::Result<()> {
    let engine = find::engine(&listing.place).await?;
    match (pods, listing.output) {
        (false, TableFormat::Json) => {
            let all: Vec<_> = of_containers(&engine)
                .await?
                .iter()
                .map(show::container_stats)
                .collect();
            show::print(&json!({"stats": all}));
        }
        (true, TableFormat::Json) => {
            let all: Vec<_> = of_pods(&engine).await?.iter().map(show::pod_stats).collect();
            show::print(&json!({"stats": all}));
        }
        (false, TableFormat::Table) => {
            let before = of_containers(&engine).await?;
            tokio::time::sleep(SPAN).await;
            print!("{}", containers_table(&before, &of_containers(&engine).await?));
        }
        (true, TableFormat::Table) => {
            let before = of_pods(&engine).await?;
            tokio::time::sleep(SPAN).await;
            print!("{}", pods_table(&before, &of_pods(&engine).await?));
        }
    }
    Ok(())
}

async fn of_containers(engine: &RemoteRuntime) -> anyhow::Result<Vec<ContainerStats>> {
    let answer = engine.list_container_stats(Default::default()).await;
    Ok(answer.context("ask what containers use")?.stats)
}

async fn of_pods(engine: &RemoteRuntime) -> anyhow::Result<Vec<PodSandboxStats>> {
    let answer = engine.list_pod_sandbox_stats(Default::default()).await;
    Ok(answer.context("ask what pods use")?.stats)
}

fn id(stats: &ContainerStats) -> &str {
    stats
        .attributes
        .as_ref()
        .map_or("", |attributes| attributes.id.as_str())
}

fn containers_table(before: &[ContainerStats], after: &[ContainerStats]) -> String {
    let before: HashMap<_, _> = before.iter().map(|one| (id(one), one)).collect();
    let mut table = Table::new(CONTAINERS);
    for one in after {
        let name = one
            .attributes
            .as_ref()
            .and_then(|attributes| attributes.metadata.as_ref());
        let earlier = before.get(id(one)).and_then(|one| one.cpu.as_ref());
        let disk = one.writable_layer.as_ref();
        table.row([
            short(id(one)),
            name.map_or(String::new(), |metadata| metadata.name.clone()),
            percent(earlier, one.cpu.as_ref()),
            bytes(value(
                one.memory
                    .as_ref()
                    .and_then(|memory| memory.working_set_bytes.as_ref()),
            )),
            bytes(value(disk.and_then(|disk| disk.used_bytes.as_ref()))),
            value(disk.and_then(|disk| disk.inodes_used.as_ref())).to_string(),
        ]);
    }
    table.text()
}

fn pods_table(before: &[PodSandboxStats], after: &[PodSandboxStats]) -> String {
    let id = |one: &PodSandboxStats| one.attributes.as_ref().map_or(String::new(), |a| a.id.clone());
    let cpu = |one: &PodSandboxStats| one.linux.as_ref().and_then(|linux| linux.cpu);
    let before: HashMap<_, _> = before.iter().map(|one| (id(one), cpu(one))).collect();
    let mut table = Table::new(PODS);
    for one in after {
        let metadata = one
            .attributes
            .as_ref()
            .and_then(|attributes| attributes.metadata.clone());
        let metadata = metadata.unwrap_or_default();
        let linux = one.linux.as_ref();
        let memory = linux.and_then(|linux| linux.memory.as_ref());
        let process = linux.and_then(|linux| linux.process.as_ref());
        table.row([
            short(&id(one)),
            metadata.name,
            metadata.namespace,
            percent(before.get(&id(one)).and_then(Option::as_ref), cpu(one).as_ref()),
            bytes(value(memory.and_then(|memory| memory.working_set_bytes.as_ref()))),
            value(process.and_then(|process| process.process_count.as_ref())).to_string(),
        ]);
    }
    table.text()
}

fn value(value: Option<&UInt64Value>) -> u64 {
    value.map_or(0, |value| value.value)
}

/// Percent of one processor between two looks; a dash where there was no first one.
fn percent(before: Option<&CpuUsage>, after: Option<&CpuUsage>) -> String {
    let (Some(before), Some(after)) = (before, after) else {
        return "-".into();
    };
    let span = after.timestamp.saturating_sub(before.timestamp);
    let used = value(after.usage_core_nano_seconds.as_ref())
        .saturating_sub(value(before.usage_core_nano_seconds.as_ref()));
    if span <= 0 {
        return "-".into();
    }
    format!("{:.2}", used as f64 * 100.0 / span as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_tell_the_share_of_a_processor() {
        let at = |timestamp, used| CpuUsage {
            timestamp,
            usage_core_nano_seconds: Some(UInt64Value { value: used }),
            ..Default::default()
        };
        assert_eq!(
            percent(Some(&at(0, 0)), Some(&at(1_000_000_000, 250_000_000))),
            "25.00"
        );
        assert_eq!(percent(None, Some(&at(1, 1))), "-");
        assert_eq!(percent(Some(&at(5, 1)), Some(&at(5, 1))), "-");
    }
}
