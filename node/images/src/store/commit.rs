//! Taking a new image into the store: all of it or nothing.

use std::fs;
use std::sync::Arc;

use super::state::{ImageRecord, LayerRecord, State, chain_ids};
use super::{Inner, remove};
use crate::digest::Digest;
use crate::durable::{self, TempPath};
use crate::error::{Error, IoContext, Result};
use crate::image::{ConfigBlob, Image};
use crate::unpack::{Unpacked, settle};

/// A layer unpacked to a temporary tree.
#[derive(Debug)]
pub(crate) struct NewLayer {
    pub tree: TempPath,
    pub unpacked: Unpacked,
}

/// Where a layer of a new image comes from.
#[derive(Debug)]
pub(crate) enum SourceLayer {
    /// It is in the store, and leased.
    Present(u32),
    /// It was unpacked for this image.
    New(NewLayer),
}

/// Everything that makes an image.
pub(crate) struct NewImage {
    pub config: Vec<u8>,
    pub manifests: Vec<Vec<u8>>,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub size: u64,
    pub layers: Vec<SourceLayer>,
}

/// Which layers of an image are here already. They are kept from garbage collection as long as this lives.
pub(crate) struct LayerPlan {
    inner: Arc<Inner>,
    pub diff_ids: Vec<Digest>,
    /// For each layer, lowest first, its number if it is here.
    pub present: Vec<Option<u32>>,
}

impl LayerPlan {
    pub(crate) fn new(inner: &Arc<Inner>, diff_ids: Vec<Digest>) -> Self {
        let mut state = inner.state();
        let chain = chain_ids(&diff_ids);
        let found = diff_ids
            .iter()
            .zip(&chain)
            .map(|(diff_id, chain_id)| state.find_layer(diff_id, chain_id));
        let present: Vec<Option<u32>> = found.collect();
        for number in present.iter().flatten() {
            state.lease(*number);
        }
        drop(state);
        Self {
            inner: inner.clone(),
            diff_ids,
            present,
        }
    }
}

impl Drop for LayerPlan {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        for number in self.present.iter().flatten() {
            state.release(*number);
        }
    }
}

impl Inner {
    /// Makes an image of its parts, durable when this returns. On failure nothing of it stays.
    pub(crate) fn commit(&self, new: NewImage) -> Result<Image> {
        let id = Digest::of(&new.config);
        let blob: ConfigBlob = serde_json::from_slice(&new.config).map_err(|source| Error::Record {
            path: self.layout.blob(&id),
            source,
        })?;
        if new
            .layers
            .iter()
            .any(|layer| matches!(layer, SourceLayer::New(_)))
        {
            durable::sync_file_system(self.layout.root())?;
        }
        let mut state = self.state();
        let result = self.commit_parts(&mut state, new, id, blob);
        if result.is_err() {
            // What is in the way of this too is taken away at the next start; the first error is the one to tell.
            if let Err(second) = remove::collect_blobs(self, &state) {
                tracing::warn!(
                    error = second.chain(),
                    "parts of an image stay until the next start"
                );
            }
        }
        // A second copy of layers that another pull brought first, and layers of an image that failed, are not needed.
        let doomed = remove::collect(self, &mut state);
        drop(state);
        let image = result?;
        drop(doomed?);
        Ok(image)
    }

    fn commit_parts(&self, state: &mut State, new: NewImage, id: Digest, blob: ConfigBlob) -> Result<Image> {
        let layers = self.commit_layers(state, &blob.rootfs.diff_ids, new.layers)?;
        let mut manifests = Vec::new();
        for manifest in &new.manifests {
            manifests.push(self.write_blob(manifest)?);
        }
        self.write_blob(&new.config)?;
        let image = Image {
            id,
            repo_tags: new.repo_tags,
            repo_digests: new.repo_digests,
            size: new.size,
            pinned: false,
            config: blob.config,
            diff_ids: blob.rootfs.diff_ids,
        };
        self.commit_record(
            state,
            ImageRecord {
                image,
                manifests,
                layers,
            },
        )
    }

    fn commit_record(&self, state: &mut State, record: ImageRecord) -> Result<Image> {
        let id = record.image.id.clone();
        let mut image = record.image.clone();
        for changed in state.merged(record) {
            if changed.image.id == id {
                image = changed.image.clone();
            }
            write_record(self, state, changed)?;
        }
        Ok(image)
    }

    fn commit_layers(
        &self,
        state: &mut State,
        diff_ids: &[Digest],
        layers: Vec<SourceLayer>,
    ) -> Result<Vec<u32>> {
        let chain = chain_ids(diff_ids);
        let mut numbers = Vec::with_capacity(layers.len());
        for ((layer, diff_id), chain_id) in layers.into_iter().zip(diff_ids).zip(&chain) {
            let number = match layer {
                SourceLayer::Present(number) => number,
                SourceLayer::New(new) => match state.find_layer(diff_id, chain_id) {
                    Some(number) => number,
                    None => self.commit_layer(state, new, diff_id, chain_id, &numbers)?,
                },
            };
            numbers.push(number);
        }
        Ok(numbers)
    }

    fn commit_layer(
        &self,
        state: &mut State,
        new: NewLayer,
        diff_id: &Digest,
        chain_id: &Digest,
        below: &[u32],
    ) -> Result<u32> {
        let depends = new.unpacked.depends_on_lower();
        if depends {
            let lower: Vec<_> = state
                .visible(below)
                .iter()
                .map(|number| self.layout.tree(*number))
                .collect();
            settle(new.tree.path(), &new.unpacked, &lower).map_err(|source| Error::Unpack {
                digest: diff_id.to_string(),
                source,
            })?;
            durable::sync_file_system(self.layout.root())?;
        }
        let number = state.take_layer_number();
        let tree = self.layout.tree(number);
        fs::rename(new.tree.path(), &tree).at("move to", &tree)?;
        durable::sync_dir(&self.layout.trees())?;
        let record = LayerRecord {
            number,
            diff_id: diff_id.clone(),
            chain_id: depends.then(|| chain_id.clone()),
            opaque: new.unpacked.opaque,
            usage: new.unpacked.usage,
        };
        // Without its record a tree is nobody's.
        let orphan = TempPath::new(tree);
        durable::write_json(&self.layout.layer(number), &record)?;
        orphan.keep();
        state.layers.insert(number, record);
        Ok(number)
    }

    fn write_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.layout.blob(&digest);
        if !path.exists() {
            durable::write(&path, bytes)?;
        }
        Ok(digest)
    }
}

/// Writes one image's record, on disk and then in memory.
pub(super) fn write_record(inner: &Inner, state: &mut State, record: ImageRecord) -> Result<()> {
    durable::write_json(&inner.layout.image(&record.image.id), &record)?;
    state.images.insert(record.image.id.clone(), record);
    Ok(())
}

pub(super) fn set_pinned(inner: &Inner, reference: &str, pinned: bool) -> Result<()> {
    let mut state = inner.state();
    let record = state.find(reference).cloned();
    let mut record = record.ok_or_else(|| Error::ImageNotFound(reference.to_owned()))?;
    if record.image.pinned == pinned {
        return Ok(());
    }
    record.image.pinned = pinned;
    write_record(inner, &mut state, record)
}
