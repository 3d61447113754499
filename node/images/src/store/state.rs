//! The store's records in memory, and every decision on them. No I/O here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::image::{Image, Usage};
use crate::reference::{Reference, is_hex};

/// What `images/HEX.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub image: Image,
    /// Digests of manifests that led here; their blobs are kept as long as the image is.
    pub manifests: Vec<Digest>,
    /// Layers, lowest first.
    pub layers: Vec<u32>,
}

/// What `layers/N.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub number: u32,
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Set when the tree depends on the layers below: the chain id, which then identifies it.
    pub chain_id: Option<Digest>,
    /// The layer hides everything below it.
    pub opaque: bool,
    pub usage: Usage,
}

/// What `snapshots/KEY.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    pub key: String,
    pub image: Digest,
    /// Layers, lowest first.
    pub layers: Vec<u32>,
    /// It shows the image and takes no writes.
    #[serde(default)]
    pub read_only: bool,
}

/// All records.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub images: BTreeMap<Digest, ImageRecord>,
    pub layers: BTreeMap<u32, LayerRecord>,
    pub snapshots: BTreeMap<String, SnapshotRecord>,
    /// Layers that an operation under way counts on, with the number of such operations.
    leases: BTreeMap<u32, usize>,
    next_layer: u32,
}

impl State {
    /// A number that no layer has had since the store was opened.
    pub(crate) fn take_layer_number(&mut self) -> u32 {
        let highest = self.layers.keys().next_back().copied().unwrap_or(0);
        self.next_layer = self.next_layer.max(highest) + 1;
        self.next_layer
    }

    /// Goes on with higher numbers, for tests of long names.
    #[cfg(test)]
    pub(crate) fn skip_layer_numbers(&mut self, to: u32) {
        self.next_layer = to;
    }

    /// The layer with this content, if it is here.
    pub(crate) fn find_layer(&self, diff_id: &Digest, chain_id: &Digest) -> Option<u32> {
        let same = |layer: &&LayerRecord| {
            layer.diff_id == *diff_id && layer.chain_id.as_ref().is_none_or(|chain| chain == chain_id)
        };
        self.layers.values().find(same).map(|layer| layer.number)
    }

    /// Keeps a layer from garbage collection until [`State::release`].
    pub(crate) fn lease(&mut self, layer: u32) {
        *self.leases.entry(layer).or_default() += 1;
    }

    /// Ends one [`State::lease`].
    pub(crate) fn release(&mut self, layer: u32) {
        if let Some(count) = self.leases.get_mut(&layer) {
            *count -= 1;
            if *count == 0 {
                self.leases.remove(&layer);
            }
        }
    }

    /// The image that `reference` names: by id (whole or the start of it), tag or digest.
    pub(crate) fn find(&self, reference: &str) -> Option<&ImageRecord> {
        if let Some(id) = Digest::parse(reference) {
            return self.images.get(&id);
        }
        let by_name = Reference::parse(reference)
            .ok()
            .and_then(|reference| self.find_named(&reference));
        by_name.or_else(|| self.find_prefix(reference))
    }

    fn find_named(&self, reference: &Reference) -> Option<&ImageRecord> {
        let holds = |record: &&ImageRecord| match (&reference.digest, reference.tagged()) {
            (Some(digest), _) => record.image.repo_digests.contains(&reference.with_digest(digest)),
            (None, Some(tag)) => record.image.repo_tags.contains(&tag),
            (None, None) => false,
        };
        self.images.values().find(holds)
    }

    fn find_prefix(&self, prefix: &str) -> Option<&ImageRecord> {
        let hex = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        if hex.is_empty() || !is_hex(hex) {
            return None;
        }
        let mut matching = self
            .images
            .values()
            .filter(|record| record.image.id.hex().starts_with(hex));
        let first = matching.next()?;
        matching.next().is_none().then_some(first)
    }

    /// The records that change when `record` comes in: tags move to it from the images that had them, and what an
    /// earlier record of the same image knew is kept.
    pub(crate) fn merged(&self, mut record: ImageRecord) -> Vec<ImageRecord> {
        let mut changed = Vec::new();
        for other in self
            .images
            .values()
            .filter(|other| other.image.id != record.image.id)
        {
            let mut other = other.clone();
            let before = other.image.repo_tags.len();
            other
                .image
                .repo_tags
                .retain(|tag| !record.image.repo_tags.contains(tag));
            if other.image.repo_tags.len() != before {
                changed.push(other);
            }
        }
        if let Some(old) = self.images.get(&record.image.id) {
            record.image.repo_tags.extend(old.image.repo_tags.iter().cloned());
            record
                .image
                .repo_digests
                .extend(old.image.repo_digests.iter().cloned());
            record.manifests.extend(old.manifests.iter().cloned());
            record.image.pinned |= old.image.pinned;
            record.layers.clone_from(&old.layers);
        }
        for list in [&mut record.image.repo_tags, &mut record.image.repo_digests] {
            list.sort_unstable();
            list.dedup();
        }
        record.manifests.sort_unstable();
        record.manifests.dedup();
        changed.push(record);
        changed
    }

    /// Layers that nothing refers to.
    pub(crate) fn unused_layers(&self) -> Vec<u32> {
        let by_image = self.images.values().flat_map(|record| &record.layers);
        let by_snapshot = self.snapshots.values().flat_map(|record| &record.layers);
        let used: BTreeSet<u32> = by_image
            .chain(by_snapshot)
            .chain(self.leases.keys())
            .copied()
            .collect();
        self.layers
            .keys()
            .copied()
            .filter(|number| !used.contains(number))
            .collect()
    }

    /// Blobs that records refer to.
    pub(crate) fn used_blobs(&self) -> BTreeSet<&Digest> {
        self.images
            .values()
            .flat_map(|record| record.manifests.iter().chain([&record.image.id]))
            .collect()
    }

    /// What the layers of all images take.
    pub(crate) fn layer_usage(&self) -> Usage {
        let mut sum = Usage::default();
        for layer in self.layers.values() {
            sum += layer.usage;
        }
        sum
    }

    /// The layers that a mount of `layers` (lowest first) shows, the topmost first: none below an opaque one, and
    /// each once, as overlayfs demands; what a second appearance further down holds, the first shows.
    pub(crate) fn visible(&self, layers: &[u32]) -> Vec<u32> {
        let mut visible = Vec::with_capacity(layers.len());
        for number in layers.iter().rev() {
            if !visible.contains(number) {
                visible.push(*number);
            }
            if self.layers.get(number).is_some_and(|layer| layer.opaque) {
                break;
            }
        }
        visible
    }
}

/// The chain ids of a list of layers, as the OCI image specification computes them.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}
