//! Taking images, layers and blobs away.

use super::layout::Layout;
use super::state::{ImageRecord, State};
use super::{Inner, commit};
use crate::digest::Digest;
use crate::durable::{self, TempPath};
use crate::error::{IoContext, Result};
use crate::reference::Reference;

pub(super) fn remove(inner: &Inner, reference: &str) -> Result<()> {
    let mut state = inner.state();
    let Some(record) = state.find(reference).cloned() else {
        return Ok(());
    };
    match without_name(&record, reference) {
        Some(rest) => commit::write_record(inner, &mut state, rest),
        None => {
            remove_record(inner, &mut state, &record.image.id)?;
            let doomed = collect(inner, &mut state)?;
            collect_blobs(inner, &state)?;
            drop(state);
            drop(doomed);
            Ok(())
        }
    }
}

/// The record with one name less, or `None` when the image itself goes: asked for by id, or its last name.
fn without_name(record: &ImageRecord, reference: &str) -> Option<ImageRecord> {
    let name = Digest::parse(reference)
        .is_none()
        .then(|| Reference::parse(reference).ok())??;
    let mut rest = record.clone();
    match name.tagged() {
        Some(tag) => {
            let held = rest.image.repo_tags.iter().position(|held| *held == tag)?;
            rest.image.repo_tags.remove(held);
        }
        None => {
            let digest = name.with_digest(name.digest.as_ref()?);
            let held = rest.image.repo_digests.iter().position(|held| *held == digest)?;
            rest.image.repo_digests.remove(held);
        }
    }
    let named =
        !rest.image.repo_tags.is_empty() || (name.tagged().is_none() && !rest.image.repo_digests.is_empty());
    named.then_some(rest)
}

fn remove_record(inner: &Inner, state: &mut State, id: &Digest) -> Result<()> {
    durable::remove(&inner.layout.image(id))?;
    durable::sync_dir(&inner.layout.images())?;
    state.images.remove(id);
    Ok(())
}

/// Forgets the layers that nothing refers to and moves their trees away, so that a crash leaves none half. The
/// trees go when the answer is dropped, best after the lock.
pub(crate) fn collect(inner: &Inner, state: &mut State) -> Result<Vec<TempPath>> {
    let mut trees = Vec::new();
    for number in state.unused_layers() {
        durable::remove(&inner.layout.layer(number))?;
        state.layers.remove(&number);
        let doomed = inner.temporary();
        let tree = inner.layout.tree(number);
        std::fs::rename(&tree, doomed.path()).at("move away", &tree)?;
        trees.push(doomed);
    }
    Ok(trees)
}

/// Removes the blobs that no image refers to.
pub(super) fn collect_blobs(inner: &Inner, state: &State) -> Result<()> {
    let used = state.used_blobs();
    let blobs = inner.layout.blobs();
    for name in durable::names(&blobs)? {
        let digest = Digest::parse(&format!("sha256:{name}"));
        if !digest.is_some_and(|digest| used.contains(&digest)) {
            durable::remove(&blobs.join(name))?;
        }
    }
    Ok(())
}

/// Unmounts and removes the directories of a snapshot.
pub(crate) fn remove_snapshot_dir(layout: &Layout, key: &str) -> Result<()> {
    let dir = layout.snapshot_dir(key);
    let rootfs = dir.join(crate::snapshot::ROOTFS);
    knode_linux::overlay::unmount_all(&rootfs).at("unmount", &rootfs)?;
    durable::remove(&dir)
}
