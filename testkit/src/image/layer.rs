//! One layer: a tar archive put together entry by entry.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tar::{EntryType, Header};

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

impl Compression {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Compresses some bytes.
    ///
    /// # Panics
    /// Never for bytes in memory.
    pub fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                let done = encoder.write_all(bytes).and_then(|()| encoder.finish());
                done.unwrap_or_else(|error| panic!("gzip in memory: {error}"))
            }
            Self::Zstd => {
                zstd::encode_all(bytes, 1).unwrap_or_else(|error| panic!("zstd in memory: {error}"))
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Item {
    name: Vec<u8>,
    header: Header,
    link: Option<Vec<u8>>,
    extensions: Vec<(String, Vec<u8>)>,
    content: Vec<u8>,
}

/// A layer. Names are taken as they come, bad ones too: refusing those is what is tested.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    items: Vec<Item>,
    without_trailer: bool,
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory.
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.push(name, EntryType::Directory, mode, None, Vec::new())
    }

    /// A regular file.
    pub fn file(self, name: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.push(name, EntryType::Regular, mode, None, content.into())
    }

    /// A symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.push(name, EntryType::Symlink, 0o777, Some(target), Vec::new())
    }

    /// A hard link to a name of this layer.
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.push(name, EntryType::Link, 0o644, Some(target), Vec::new())
    }

    /// A character device.
    pub fn char_device(mut self, name: &str, major: u32, minor: u32) -> Self {
        self = self.push(name, EntryType::Char, 0o666, None, Vec::new());
        self.last(|item| {
            let set = item
                .header
                .set_device_major(major)
                .and_then(|()| item.header.set_device_minor(minor));
            set.unwrap_or_else(|error| panic!("a device number does not fit: {error}"));
        })
    }

    /// A named pipe.
    pub fn fifo(self, name: &str) -> Self {
        self.push(name, EntryType::Fifo, 0o600, None, Vec::new())
    }

    /// Hides a file of lower layers.
    pub fn whiteout(self, name: &str) -> Self {
        let (dir, file) = name
            .rsplit_once('/')
            .map_or(("", name), |(dir, file)| (dir, file));
        let hidden = if dir.is_empty() {
            format!(".wh.{file}")
        } else {
            format!("{dir}/.wh.{file}")
        };
        self.file(&hidden, 0, "")
    }

    /// Hides what lower layers have in a directory; `""` hides all of them.
    pub fn opaque(self, dir: &str) -> Self {
        let name = if dir.is_empty() {
            ".wh..wh..opq".to_owned()
        } else {
            format!("{dir}/.wh..wh..opq")
        };
        self.file(&name, 0, "")
    }

    /// Changes owner and group of the last entry.
    pub fn owner(self, uid: u64, gid: u64) -> Self {
        self.last(|item| {
            item.header.set_uid(uid);
            item.header.set_gid(gid);
        })
    }

    /// Changes the time of the last entry, seconds since 1970.
    pub fn mtime(self, seconds: u64) -> Self {
        self.last(|item| item.header.set_mtime(seconds))
    }

    /// Gives the last entry an extended attribute.
    pub fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.extension(&format!("SCHILY.xattr.{name}"), value)
    }

    /// Gives the last entry a pax extension.
    pub fn extension(self, key: &str, value: &[u8]) -> Self {
        self.last(|item| item.extensions.push((key.to_owned(), value.to_owned())))
    }

    /// A file of this machine, links followed, with its mode.
    ///
    /// # Panics
    /// When it cannot be read.
    #[track_caller]
    pub fn host_file(self, host: impl AsRef<Path>, name: &str) -> Self {
        let host = host.as_ref();
        let read = || Ok::<_, std::io::Error>((fs::metadata(host)?.mode() & 0o7777, fs::read(host)?));
        let (mode, content) =
            read().unwrap_or_else(|error| panic!("cannot read {}: {error}", host.display()));
        self.file(name, mode, content)
    }

    /// A directory of this machine with all below it.
    ///
    /// # Panics
    /// When something cannot be read.
    #[track_caller]
    pub fn host_tree(mut self, host: impl AsRef<Path>, name: &str) -> Self {
        let host = host.as_ref();
        let fail = |error: std::io::Error| -> ! { panic!("cannot read {}: {error}", host.display()) };
        let meta = fs::symlink_metadata(host).unwrap_or_else(|error| fail(error));
        if meta.is_symlink() {
            let target = fs::read_link(host).unwrap_or_else(|error| fail(error));
            return self.symlink(name, &target.to_string_lossy());
        }
        if !meta.is_dir() {
            return self.host_file(host, name);
        }
        self = self.dir(name, meta.mode() & 0o7777);
        let entries = fs::read_dir(host).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = entries.unwrap_or_else(|error| fail(error));
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            self = self.host_tree(
                entry.path(),
                &format!("{name}/{}", entry.file_name().to_string_lossy()),
            );
        }
        self
    }

    /// Leaves out the zero blocks at the end, as some tools do.
    pub fn without_trailer(mut self) -> Self {
        self.without_trailer = true;
        self
    }

    /// The tar archive.
    ///
    /// # Panics
    /// Never for archives in memory.
    pub fn bytes(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let write = || -> std::io::Result<Vec<u8>> {
            for item in &self.items {
                append(&mut builder, item)?;
            }
            builder.into_inner()
        };
        let mut bytes = write_all(write);
        if self.without_trailer {
            bytes.truncate(bytes.len() - 1024);
        }
        bytes
    }

    fn push(mut self, name: &str, kind: EntryType, mode: u32, link: Option<&str>, content: Vec<u8>) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_767_225_600);
        header.set_size(content.len() as u64);
        let link = link.map(|link| link.as_bytes().to_vec());
        self.items.push(Item {
            name: name.as_bytes().to_vec(),
            header,
            link,
            extensions: Vec::new(),
            content,
        });
        self
    }

    fn last(mut self, change: impl FnOnce(&mut Item)) -> Self {
        match self.items.last_mut() {
            Some(item) => change(item),
            None => panic!("there is no entry to change yet"),
        }
        self
    }
}

fn write_all(write: impl FnOnce() -> std::io::Result<Vec<u8>>) -> Vec<u8> {
    write().unwrap_or_else(|error| panic!("tar in memory: {error}"))
}

/// Names go in by hand: the builder would refuse those that lead out.
fn append(builder: &mut tar::Builder<Vec<u8>>, item: &Item) -> std::io::Result<()> {
    let mut extensions = item.extensions.clone();
    let mut header = item.header.clone();
    let old = header.as_old_mut();
    match item.name.len() < old.name.len() {
        true => old.name[..item.name.len()].copy_from_slice(&item.name),
        false => extensions.push(("path".to_owned(), item.name.clone())),
    }
    if let Some(link) = &item.link {
        match link.len() < old.linkname.len() {
            true => old.linkname[..link.len()].copy_from_slice(link),
            false => extensions.push(("linkpath".to_owned(), link.clone())),
        }
    }
    header.set_cksum();
    builder.append_pax_extensions(
        extensions
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice())),
    )?;
    builder.append(&header, item.content.as_slice())
}
