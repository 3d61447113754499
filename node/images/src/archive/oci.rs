//! OCI image layouts.

use super::file::{ArchiveFile, blob_name};
use super::{ArchiveError, Described, Member};
use crate::digest::Digest;
use crate::pull::{ImageManifest, Index, Kind, ManifestError, choose};
use crate::reference::Reference;

/// The full name, as containerd and BuildKit write it.
const NAME: &str = "io.containerd.image.name";
/// The OCI specification's: a full name, or the tag alone.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The images of the layout's `index.json`.
pub(super) fn describe(file: &ArchiveFile) -> Result<Vec<Described>, ArchiveError> {
    let index: Index = match parse(&file.read("index.json".as_ref())?, "index.json")? {
        Kind::Index(index) => index,
        Kind::Image(_) => return Err(ArchiveError::NoManifest),
    };
    let mut found: Vec<Described> = Vec::new();
    let mut foreign = None;
    for entry in &index.manifests {
        let name = entry.annotations.get(NAME).cloned();
        let name = name.or_else(|| {
            entry
                .annotations
                .get(REF_NAME)
                .filter(|name| is_whole(name))
                .cloned()
        });
        match image(file, &entry.digest, Vec::new())? {
            Found::Image(manifest, manifests) => {
                let described = describe_one(file, &entry.digest, &manifest, manifests, name)?;
                merge(&mut found, described);
            }
            Found::Foreign(platforms) => foreign = Some(platforms),
            Found::Other => {}
        }
    }
    match (found.is_empty(), foreign) {
        (true, Some(_)) => Err(ArchiveError::NoPlatform(crate::pull::host_platform())),
        (true, None) => Err(ArchiveError::Empty),
        (false, _) => Ok(found),
    }
}

/// One image under several names is one image.
fn merge(found: &mut Vec<Described>, described: Described) {
    match found
        .iter_mut()
        .find(|other| other.config == described.config && other.top == described.top)
    {
        Some(other) => other.names.extend(described.names),
        None => found.push(described),
    }
}

/// A reference name that is more than a tag.
fn is_whole(name: &str) -> bool {
    name.contains(['/', ':']) && Reference::parse(name).is_ok()
}

enum Found {
    Image(ImageManifest, Vec<Vec<u8>>),
    /// An index without an image for this machine.
    Foreign(usize),
    /// No image: an artifact, a signature.
    Other,
}

fn image(file: &ArchiveFile, digest: &Digest, mut above: Vec<Vec<u8>>) -> Result<Found, ArchiveError> {
    let bytes = file.read_blob(digest)?;
    let kind = match Kind::parse(&bytes) {
        Ok(kind) => kind,
        Err(ManifestError::MediaType(_)) => return Ok(Found::Other),
        Err(source) => return Err(invalid(digest, source)),
    };
    above.push(bytes);
    match kind {
        Kind::Image(manifest) => Ok(Found::Image(manifest, above)),
        Kind::Index(index) if above.len() > 2 => Ok(Found::Foreign(index.manifests.len())),
        Kind::Index(index) => match choose(&index) {
            // Archives of one platform keep the index of all: what is not in the file is not for here.
            Some(chosen) if file.has(&blob_name(&chosen.digest).to_string_lossy()) => {
                image(file, &chosen.digest, above)
            }
            _ => Ok(Found::Foreign(index.manifests.len())),
        },
    }
}

fn describe_one(
    file: &ArchiveFile,
    top: &Digest,
    manifest: &ImageManifest,
    manifests: Vec<Vec<u8>>,
    name: Option<String>,
) -> Result<Described, ArchiveError> {
    let config = file.read_blob(&manifest.config.digest)?;
    let member = |layer: &crate::pull::Descriptor| Member {
        name: blob_name(&layer.digest),
        digest: Some(layer.digest.clone()),
    };
    Ok(Described {
        names: name.into_iter().collect(),
        config,
        manifests,
        top: Some(top.clone()),
        layers: manifest.layers.iter().map(member).collect(),
    })
}

fn parse(bytes: &[u8], member: &str) -> Result<Kind, ArchiveError> {
    Kind::parse(bytes).map_err(|source| ArchiveError::Manifest {
        member: member.to_owned(),
        source,
    })
}

fn invalid(digest: &Digest, source: ManifestError) -> ArchiveError {
    ArchiveError::Manifest {
        member: blob_name(digest).display().to_string(),
        source,
    }
}
