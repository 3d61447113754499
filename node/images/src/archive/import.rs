//! An archive's images into the store.

use std::path::Path;
use std::sync::Arc;

use super::file::ArchiveFile;
use super::{ArchiveError, Described, Member, docker, oci};
use crate::digest::Digest;
use crate::image::Image;
use crate::pull::diff_ids;
use crate::reference::Reference;
use crate::store::{Inner, LayerPlan, NewImage, NewLayer, SourceLayer};
use crate::unpack::{Expected, unpack};

pub(super) fn import(inner: &Arc<Inner>, path: &Path) -> Result<Vec<Image>, ArchiveError> {
    let file = ArchiveFile::open(inner, path)?;
    let images = describe(&file)?;
    images
        .into_iter()
        .map(|image| import_one(inner, &file, image))
        .collect()
}

/// Newer `docker save` archives are both kinds: the layout has the digests, the other file may have more names.
fn describe(file: &ArchiveFile) -> Result<Vec<Described>, ArchiveError> {
    match (file.has("index.json"), file.has("manifest.json")) {
        (true, true) => {
            let mut images = oci::describe(file)?;
            for named in docker::describe(file)? {
                if let Some(image) = images.iter_mut().find(|image| image.config == named.config) {
                    image.names.extend(named.names);
                }
            }
            Ok(images)
        }
        (true, false) => oci::describe(file),
        (false, true) => docker::describe(file),
        (false, false) => Err(ArchiveError::NoManifest),
    }
}

fn import_one(inner: &Arc<Inner>, file: &ArchiveFile, described: Described) -> Result<Image, ArchiveError> {
    let names = references(&described.names)?;
    let diff_ids =
        diff_ids(described.layers.len(), &described.config).map_err(|source| ArchiveError::Manifest {
            member: "configuration".to_owned(),
            source,
        })?;
    let plan = LayerPlan::new(inner, diff_ids);
    let mut layers = Vec::with_capacity(described.layers.len());
    let mut size = described.config.len() as u64;
    for ((member, diff_id), present) in described.layers.iter().zip(&plan.diff_ids).zip(&plan.present) {
        let (layer, length) = layer(inner, file, member, diff_id, *present)?;
        layers.push(layer);
        size += length;
    }
    let digests = names
        .iter()
        .filter_map(|name| described.top.as_ref().map(|top| name.with_digest(top)));
    let new = NewImage {
        size: size
            + described
                .manifests
                .iter()
                .map(|bytes| bytes.len() as u64)
                .sum::<u64>(),
        repo_digests: digests.collect(),
        repo_tags: names.iter().filter_map(Reference::tagged).collect(),
        config: described.config,
        manifests: described.manifests,
        layers,
    };
    inner
        .commit(new)
        .map_err(|error| ArchiveError::Store(Box::new(error)))
}

fn references(names: &[String]) -> Result<Vec<Reference>, ArchiveError> {
    let parse = |name: &String| {
        Reference::parse(name).map_err(|error| ArchiveError::Name(name.clone(), Box::new(error)))
    };
    names.iter().map(parse).collect()
}

/// Unpacks a layer, if it is not here yet, and tells its length in the archive.
fn layer(
    inner: &Arc<Inner>,
    file: &ArchiveFile,
    member: &Member,
    diff_id: &Digest,
    present: Option<u32>,
) -> Result<(SourceLayer, u64), ArchiveError> {
    let (content, length) = file.open_member(&member.name)?;
    if let Some(number) = present {
        return Ok((SourceLayer::Present(number), length));
    }
    let tree = inner.temporary();
    let expected = Expected {
        blob: member.digest.clone(),
        diff_id: diff_id.clone(),
    };
    let unpacked = unpack(
        std::io::BufReader::with_capacity(1 << 16, content),
        tree.path(),
        &expected,
    )
    .map_err(|source| ArchiveError::Layer {
        member: member.name.display().to_string(),
        source,
    })?;
    Ok((SourceLayer::New(NewLayer { tree, unpacked }), length))
}
