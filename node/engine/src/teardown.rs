//! Ending everything that the engine has on a machine.

use std::fs;

use futures::future::join_all;

use crate::config::EngineConfig;
use crate::engine::Engine;
use crate::error::{EngineError, FileContext};
use crate::state::remove_dir;

/// Ends containers and shims, gives back networks and namespaces, unmounts, and removes the engine's records
/// and its runtime directory. Images stay. Needs no running daemon, and none must run. Goes on after errors
/// and gives them all.
pub async fn teardown(config: EngineConfig) -> Vec<EngineError> {
    let mut errors = Vec::new();
    let images = config.images.clone();
    match Engine::open(config).await {
        Ok(engine) => errors.extend(end_all(&engine).await),
        Err(error) => return vec![error],
    }
    errors.extend(images.snapshots().teardown().into_iter().map(EngineError::from));
    errors
}

async fn end_all(engine: &Engine) -> Vec<EngineError> {
    let core = &engine.core;
    let sandboxes = core.sandboxes();
    let removed = join_all(sandboxes.iter().map(|sandbox| core.remove_sandbox(sandbox))).await;
    let mut errors: Vec<EngineError> = removed.into_iter().filter_map(Result::err).collect();
    let layout = &core.layout;
    if errors.is_empty() {
        errors.extend(remove_dir(&layout.sandboxes()).err());
        errors.extend(remove_dir(&layout.containers()).err());
        for directory in layout.secluded() {
            // Not recursive: what is still mounted below must not be emptied.
            let revealed = knode_linux::seclude::reveal(&directory).file("unmounting", &directory);
            errors.extend(revealed.and_then(|()| remove_empty(&directory)).err());
        }
        for directory in [layout.shims(), layout.runtime_root(), layout.execs()] {
            errors.extend(remove_dir(&directory).err());
        }
        errors.extend(remove_empty(layout.run()).err());
    }
    // Containers that named no parent lived below this group.
    if let Err(source) = core.cgroups.remove(std::path::Path::new("/knode")) {
        errors.push(EngineError::Cgroup {
            operation: "removing",
            path: "/knode".into(),
            source,
        });
    }
    errors
}

fn remove_empty(directory: &std::path::Path) -> Result<(), EngineError> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        // Other parts of the program may keep things in the runtime directory.
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.file("removing", directory),
    }
}
