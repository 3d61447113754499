//! A directory of archives, imported at start.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::import;
use crate::digest::Digest;
use crate::durable;
use crate::error::{Error, IoContext, Result};
use crate::store::Inner;

/// File names that are looked at.
const ENDINGS: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".oci"];

/// What became of one archive.
#[derive(Debug)]
pub struct DirectoryReport {
    /// The archive.
    pub path: PathBuf,
    /// Ids of its images; `None` when it was imported before and nothing had to be done.
    pub result: Result<Option<Vec<Digest>>>,
}

/// What was known of an archive when it was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Imported {
    size: u64,
    mtime: (i64, i64),
    images: Vec<Digest>,
}

pub(super) fn import(inner: &Arc<Inner>, directory: &Path) -> Result<Vec<DirectoryReport>> {
    let record = inner.layout.imported();
    // Without the record every archive is looked at again, which is slow and harmless.
    let mut known: BTreeMap<PathBuf, Imported> = durable::read_json(&record).unwrap_or_default();
    let before = known.clone();
    let archives = archives(directory)?;
    let mut reports = Vec::with_capacity(archives.len());
    for path in &archives {
        let result = import_one(inner, path, &mut known);
        reports.push(DirectoryReport {
            path: path.clone(),
            result,
        });
    }
    known.retain(|path, _| path.parent() != Some(directory) || archives.contains(path));
    if known != before {
        durable::write_json(&record, &known)?;
    }
    Ok(reports)
}

fn import_one(
    inner: &Arc<Inner>,
    path: &Path,
    known: &mut BTreeMap<PathBuf, Imported>,
) -> Result<Option<Vec<Digest>>> {
    let meta = fs::metadata(path).at("look at", path)?;
    let (size, mtime) = (meta.len(), (meta.mtime(), meta.mtime_nsec()));
    let current = known.get(path).is_some_and(|before| {
        let state = inner.state();
        before.size == size
            && before.mtime == mtime
            && before.images.iter().all(|image| state.images.contains_key(image))
    });
    if current {
        return Ok(None);
    }
    known.remove(path);
    let imported = import::import(inner, path).map_err(|source| Error::Import {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let images: Vec<Digest> = imported.into_iter().map(|image| image.id).collect();
    known.insert(
        path.to_owned(),
        Imported {
            size,
            mtime,
            images: images.clone(),
        },
    );
    Ok(Some(images))
}

fn archives(directory: &Path) -> Result<Vec<PathBuf>> {
    let names = match durable::names(directory) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let is_archive =
        |name: &String| !name.starts_with('.') && ENDINGS.iter().any(|ending| name.ends_with(ending));
    Ok(names
        .into_iter()
        .filter(is_archive)
        .map(|name| directory.join(name))
        .collect())
}
