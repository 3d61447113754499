//! What a layer takes over from the layers below it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, lsetxattr, utimensat};

use super::entry::{AtEntry, OPAQUE};
use super::{UnpackError, Unpacked};

/// Completes `tree` out of `lower` (the topmost first): directories that the archive only implied get the owner,
/// mode and times they have below, so that the layer does not change them; hard links to files of lower layers
/// become copies of those.
pub(crate) fn settle(tree: &Path, unpacked: &Unpacked, lower: &[PathBuf]) -> Result<(), UnpackError> {
    for (link, target) in &unpacked.links {
        let text = link.display().to_string();
        match find(lower, target).at(&text, "look for the link's target")? {
            Some(source) => copy(&source, &tree.join(link)).at(&text, "copy the link's target")?,
            None => {
                return Err(UnpackError::LinkTarget {
                    link: text,
                    target: target.display().to_string(),
                });
            }
        }
    }
    let implied = follow_links(tree, &unpacked.implied, lower)?;
    for dir in implied.iter().rev() {
        let text = dir.display().to_string();
        let source = find(lower, dir).at(&text, "look for the directory below")?;
        if let Some(source) = source.filter(|source| source.is_dir()) {
            copy_attributes(&source, &tree.join(dir)).at(&text, "copy the directory's attributes")?;
        }
    }
    Ok(())
}

/// Links that may follow one another before it is taken for a circle, as the kernel counts.
const LINK_LIMIT: usize = 40;

/// Where a lower layer has a symbolic link in place of an implied directory (`lib` to `usr/lib`), what lies in the
/// directory goes where the link leads, as it would if the layer were unpacked on top of the others. Answers the
/// directories that are implied then.
fn follow_links(
    tree: &Path,
    implied: &BTreeSet<PathBuf>,
    lower: &[PathBuf],
) -> Result<BTreeSet<PathBuf>, UnpackError> {
    let mut implied = implied.clone();
    for _ in 0..LINK_LIMIT {
        let Some((dir, target)) = first_link(&implied, lower)? else {
            return Ok(implied);
        };
        let text = dir.display().to_string();
        let mut path = PathBuf::new();
        for component in target.components() {
            path.push(component);
            match metadata(&tree.join(&path)).at(&text, "look where the link leads")? {
                Some(found) if found.is_dir() => {}
                Some(_) => return Err(UnpackError::ThroughLink(text)),
                None => {
                    fs::create_dir(tree.join(&path)).at(&text, "make what the link leads to")?;
                    implied.insert(path.clone());
                }
            }
        }
        merge(&tree.join(&dir), &tree.join(&target)).at(&text, "move it where the link leads")?;
        let moved = |path: PathBuf| match path.strip_prefix(&dir) {
            Ok(rest) if rest.as_os_str().is_empty() => None,
            Ok(rest) => Some(target.join(rest)),
            Err(_) => Some(path),
        };
        implied = implied.into_iter().filter_map(moved).collect();
    }
    Err(UnpackError::ThroughLink("a circle of links".to_owned()))
}

/// The first implied directory that is a link below, and where that leads.
fn first_link(
    implied: &BTreeSet<PathBuf>,
    lower: &[PathBuf],
) -> Result<Option<(PathBuf, PathBuf)>, UnpackError> {
    for dir in implied {
        let text = dir.display().to_string();
        let found = find(lower, dir).at(&text, "look for the directory below")?;
        if let Some(link) = found.filter(|found| found.is_symlink()) {
            let target = fs::read_link(link).at(&text, "read the link below")?;
            return Ok(Some((
                dir.clone(),
                resolve(dir.parent().unwrap_or(Path::new("")), &target),
            )));
        }
    }
    Ok(None)
}

/// `target` as seen from the directory `base`, never above the root.
fn resolve(base: &Path, target: &Path) -> PathBuf {
    let mut path = if target.is_absolute() {
        PathBuf::new()
    } else {
        base.to_owned()
    };
    for component in target.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path
}

/// Moves what is in `from` into `to` and removes `from`. Directories are merged, files replaced.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        let both = entry.file_type()?.is_dir() && metadata(&place)?.is_some_and(|meta| meta.is_dir());
        match both {
            true => merge(&entry.path(), &place)?,
            false => fs::rename(entry.path(), &place)?,
        }
    }
    fs::remove_dir(from)
}

/// The file at `path` as the lower layers show it together.
fn find(lower: &[PathBuf], path: &Path) -> io::Result<Option<PathBuf>> {
    for layer in lower {
        match look(layer, path)? {
            Look::Here(found) => return Ok(Some(found)),
            Look::Below => {}
            Look::Hidden => return Ok(None),
        }
    }
    Ok(None)
}

/// What one layer says of a path.
enum Look {
    Here(PathBuf),
    Below,
    Hidden,
}

fn look(layer: &Path, path: &Path) -> io::Result<Look> {
    let mut current = layer.to_owned();
    let mut opaque = false;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            continue;
        };
        current.push(name);
        let Some(meta) = metadata(&current)? else {
            return Ok(if opaque { Look::Hidden } else { Look::Below });
        };
        if meta.file_type().is_char_device() && meta.rdev() == 0 {
            return Ok(Look::Hidden);
        }
        if meta.is_dir() {
            opaque |= knode_linux::xattr::get(&current, OsStr::new(OPAQUE))?.is_some();
        } else if components.peek().is_some() {
            return Ok(Look::Hidden);
        }
    }
    Ok(Look::Here(current))
}

fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Copies a file or symbolic link with its attributes.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else {
        fs::copy(from, to)?;
    }
    copy_attributes(from, to)
}

fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(from)?;
    std::os::unix::fs::lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    if !meta.is_symlink() {
        fs::set_permissions(to, meta.permissions())?;
    }
    for (key, value) in knode_linux::xattr::all(from)? {
        if key != OPAQUE {
            lsetxattr(to, &key, &value, XattrFlags::empty())?;
        }
    }
    let time = Timespec {
        tv_sec: meta.mtime(),
        tv_nsec: meta.mtime_nsec(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
