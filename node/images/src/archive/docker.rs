//! `docker save` archives.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::file::ArchiveFile;
use super::{ArchiveError, Described, Member};
use crate::digest::Digest;
use crate::pull::ManifestError;

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: PathBuf,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<PathBuf>,
}

/// The images of the archive's `manifest.json`.
pub(super) fn describe(file: &ArchiveFile) -> Result<Vec<Described>, ArchiveError> {
    let bytes = file.read(Path::new("manifest.json"))?;
    let entries: Vec<Entry> = serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Manifest {
        member: "manifest.json".to_owned(),
        source: ManifestError::Json {
            what: "manifest",
            source,
        },
    })?;
    if entries.is_empty() {
        return Err(ArchiveError::Empty);
    }
    entries
        .into_iter()
        .map(|entry| describe_one(file, entry))
        .collect()
}

fn describe_one(file: &ArchiveFile, entry: Entry) -> Result<Described, ArchiveError> {
    let config = file.read(&entry.config)?;
    if let Some(promised) = promised(&entry.config) {
        let found = Digest::of(&config);
        if found != promised {
            return Err(ArchiveError::Digest {
                member: entry.config.display().to_string(),
                found,
            });
        }
    }
    let member = |name: PathBuf| Member {
        digest: blob_digest(&name),
        name,
    };
    Ok(Described {
        names: entry.repo_tags.unwrap_or_default(),
        config,
        manifests: Vec::new(),
        top: None,
        layers: entry.layers.into_iter().map(member).collect(),
    })
}

/// The digest in a configuration's name: `HEX.json` or `blobs/sha256/HEX`.
fn promised(name: &Path) -> Option<Digest> {
    Digest::parse(&format!("sha256:{}", name.file_stem()?.to_str()?))
}

/// The digest in a layer's name, where it is a blob; `HEX/layer.tar` names something else.
fn blob_digest(name: &Path) -> Option<Digest> {
    let hex = name.strip_prefix("blobs/sha256").ok()?.to_str()?;
    Digest::parse(&format!("sha256:{hex}"))
}
