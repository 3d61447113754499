//! A layer's tree as an archive again: what overlayfs reads becomes what the specification says.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use tar::{Builder, EntryType, Header};

use crate::unpack::OPAQUE;

/// Writes the archive of `tree`, in the order of names.
pub(super) fn write(tree: &Path, opaque: bool, to: impl Write) -> io::Result<()> {
    let mut archive = Archive {
        builder: Builder::new(to),
        tree,
        links: BTreeMap::new(),
    };
    if opaque {
        archive.mark(Path::new(".wh..wh..opq"))?;
    }
    let mut pending = archive.children(Path::new(""))?;
    while let Some(path) = pending.pop() {
        if archive.add(&path)? {
            pending.extend(archive.children(&path)?);
        }
    }
    archive.builder.into_inner()?.flush()
}

struct Archive<'a, W: Write> {
    builder: Builder<W>,
    tree: &'a Path,
    /// Files with several names, by inode, and the first of them.
    links: BTreeMap<u64, PathBuf>,
}

impl<W: Write> Archive<'_, W> {
    /// The names in a directory, last first.
    fn children(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.tree.join(dir))? {
            names.push(dir.join(entry?.file_name()));
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(names)
    }

    /// Adds one file and tells whether it is a directory.
    fn add(&mut self, path: &Path) -> io::Result<bool> {
        let place = self.tree.join(path);
        let meta = fs::symlink_metadata(&place)?;
        let kind = meta.file_type();
        if kind.is_char_device() && meta.rdev() == 0 {
            let name = path.file_name().unwrap_or_default();
            let mut hidden = std::ffi::OsString::from(".wh.");
            hidden.push(name);
            self.mark(&path.with_file_name(hidden))?;
            return Ok(false);
        }
        // A socket is nothing without the program that made it.
        if kind.is_socket() {
            return Ok(false);
        }
        self.extensions(&place, &meta)?;
        let mut header = header(&meta);
        if !kind.is_dir()
            && meta.nlink() > 1
            && let Some(first) = self.links.get(&meta.ino())
        {
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            let first = first.clone();
            self.builder.append_link(&mut header, path, first)?;
            return Ok(false);
        }
        self.links.insert(meta.ino(), path.to_owned());
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            self.builder
                .append_link(&mut header, path, fs::read_link(&place)?)?;
        } else if kind.is_file() {
            header.set_entry_type(EntryType::Regular);
            header.set_size(meta.len());
            self.builder.append_data(&mut header, path, File::open(&place)?)?;
        } else {
            self.special(&mut header, path, &meta)?;
        }
        if kind.is_dir() && knode_linux::xattr::get(&place, OsStr::new(OPAQUE))?.is_some() {
            self.mark(&path.join(".wh..wh..opq"))?;
        }
        Ok(kind.is_dir())
    }

    fn special(&mut self, header: &mut Header, path: &Path, meta: &Metadata) -> io::Result<()> {
        let kind = meta.file_type();
        header.set_entry_type(if kind.is_dir() {
            EntryType::Directory
        } else if kind.is_char_device() {
            EntryType::Char
        } else if kind.is_block_device() {
            EntryType::Block
        } else {
            EntryType::Fifo
        });
        if kind.is_char_device() || kind.is_block_device() {
            header.set_device_major(major(meta.rdev()))?;
            header.set_device_minor(minor(meta.rdev()))?;
        }
        self.builder.append_data(header, path, io::empty())
    }

    /// What plain headers cannot say: attributes, and parts of seconds.
    fn extensions(&mut self, place: &Path, meta: &Metadata) -> io::Result<()> {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        if meta.mtime_nsec() != 0 || meta.mtime() < 0 {
            let seconds = meta.mtime() as f64 + meta.mtime_nsec() as f64 / 1e9;
            let text = match meta.mtime() < 0 {
                true => format!("{seconds:.9}"),
                false => format!("{}.{:09}", meta.mtime(), meta.mtime_nsec()),
            };
            records.push(("mtime".into(), text.into_bytes()));
        }
        for (key, value) in knode_linux::xattr::all(place)? {
            let Ok(key) = std::str::from_utf8(key.as_bytes()) else {
                continue;
            };
            if !key.starts_with("trusted.overlay.") {
                records.push((format!("SCHILY.xattr.{key}"), value));
            }
        }
        match records.is_empty() {
            true => Ok(()),
            false => self.builder.append_pax_extensions(
                records
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_slice())),
            ),
        }
    }

    /// An empty file whose name alone means something.
    fn mark(&mut self, path: &Path) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(0);
        self.builder.append_data(&mut header, path, io::empty())
    }
}

fn header(meta: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(meta.uid().into());
    header.set_gid(meta.gid().into());
    header.set_mtime(meta.mtime().try_into().unwrap_or(0));
    header.set_size(0);
    header
}
