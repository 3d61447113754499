//! The log file of a container.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::lines::Lines;

/// Which output a piece of text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Writes both outputs of a container to its log. Without a path it discards them.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    stdout: Lines,
    stderr: Lines,
    buffer: Vec<u8>,
    failing: bool,
}

impl Log {
    /// Opens the log for appending.
    ///
    /// # Errors
    /// Those of making the directory and opening the file.
    pub fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let file = path.as_deref().map(open).transpose()?;
        Ok(Self {
            path,
            file,
            stdout: Lines::new("stdout"),
            stderr: Lines::new("stderr"),
            buffer: Vec::new(),
            failing: false,
        })
    }

    /// Writes to a new file from now on, the old one having been renamed.
    ///
    /// # Errors
    /// Those of opening the file; the old one stays in use then.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = self.path.as_deref() {
            self.file = Some(open(path)?);
        }
        Ok(())
    }

    /// Takes what the container printed.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8]) {
        if self.file.is_none() {
            return;
        }
        let time = now();
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        lines.feed(&time, bytes, &mut self.buffer);
        self.flush();
    }

    /// One of the outputs has ended.
    pub fn finish(&mut self, stream: Stream) {
        if self.file.is_none() {
            return;
        }
        let time = now();
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        lines.finish(&time, &mut self.buffer);
        self.flush();
    }

    /// A full disk must not stop the container: lines that cannot be written are lost, and said once.
    fn flush(&mut self) {
        let Some(file) = &mut self.file else { return };
        match file.write_all(&self.buffer) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                eprintln!(
                    "writing {}: {error}",
                    self.path.as_deref().unwrap_or(Path::new("log")).display()
                );
            }
            Err(_) => {}
        }
        self.buffer.clear();
        // One long burst must not keep its memory for ever.
        self.buffer.shrink_to(4 * 1024);
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// The time as log lines carry it: RFC 3339 in UTC with nine digits.
fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_has_nine_digits_and_a_zone() {
        let time = now();
        let (seconds, fraction) = time.split_once('.').unwrap();
        assert_eq!(seconds.len(), "2026-01-02T03:04:05".len(), "{time}");
        assert_eq!(fraction.len(), 10, "{time}");
        assert!(fraction.ends_with('Z'), "{time}");
    }

    #[test]
    fn after_reopening_lines_go_to_the_new_file() {
        let directory = std::env::temp_dir().join(format!("knode-engine-log-{}", std::process::id()));
        let path = directory.join("pod/0.log");
        let mut log = Log::open(Some(path.clone())).unwrap();
        log.feed(Stream::Stdout, b"before\n");
        std::fs::rename(&path, directory.join("old.log")).unwrap();
        log.feed(Stream::Stderr, b"between\n");
        log.reopen().unwrap();
        log.feed(Stream::Stdout, b"after\n");
        let old = std::fs::read_to_string(directory.join("old.log")).unwrap();
        let new = std::fs::read_to_string(&path).unwrap();
        assert!(
            old.contains(" stdout F before\n") && old.contains(" stderr F between\n"),
            "{old}"
        );
        assert!(
            new.ends_with(" stdout F after\n") && new.lines().count() == 1,
            "{new}"
        );
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
