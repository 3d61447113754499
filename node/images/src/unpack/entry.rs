//! One entry after the other into the tree.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use knode_linux::openat::RootDir;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use tar::EntryType;

use super::name::{self, Name};
use super::owner::{Attributes, set_times};
use super::sparse::{Copied, Copier};
use super::{UnpackError, Unpacked};

/// The attribute that makes a directory hide the lower ones of its name.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Hard links to lower layers that are kept in mind.
const LINK_LIMIT: usize = 100_000;

pub(super) struct Unpacker {
    root: RootDir,
    /// The directory of the last entry: archives go directory by directory.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Times of directories, set last because filling them changes them.
    directories: Vec<(PathBuf, Timespec)>,
    copier: Copier,
    /// Bytes of the file system, used and free.
    capacity: u64,
    done: Unpacked,
}

impl Unpacker {
    /// Makes the directory `tree` and starts.
    pub(super) fn new(tree: &Path) -> Result<Self, UnpackError> {
        let start = || {
            std::fs::create_dir_all(tree)?;
            std::fs::set_permissions(tree, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            let capacity = rustix::fs::statvfs(tree)?;
            Ok::<_, io::Error>((
                RootDir::open(tree)?,
                capacity.f_blocks.saturating_mul(capacity.f_frsize),
            ))
        };
        let (root, capacity) = start().at("", "make the tree")?;
        Ok(Self {
            root,
            parent: None,
            directories: Vec::new(),
            copier: Copier::default(),
            capacity,
            done: Unpacked::default(),
        })
    }

    /// Unpacks one entry.
    pub(super) fn add<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let raw = entry.path_bytes().into_owned();
        let text = String::from_utf8_lossy(&raw).into_owned();
        match name::parse(&raw)? {
            Name::Aufs => Ok(()),
            Name::Root => self.add_root(entry, &text),
            Name::Opaque(dir) => self.hide_all(&dir, &text),
            Name::Whiteout(dir, hidden) => self.hide(&dir, &hidden, &text),
            Name::File(dir, _) if dir.starts_with(".wh..wh.plnk") => Ok(()),
            Name::File(dir, file) => self.add_file(entry, kind, &dir, &file, &text),
        }
    }

    /// Sets what could only be set at the end.
    pub(super) fn finish(self) -> Result<Unpacked, UnpackError> {
        for (path, mtime) in self.directories.iter().rev() {
            let text = path.display().to_string();
            match self.root.open_dir(path) {
                Ok(dir) => set_times(dir.as_fd(), OsStr::new("."), *mtime).at(&text, "set the times")?,
                // A later entry replaced it.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) => {}
                Err(error) => return Err(error).at(&text, "open the directory"),
            }
        }
        Ok(self.done)
    }

    fn add_root<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, text: &str) -> Result<(), UnpackError> {
        let attributes = Attributes::of(entry).map_err(UnpackError::Read)?;
        attributes
            .apply(self.root.as_fd(), OsStr::new("."), false)
            .at(text, "set the attributes")?;
        self.directories.push((PathBuf::new(), attributes.mtime));
        Ok(())
    }

    fn hide_all(&mut self, dir: &Path, text: &str) -> Result<(), UnpackError> {
        if dir.as_os_str().is_empty() {
            self.done.opaque = true;
            return Ok(());
        }
        let fd = self.open_parent(dir, text)?;
        set_opaque(fd, Path::new("")).at(text, "mark the directory opaque")
    }

    fn hide(&mut self, dir: &Path, hidden: &OsStr, text: &str) -> Result<(), UnpackError> {
        let fd = self.open_parent(dir, text)?;
        match kind_of(fd, hidden).at(text, "look at the hidden file")? {
            None => mknodat(
                fd,
                hidden,
                FileType::CharacterDevice,
                Mode::empty(),
                makedev(0, 0),
            )
            .at(text, "hide it")?,
            // The layer itself has a directory of that name: only the lower one is hidden.
            Some(Kind::Directory) => {
                set_opaque(fd, Path::new(hidden)).at(text, "mark the directory opaque")?
            }
            Some(Kind::Whiteout | Kind::Other) => return Ok(()),
        }
        self.done.usage.inodes += 1;
        Ok(())
    }

    fn add_file<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        kind: EntryType,
        dir: &Path,
        file: &OsStr,
        text: &str,
    ) -> Result<(), UnpackError> {
        let attributes = Attributes::of(entry).map_err(UnpackError::Read)?;
        let replaced = self.make_room(kind, dir, file, text)?;
        if kind == EntryType::Link {
            return self.add_link(entry, dir, file, text);
        }
        let mut written = 0;
        self.open_parent(dir, text)?;
        let fd = self
            .parent
            .as_ref()
            .map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                check_size(entry.size(), self.capacity, text)?;
                written = write_file(entry, &mut self.copier, fd, file, text)?.written;
            }
            EntryType::Directory => make_directory(fd, file, replaced).at(text, "make the directory")?,
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                symlinkat(&*target, fd, file).at(text, "make the symbolic link")?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                make_device(entry, kind, fd, file).at(text, "make the device")?
            }
            other => {
                return Err(UnpackError::EntryType {
                    name: text.to_owned(),
                    kind: other.as_byte().into(),
                });
            }
        }
        attributes
            .apply(fd, file, kind == EntryType::Symlink)
            .at(text, "set the attributes")?;
        self.account(kind, written);
        if kind == EntryType::Directory {
            if !self.done.implied.is_empty() {
                let path = self.physical(dir, file).at(text, "find where it lies")?;
                self.done.implied.remove(&path);
            }
            self.directories.push((dir.join(file), attributes.mtime));
        }
        Ok(())
    }

    fn account(&mut self, kind: EntryType, written: u64) {
        let blocks = if kind == EntryType::Directory {
            1
        } else {
            written.div_ceil(4096)
        };
        self.done.usage.bytes += blocks * 4096;
        self.done.usage.inodes += 1;
    }

    /// The path of `file` in `dir` without symbolic links on the way, relative to the root.
    fn physical(&mut self, dir: &Path, file: &OsStr) -> io::Result<PathBuf> {
        let fd = self.root.open_dir(dir)?;
        Ok(place(&self.root, fd.as_fd())?.join(file))
    }

    /// Forgets what is remembered of a name and what lies below it, because something else comes there.
    fn forget(&mut self, path: &Path) {
        if self.done.links.is_empty() && self.done.implied.is_empty() {
            return;
        }
        let below = |found: &&PathBuf| found.starts_with(path);
        let from = path.to_owned();
        let implied: Vec<PathBuf> = self
            .done
            .implied
            .range(from.clone()..)
            .take_while(below)
            .cloned()
            .collect();
        for path in implied {
            self.done.implied.remove(&path);
        }
        let links: Vec<PathBuf> = self
            .done
            .links
            .range(from..)
            .map(|(link, _)| link)
            .take_while(below)
            .cloned()
            .collect();
        for link in links {
            self.done.links.remove(&link);
        }
    }

    fn add_link<R: Read>(
        &mut self,
        entry: &tar::Entry<'_, R>,
        dir: &Path,
        file: &OsStr,
        text: &str,
    ) -> Result<(), UnpackError> {
        let target = name::clean(&entry.link_name_bytes().unwrap_or_default())?;
        let (from, of) = split(&target);
        let linked = match self.root.open_dir(from) {
            Ok(source) => {
                let fd = self.open_parent(dir, text)?;
                linkat(&source, of, fd, file, AtFlags::empty()).map_err(io::Error::from)
            }
            Err(error) => Err(error),
        };
        match linked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.open_parent(dir, text)?;
                if self.done.links.len() >= LINK_LIMIT {
                    return Err(UnpackError::TooManyLinks(LINK_LIMIT));
                }
                let link = self.physical(dir, file).at(text, "find where it lies")?;
                self.done.links.insert(link, target);
                Ok(())
            }
            other => other.at(text, "make the hard link"),
        }
    }

    /// Removes what an earlier entry of the same layer left at the name, unless both are directories. Tells what
    /// was there.
    fn make_room(
        &mut self,
        kind: EntryType,
        dir: &Path,
        file: &OsStr,
        text: &str,
    ) -> Result<Option<Kind>, UnpackError> {
        let fd = self.open_parent(dir, text)?;
        let found = kind_of(fd, file).at(text, "look at what is there")?;
        if found == Some(Kind::Directory) && kind == EntryType::Directory {
            return Ok(found);
        }
        if !self.done.links.is_empty() || !self.done.implied.is_empty() {
            let path = self.physical(dir, file).at(text, "find where it lies")?;
            self.forget(&path);
        }
        let fd = self.open_parent(dir, text)?;
        match found {
            None => {}
            Some(Kind::Directory) => {
                std::fs::remove_dir_all(below(fd, file)).at(text, "replace a directory")?;
                // It may have been the directory at hand, or a link to it.
                self.parent = None;
            }
            Some(Kind::Whiteout | Kind::Other) => {
                unlinkat(fd, file, AtFlags::empty()).at(text, "replace a file")?;
                self.parent = None;
            }
        }
        Ok(found)
    }

    /// The directory `dir` of the tree, made if no entry did.
    fn open_parent(&mut self, dir: &Path, text: &str) -> Result<BorrowedFd<'_>, UnpackError> {
        let cached = matches!(&self.parent, Some((path, _)) if path == dir);
        if !cached {
            let fd = match self.root.open_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.imply(dir),
                other => other,
            };
            self.parent = Some((dir.to_owned(), fd.at(text, "open the directory that it lies in")?));
        }
        match &self.parent {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Ok(self.root.as_fd()),
        }
    }

    /// Makes the missing directories up to `dir`, and remembers that no entry described them.
    fn imply(&mut self, dir: &Path) -> io::Result<OwnedFd> {
        let mut path = PathBuf::new();
        let mut fd = self.root.open_dir(&path)?;
        for component in dir.components() {
            path.push(component);
            match self.root.open_dir(&path) {
                Ok(next) => fd = next,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let name = component.as_os_str();
                    if matches!(kind_of(fd.as_fd(), name)?, Some(Kind::Whiteout)) {
                        unlinkat(&fd, name, AtFlags::empty())?;
                    }
                    mkdirat(&fd, name, Mode::from_raw_mode(0o755))?;
                    self.account(EntryType::Directory, 0);
                    fd = self.root.open_dir(&path)?;
                    self.done.implied.insert(place(&self.root, fd.as_fd())?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(fd)
    }
}

/// What is at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Whiteout,
    Other,
}

fn kind_of(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Kind>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::CharacterDevice if stat.st_rdev == 0 => Kind::Whiteout,
            _ => Kind::Other,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Where an open directory of the tree lies, relative to the root.
fn place(root: &RootDir, dir: BorrowedFd<'_>) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let of = |fd: BorrowedFd<'_>| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let path = of(dir)?;
    let inside = path.strip_prefix(of(root.as_fd())?);
    inside
        .map(Path::to_owned)
        .map_err(|_| io::Error::other("the directory is not in the tree"))
}

/// A path to `file` in an open directory, for functions that take paths.
fn below(fd: BorrowedFd<'_>, file: &OsStr) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())).join(file)
}

fn set_opaque(dir: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    knode_linux::xattr::set_at(dir, name, OsStr::new(OPAQUE), b"y")
}

/// Makes a directory; where the layer hid the lower one before, the new one hides it by being opaque.
fn make_directory(dir: BorrowedFd<'_>, name: &OsStr, replaced: Option<Kind>) -> io::Result<()> {
    if replaced == Some(Kind::Directory) {
        return Ok(());
    }
    mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
    match replaced {
        Some(Kind::Whiteout) => set_opaque(dir, Path::new(name)),
        _ => Ok(()),
    }
}

fn make_device<R: Read>(
    entry: &tar::Entry<'_, R>,
    kind: EntryType,
    dir: BorrowedFd<'_>,
    name: &OsStr,
) -> io::Result<()> {
    let header = entry.header();
    let file_type = match kind {
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let device = match file_type {
        // Pipes have no number, and some tools leave the fields blank.
        FileType::Fifo => 0,
        _ => makedev(
            header.device_major()?.unwrap_or(0),
            header.device_minor()?.unwrap_or(0),
        ),
    };
    Ok(mknodat(dir, name, file_type, Mode::from_raw_mode(0o600), device)?)
}

/// Refuses a file that cannot fit: even its zeros would take forever to read.
fn check_size(size: u64, capacity: u64, text: &str) -> Result<(), UnpackError> {
    match size > capacity {
        true => Err(UnpackError::TooBig {
            name: text.to_owned(),
            size,
            capacity,
        }),
        false => Ok(()),
    }
}

fn write_file<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    copier: &mut Copier,
    dir: BorrowedFd<'_>,
    name: &OsStr,
    text: &str,
) -> Result<Copied, UnpackError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::from_raw_mode(0o600)).at(text, "make the file")?;
    let size = entry.size();
    let mut content = ArchiveReader {
        inner: entry,
        failed: None,
    };
    let copied = match copier.copy(&mut content, &mut File::from(fd)) {
        Ok(copied) => copied,
        Err(error) => match content.failed.take() {
            Some(reading) => return Err(UnpackError::Read(reading)),
            None => return Err(error).at(text, "write the file"),
        },
    };
    if copied.length != size {
        return Err(UnpackError::Truncated {
            name: text.to_owned(),
            found: copied.length,
            size,
        });
    }
    Ok(copied)
}

/// Tells errors of the archive from those of the disk.
struct ArchiveReader<R> {
    inner: R,
    failed: Option<io::Error>,
}

impl<R: Read> Read for ArchiveReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failed = Some(error);
            }
            kind.into()
        })
    }
}

/// The directory and last part of a clean path.
fn split(path: &Path) -> (&Path, &OsStr) {
    (
        path.parent().unwrap_or(Path::new("")),
        path.file_name().unwrap_or(OsStr::new(".")),
    )
}

/// Turns a system error into [`UnpackError::Io`].
pub(super) trait AtEntry<T> {
    fn at(self, name: &str, operation: &'static str) -> Result<T, UnpackError>;
}

impl<T, E: Into<io::Error>> AtEntry<T> for Result<T, E> {
    fn at(self, name: &str, operation: &'static str) -> Result<T, UnpackError> {
        self.map_err(|error| UnpackError::Io {
            name: name.to_owned(),
            operation,
            source: error.into(),
        })
    }
}
