//! Opening a store and clearing what a crash left in it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use knode_linux::sync::Lock;
use serde::de::DeserializeOwned;

use super::layout::{FORMAT, Layout};
use super::state::{ImageRecord, LayerRecord, SnapshotRecord, State};
use super::{Inner, StoreConfig, remove};
use crate::durable;
use crate::error::{Error, IoContext, Result};
use crate::pull::{PullTable, Pulls};

pub(super) fn open(config: StoreConfig) -> Result<Inner> {
    let layout = Layout::new(config.root);
    fs::create_dir_all(layout.root()).at("make", layout.root())?;
    // Set-user-id programs of images are not for the users of the machine.
    fs::set_permissions(layout.root(), fs::Permissions::from_mode(0o700)).at("protect", layout.root())?;
    for directory in layout.directories() {
        fs::create_dir_all(&directory).at("make", &directory)?;
    }
    let lock = lock(&layout)?;
    check_format(&layout)?;
    clear_temporary(&layout)?;
    let state = load(&layout)?;
    let inner = Inner {
        layout,
        registries: config.registries,
        joined: PullTable::default(),
        pulls: Pulls::default(),
        state: Mutex::new(state),
        next_temporary: AtomicU64::new(0),
        _lock: lock,
    };
    drop(remove::collect(&inner, &mut inner.state())?);
    remove::collect_blobs(&inner, &inner.state())?;
    Ok(inner)
}

fn lock(layout: &Layout) -> Result<Lock> {
    let path = layout.lock();
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .at("open", &path)?;
    let lock = Lock::take(file).at("lock", &path)?;
    lock.ok_or_else(|| Error::InUse(layout.root().to_owned()))
}

fn check_format(layout: &Layout) -> Result<()> {
    let path = layout.format();
    match fs::read_to_string(&path) {
        Ok(found) if found.trim() == FORMAT => Ok(()),
        Ok(found) => Err(Error::Format {
            path: layout.root().to_owned(),
            found: found.trim().to_owned(),
            expected: FORMAT,
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => durable::write(&path, FORMAT.as_bytes()),
        Err(error) => Err(error).at("read", &path),
    }
}

fn clear_temporary(layout: &Layout) -> Result<()> {
    let tmp = layout.tmp();
    for name in durable::names(&tmp)? {
        durable::remove(&tmp.join(name))?;
    }
    Ok(())
}

fn load(layout: &Layout) -> Result<State> {
    let mut state = State::default();
    for layer in records::<LayerRecord>(&layout.layers())? {
        if layout.tree(layer.number).is_dir() {
            state.layers.insert(layer.number, layer);
        } else {
            durable::remove(&layout.layer(layer.number))?;
        }
    }
    for record in records::<ImageRecord>(&layout.images())? {
        if record.layers.iter().all(|layer| state.layers.contains_key(layer))
            && layout.blob(&record.image.id).exists()
        {
            state.images.insert(record.image.id.clone(), record);
        } else {
            tracing::warn!(image = %record.image.id, "parts of this image are missing; it is forgotten");
            durable::remove(&layout.image(&record.image.id))?;
        }
    }
    for record in records::<SnapshotRecord>(&layout.snapshots())? {
        state.snapshots.insert(record.key.clone(), record);
    }
    remove_orphans(layout, &state)?;
    Ok(state)
}

/// Directories without a record are what a crash left between a rename and the record.
fn remove_orphans(layout: &Layout, state: &State) -> Result<()> {
    for name in durable::names(&layout.trees())? {
        let known = name
            .parse::<u32>()
            .is_ok_and(|number| state.layers.contains_key(&number));
        if !known {
            durable::remove(&layout.trees().join(name))?;
        }
    }
    for name in durable::names(&layout.snapshot_dirs())? {
        if !state.snapshots.contains_key(&name) {
            remove::remove_snapshot_dir(layout, &name)?;
        }
    }
    Ok(())
}

/// The readable records of a directory. A damaged one is logged and removed: what it described can be made again.
fn records<T: DeserializeOwned>(directory: &Path) -> Result<Vec<T>> {
    let mut found = Vec::new();
    for name in durable::names(directory)? {
        let path = directory.join(&name);
        match name.ends_with(".json").then(|| durable::read_json(&path)) {
            Some(Ok(record)) => found.push(record),
            Some(Err(error @ Error::Record { .. })) => {
                tracing::warn!(error = error.chain(), "a record that cannot be read is removed");
                durable::remove(&path)?;
            }
            Some(Err(error)) => return Err(error),
            None => durable::remove(&path)?,
        }
    }
    Ok(found)
}
