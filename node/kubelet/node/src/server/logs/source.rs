//! A log file that is written to and rotated while it is read.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use knode_linux::filewatch::FileWatch;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use super::tail::tail_start;

/// The file behind the path, and the news about its directory.
pub(super) struct LogSource {
    path: PathBuf,
    file: File,
    inode: u64,
    watch: Option<FileWatch>,
}

impl LogSource {
    /// Opens the file at the beginning of its last `tail` lines.
    pub(super) async fn open(path: &Path, tail: Option<u64>, follow: bool) -> io::Result<Self> {
        let path = tokio::fs::canonicalize(path).await.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("failed to try resolving symlinks in path {path:?}: {error}"),
            )
        })?;
        // The watch comes first: what is written between the two is read anyway.
        let watch = if follow {
            Some(watch_directory_of(&path)?)
        } else {
            None
        };
        let file = File::open(&path).await?;
        let inode = file.metadata().await?.ino();
        let mut source = Self {
            path,
            file,
            inode,
            watch,
        };
        if let Some(lines) = tail {
            source.seek_tail(lines).await?;
        }
        Ok(source)
    }

    async fn seek_tail(&mut self, lines: u64) -> io::Result<()> {
        let mut file = self.file.try_clone().await?.into_std().await;
        let start = tokio::task::spawn_blocking(move || tail_start(&mut file, lines));
        let start = start.await.map_err(io::Error::other)??;
        self.file.seek(SeekFrom::Start(start)).await.map(|_| ())
    }

    /// Reads on; 0 at the end of what there is now.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).await
    }

    /// The file that has taken this one's place, if it has been rotated away. What the writer still put into the
    /// old one is there by now, and is to be read before going over.
    pub(super) async fn successor(&self) -> io::Result<Option<File>> {
        let file = match File::open(&self.path).await {
            Ok(file) => file,
            // Between the renaming and the making of the new file there is none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((file.metadata().await?.ino() != self.inode).then_some(file))
    }

    /// Goes over to the successor.
    pub(super) async fn go_over(&mut self, successor: File) -> io::Result<()> {
        self.inode = successor.metadata().await?.ino();
        self.file = successor;
        Ok(())
    }

    /// Waits until something has happened in the directory.
    pub(super) async fn changed(&self) -> io::Result<()> {
        match &self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }
}

fn watch_directory_of(path: &Path) -> io::Result<FileWatch> {
    let watch = FileWatch::new()?;
    watch.add_directory(path.parent().unwrap_or(Path::new("/")))?;
    Ok(watch)
}
