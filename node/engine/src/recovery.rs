//! Taking up what an earlier run of the daemon, or an earlier boot, has left.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use crate::container::Container;
use crate::engine::Core;
use crate::error::{FileContext, Result, chain};
use crate::link::ShimLink;
use crate::sandbox::{Sandbox, unique_name, unseen_end};
use crate::shim::protocol::{Answer, Command, Running};
use crate::state::{
    ContainerRecord, Ended, Layout, SandboxRecord, Started, load_all, read_exit, remove_dir, write_record,
};

/// How long a shim may take to decide what it is just starting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes every directory that the engine needs.
pub(crate) fn make_directories(layout: &Layout) -> Result<()> {
    for directory in layout.all() {
        fs::create_dir_all(&directory).file("making", &directory)?;
    }
    Ok(())
}

/// What a container turns out to be, from its record and from what else is known of it.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// As written down.
    Same,
    /// It was started, which was not written down any more.
    Started(Started),
    /// It has ended meanwhile.
    Ended(Ended),
}

fn find(record: &ContainerRecord, running: Option<&Running>, exit: Option<Ended>) -> Finding {
    if record.ended.is_some() {
        return Finding::Same;
    }
    match (running, exit) {
        (_, Some(ended)) => Finding::Ended(ended),
        (Some(_), None) if record.started.is_some() => Finding::Same,
        (Some(running), None) => Finding::Started(Started {
            pid: running.pid,
            at: running.started_at,
        }),
        // Never started: it can still be.
        (None, None) if record.started.is_none() => Finding::Same,
        (None, None) => Finding::Ended(unseen_end(0)),
    }
}

/// Loads all records, connects to the shims, and clears away what belongs to nothing.
pub(crate) async fn recover(core: &Arc<Core>) -> Result<()> {
    let layout = &core.layout;
    let (sandboxes, broken_sandboxes) = load_all::<SandboxRecord>(&layout.sandboxes())?;
    let (containers, broken_containers) = load_all::<ContainerRecord>(&layout.containers())?;
    let mut by_sandbox: HashMap<String, Vec<ContainerRecord>> = HashMap::new();
    let mut half_made: Vec<String> = Vec::new();
    for record in containers {
        if !record.made {
            half_made.push(record.id);
            continue;
        }
        by_sandbox
            .entry(record.sandbox_id.clone())
            .or_default()
            .push(record);
    }
    for record in sandboxes {
        if !record.made {
            clear_sandbox(core, record).await;
            continue;
        }
        let containers = by_sandbox.remove(&record.id).unwrap_or_default();
        take_up(core, record, containers).await;
    }
    for id in broken_sandboxes {
        clear_sandbox(core, lost_record(&id)).await;
    }
    let orphans = by_sandbox.into_values().flatten().map(|record| record.id);
    for id in orphans.chain(broken_containers).chain(half_made) {
        clear_container(core, &id);
    }
    clear_snapshots(core);
    remove_dir(&layout.execs())?;
    fs::create_dir_all(layout.execs()).file("making", layout.execs())
}

/// One sandbox with its containers.
async fn take_up(core: &Arc<Core>, mut record: SandboxRecord, containers: Vec<ContainerRecord>) {
    let id = record.id.clone();
    let this_boot = record.boot_id == core.boot_id;
    let socket = core.layout.shim_socket(&id);
    let link = if this_boot {
        ShimLink::connect(&id, &socket, core.shim_events.clone())
            .await
            .ok()
    } else {
        None
    };
    let running = match &link {
        Some(link) => running(link).await,
        None => HashMap::new(),
    };
    if record.ready && link.is_none() {
        tracing::warn!(
            sandbox = id,
            this_boot,
            "a sandbox has ended while the engine was away"
        );
        record.ready = false;
        save(&core.layout.sandbox(&id), &record);
    }
    if let Some(metadata) = &record.config.metadata {
        reserve(core, &unique_name(metadata), &id);
    }
    core.hold_labels(&id, record.labels.as_ref());
    let lost = link.is_none();
    core.insert_sandbox(Arc::new(Sandbox::new(record, link)));
    for container in containers {
        take_up_container(core, container, &running, lost);
    }
}

async fn running(link: &ShimLink) -> HashMap<String, Running> {
    // A program that takes long to start must not hold up all others.
    let listed = match tokio::time::timeout(PATIENCE, link.call(Command::List, &[])).await {
        Ok(listed) => listed,
        Err(_) => link.call(Command::ListNow, &[]).await,
    };
    match listed {
        Ok(Answer::Containers(list)) => list
            .into_iter()
            .map(|entry| (entry.container.clone(), entry))
            .collect(),
        Ok(other) => {
            tracing::error!(?other, "a shim does not list its containers");
            HashMap::new()
        }
        Err(error) => {
            tracing::error!(error = chain(&error), "a shim does not list its containers");
            HashMap::new()
        }
    }
}

fn take_up_container(
    core: &Core,
    mut record: ContainerRecord,
    running: &HashMap<String, Running>,
    without_shim: bool,
) {
    let exit = read_exit(&core.layout.exit_file(&record.id)).map(Ended::from);
    let finding = find(&record, running.get(&record.id), exit);
    let changed = finding != Finding::Same;
    match finding {
        Finding::Same => {}
        Finding::Started(started) => record.started = Some(started),
        Finding::Ended(ended) => record.ended = Some(ended),
    }
    if without_shim && (changed || record.ended.is_none()) {
        // Its shim died with nobody there: what is left of it has lost its pipes.
        if let Err(error) = core.remove_cgroup(&record.cgroup) {
            tracing::warn!(
                container = record.id,
                error = chain(&error),
                "ending what is left of a container"
            );
        }
    }
    if changed && record.ended.is_some() {
        core.unmount(&record);
    }
    if changed {
        save(&core.layout.container(&record.id), &record);
    }
    if let Some(metadata) = &record.config.metadata {
        reserve(
            core,
            &format!("{}_{}_{}", metadata.name, record.sandbox_id, metadata.attempt),
            &record.id,
        );
    }
    core.hold_labels(&record.id, record.labels.as_ref());
    core.insert_container(Arc::new(Container::new(record)));
}

fn save<T: serde::Serialize>(directory: &std::path::Path, record: &T) {
    if let Err(error) = write_record(directory, record) {
        tracing::error!(directory = %directory.display(), error = chain(&error), "writing a record");
    }
}

fn reserve(core: &Core, name: &str, id: &str) {
    if let Err(error) = core.reserve_name(name, id) {
        tracing::warn!(error = chain(&error), "two objects have one name");
    }
}

/// What is known of a sandbox whose record cannot be read: enough to give back what it may hold.
fn lost_record(id: &str) -> SandboxRecord {
    SandboxRecord {
        id: id.to_string(),
        config: Default::default(),
        runtime_handler: String::new(),
        created_at: 0,
        hostname: String::new(),
        ips: Vec::new(),
        ready: false,
        held: true,
        labels: None,
        made: false,
        boot_id: String::new(),
    }
}

/// A sandbox that was never made whole, or whose record is lost.
async fn clear_sandbox(core: &Arc<Core>, record: SandboxRecord) {
    let id = record.id.clone();
    let id = id.as_str();
    let link = ShimLink::connect(id, &core.layout.shim_socket(id), core.shim_events.clone())
        .await
        .ok();
    let sandbox = Sandbox::new(record, link);
    for error in core.release(&sandbox).await {
        tracing::warn!(
            sandbox = id,
            error = chain(&error),
            "clearing a sandbox without a record"
        );
    }
    if let Err(error) = remove_dir(&core.layout.sandbox(id)) {
        tracing::warn!(
            sandbox = id,
            error = chain(&error),
            "clearing a sandbox without a record"
        );
    }
}

/// A container whose record or sandbox is lost.
fn clear_container(core: &Core, id: &str) {
    let mut errors = core.remove_snapshots(id);
    errors.extend(core.forget_scope_named(id).err());
    errors.extend(remove_dir(&core.layout.runtime_root().join(id)).err());
    errors.extend(remove_dir(&core.layout.container(id)).err());
    for error in errors {
        tracing::warn!(
            container = id,
            error = chain(&error),
            "clearing a container that belongs to nothing"
        );
    }
}

/// Snapshots of containers that are not there.
fn clear_snapshots(core: &Core) {
    let snapshots = core.config.images.snapshots();
    let known: HashSet<String> = core
        .containers()
        .iter()
        .map(|container| container.id.clone())
        .collect();
    let all = match snapshots.list() {
        Ok(all) => all,
        Err(error) => return tracing::warn!(error = chain(&error), "listing snapshots"),
    };
    for snapshot in all {
        let owner = snapshot.key.split("-image-").next().unwrap_or_default();
        let ours = owner.len() == 64 && owner.bytes().all(|byte| byte.is_ascii_hexdigit());
        if ours
            && !known.contains(owner)
            && let Err(error) = snapshots.remove(&snapshot.key)
        {
            tracing::warn!(
                snapshot = snapshot.key,
                error = chain(&error),
                "removing a snapshot of no container"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(started: bool, ended: bool) -> ContainerRecord {
        ContainerRecord {
            id: "c".into(),
            sandbox_id: "s".into(),
            config: Default::default(),
            image_id: String::new(),
            image_name: String::new(),
            image_ref: String::new(),
            created_at: 1,
            log_path: Default::default(),
            user: Default::default(),
            stop_signal: 15,
            cgroup: Default::default(),
            image_mounts: vec![],
            labels: None,
            made: true,
            filtered: false,
            program: None,
            started: started.then_some(Started { pid: 7, at: 2 }),
            ended: ended.then(|| unseen_end(3)),
            boot_id: String::new(),
        }
    }

    fn running() -> Running {
        Running {
            container: "c".into(),
            pid: 9,
            started_at: 5,
            exit: None,
        }
    }

    #[test]
    fn what_the_shim_knows_completes_the_record() {
        assert_eq!(find(&record(true, false), Some(&running()), None), Finding::Same);
        let started = Finding::Started(Started { pid: 9, at: 5 });
        assert_eq!(find(&record(false, false), Some(&running()), None), started);
        assert_eq!(find(&record(false, false), None, None), Finding::Same);
    }

    #[test]
    fn an_end_is_believed_however_it_is_learnt() {
        let exit = Ended {
            code: 3,
            at: 9,
            reason: "Error".into(),
            message: String::new(),
        };
        assert_eq!(
            find(&record(true, false), None, Some(exit.clone())),
            Finding::Ended(exit)
        );
        assert_eq!(
            find(&record(true, false), None, None),
            Finding::Ended(unseen_end(0))
        );
        assert_eq!(find(&record(true, true), None, None), Finding::Same);
    }
}
