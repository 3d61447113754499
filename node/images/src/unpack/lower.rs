//! What a layer takes over from the layers below it.

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
    for dir in unpacked.implied.iter().rev() {
        let text = dir.display().to_string();
        match find(lower, dir).at(&text, "look for the directory below")? {
            Some(source) if source.is_symlink() => return Err(UnpackError::ThroughLink(text)),
            Some(source) if source.is_dir() => {
                copy_attributes(&source, &tree.join(dir)).at(&text, "copy the directory's attributes")?;
            }
            Some(_) | None => {}
        }
    }
    Ok(())
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
