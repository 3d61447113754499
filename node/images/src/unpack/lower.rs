//! What a layer takes over from the layers below it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use knode_linux::openat::RootDir;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Uid, chmodat, chownat, mknodat, open, openat, symlinkat,
};

use super::entry::{AtEntry, OPAQUE};
use super::owner::set_times;
use super::{UnpackError, Unpacked, within_root};

/// Completes `tree` out of `lower` (the topmost first): directories that the archive only implied get the owner,
/// mode and times they have below, so that the layer does not change them; hard links to files of lower layers
/// become copies of those. As when unpacking, no name leads out of the tree.
pub(crate) fn settle(tree: &Path, unpacked: &Unpacked, lower: &[PathBuf]) -> Result<(), UnpackError> {
    let root = RootDir::open(tree).at("", "open the tree")?;
    for (link, target) in &unpacked.links {
        let text = link.display().to_string();
        match find(lower, target).at(&text, "look for the link's target")? {
            Some(source) => copy(&source, &root, link).at(&text, "copy the link's target")?,
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
        let Some(source) = source else { continue };
        let meta = fs::symlink_metadata(&source).at(&text, "look at the directory below")?;
        if meta.is_dir() {
            let dir = root.open_dir(dir).at(&text, "open the directory")?;
            let attributes = copy_attributes(&source, &meta, dir.as_fd(), OsStr::new("."));
            attributes.at(&text, "copy the directory's attributes")?;
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
                within_root(dir.parent().unwrap_or(Path::new("")), &target),
            )));
        }
    }
    Ok(None)
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

/// Copies a file of any kind but a directory, with its attributes, to `link` below `root`. What a later entry of the
/// layer put there stays.
fn copy(from: &Path, root: &RootDir, link: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (link.parent(), link.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = root.open_dir(parent)?;
    let meta = fs::symlink_metadata(from)?;
    match make(from, &meta, dir.as_fd(), name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => copy_attributes(from, &meta, dir.as_fd(), name),
    }
}

fn make(from: &Path, meta: &Metadata, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let kind = FileType::from_raw_mode(meta.mode());
    match kind {
        FileType::Symlink => symlinkat(fs::read_link(from)?, dir, name)?,
        FileType::RegularFile => {
            let reading = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut content = File::from(open(from, reading, Mode::empty())?);
            let writing = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut copy = File::from(openat(dir, name, writing, Mode::from_raw_mode(0o600))?);
            io::copy(&mut content, &mut copy)?;
        }
        FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        device => mknodat(dir, name, device, Mode::from_raw_mode(0o600), meta.rdev())?,
    }
    Ok(())
}

/// Copies owner, mode, attributes and times. Owner first, because changing it clears setuid and capabilities.
fn copy_attributes(from: &Path, meta: &Metadata, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !meta.is_symlink() {
        chmodat(
            dir,
            name,
            Mode::from_raw_mode(meta.mode() & 0o7777),
            AtFlags::empty(),
        )?;
    }
    for (key, value) in knode_linux::xattr::all(from)? {
        if key != OPAQUE {
            knode_linux::xattr::set_at(dir, Path::new(name), &key, &value)?;
        }
    }
    let time = Timespec {
        tv_sec: meta.mtime(),
        tv_nsec: meta.mtime_nsec(),
    };
    set_times(dir, name, time)
}
