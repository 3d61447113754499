//! The directory of configurations: reading it, and noticing that it changes.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use knode_linux::filewatch::FileWatch;

use crate::config::{ConfFile, Snapshot};

/// As go-cni: what is larger is not a configuration.
const MOST: u64 = 2 << 20;
const ENDINGS: [&str; 3] = ["conflist", "conf", "json"];

/// Reads a directory; one that is not there is empty.
pub(crate) fn read(dir: &Path) -> io::Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    for entry in entries(dir)? {
        let path = entry.path();
        if path.is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            snapshot.inner.insert(name, files(&path, &["conf"])?);
        }
    }
    snapshot.inner.retain(|_, files| !files.is_empty());
    snapshot.files = files(dir, &ENDINGS)?;
    Ok(snapshot)
}

fn entries(dir: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.collect(),
    }
}

fn files(dir: &Path, endings: &[&str]) -> io::Result<Vec<ConfFile>> {
    let paths = entries(dir)?.into_iter().map(|e| e.path());
    let ends = |path: &Path| {
        let ending = path.extension().and_then(|e| e.to_str());
        ending.is_some_and(|e| endings.contains(&e))
    };
    let wanted = paths.filter(|p| ends(p) && !p.is_dir());
    let mut found: Vec<_> = wanted
        .map(|path| ConfFile {
            content: content(&path).map_err(|e| e.to_string()),
            path,
        })
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > MOST {
        return Err(io::Error::other(format!("it has more than {MOST} bytes")));
    }
    fs::read(path)
}

/// Notices changes of a directory, which may be absent, come and go.
#[derive(Debug)]
pub(crate) struct Watcher {
    watch: FileWatch,
    dir: PathBuf,
}

/// Directories that come and go while they are being watched are looked for again this often.
const TRIES: u32 = 16;

impl Watcher {
    pub fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            watch: FileWatch::new()?,
            dir: dir.to_owned(),
        })
    }

    /// Watches the directory and those in it or, as long as it is absent, the nearest that is there; and the one above,
    /// which tells that it goes. To be called again after each change.
    pub fn arm(&self) -> io::Result<()> {
        let mut last = Ok(());
        for _ in 0..TRIES {
            let nearest = self.nearest();
            last = self.watch_around(&nearest);
            if last.is_ok() && self.nearest() == nearest {
                break;
            }
        }
        last
    }

    /// Waits for a change since the watches were armed.
    pub async fn changed(&self) -> io::Result<()> {
        self.watch.changed().await
    }

    fn nearest(&self) -> PathBuf {
        let there = self.dir.ancestors().find(|p| p.is_dir());
        there.unwrap_or(Path::new("/")).to_owned()
    }

    fn watch_around(&self, nearest: &Path) -> io::Result<()> {
        self.watch.add_directory(nearest)?;
        if let Some(above) = nearest.parent() {
            self.watch.add_directory(above)?;
        }
        if nearest == self.dir {
            for entry in entries(nearest)?.into_iter().filter(|e| e.path().is_dir()) {
                self.watch.add_directory(&entry.path())?;
            }
        }
        Ok(())
    }
}
