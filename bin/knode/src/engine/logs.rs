//! `logs`: the file that the engine writes, read as the kubelet reads it.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use futures::StreamExt;
use knode_cri::client::RemoteRuntime;
use knode_cri::{
    ContainerEventType, ContainerState, ContainerStatus, ContainerStatusRequest, RuntimeService,
};
use knode_linux::filewatch::FileWatch;

use super::cli::Place;
use super::find;

/// What is wanted of a log.
pub struct Wish {
    pub follow: bool,
    pub tail: Option<usize>,
    pub timestamps: bool,
}

pub async fn run(place: &Place, word: &str, wish: &Wish) -> anyhow::Result<()> {
    let engine = find::engine(place).await?;
    let id = find::container(&engine, word).await?.id;
    let status = status(&engine, &id).await?;
    ensure!(!status.log_path.is_empty(), "container {id} has no log");
    let path = PathBuf::from(&status.log_path);
    let mut log = Log::open(&path, wish)?;
    if wish.follow && status.state() != ContainerState::ContainerExited {
        follow(&engine, &id, &path, &mut log).await?;
    }
    log.print()
}

async fn status(engine: &RemoteRuntime, id: &str) -> anyhow::Result<ContainerStatus> {
    let request = ContainerStatusRequest {
        container_id: id.to_owned(),
        verbose: false,
    };
    let answer = engine
        .container_status(request)
        .await
        .context("look at the container")?;
    answer.status.context("the engine gave no status")
}

/// Prints what comes until the container has ended.
async fn follow(engine: &RemoteRuntime, id: &str, path: &Path, log: &mut Log) -> anyhow::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let changes = FileWatch::new().context("watch files")?;
    changes
        .add_directory(directory)
        .with_context(|| format!("watch {}", directory.display()))?;
    let mut events = engine.container_events().await.context("hear of its end")?;
    // It may have ended before anybody listened.
    if status(engine, id).await?.state() == ContainerState::ContainerExited {
        return Ok(());
    }
    loop {
        log.print()?;
        log.reopen_if_rotated(path)?;
        tokio::select! {
            changed = changes.changed() => changed.context("watch files")?,
            event = events.next() => match event {
                Some(Ok(event)) if event.container_id != id => {}
                Some(Ok(event)) if event.container_event_type() == ContainerEventType::ContainerStoppedEvent => {
                    return Ok(());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("hear of its end"),
                None => anyhow::bail!("the engine has ended"),
            },
        }
    }
}

/// A log that is being read.
struct Log {
    reader: BufReader<File>,
    /// The beginning of a line whose end is not written yet.
    begun: String,
    timestamps: bool,
}

impl Log {
    fn open(path: &Path, wish: &Wish) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("open the log {}", path.display()))?;
        let mut log = Self {
            reader: BufReader::new(file),
            begun: String::new(),
            timestamps: wish.timestamps,
        };
        if let Some(lines) = wish.tail {
            log.skip_to(lines)
                .with_context(|| format!("read the log {}", path.display()))?;
        }
        Ok(log)
    }

    /// Goes to where so many lines are left.
    fn skip_to(&mut self, lines: usize) -> std::io::Result<()> {
        let mut starts = std::collections::VecDeque::from([0]);
        let mut at = 0;
        let mut line = Vec::new();
        while self.reader.read_until(b'\n', &mut line)? > 0 {
            at += line.len() as u64;
            // A line in parts counts once.
            if !is_partial(&line) {
                starts.push_back(at);
            }
            line.clear();
            while starts.len() > lines + 1 {
                starts.pop_front();
            }
        }
        let start = if lines == 0 {
            at
        } else {
            starts.front().copied().unwrap_or(0)
        };
        self.reader.seek(SeekFrom::Start(start)).map(drop)
    }

    /// Prints what is there.
    fn print(&mut self) -> anyhow::Result<()> {
        let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
        while self.reader.read_line(&mut self.begun).context("read the log")? > 0 {
            if !self.begun.ends_with('\n') {
                break;
            }
            let line = std::mem::take(&mut self.begun);
            let Some(entry) = parse(line.trim_end_matches('\n')) else {
                continue;
            };
            let written = match entry.stderr {
                true => entry.write(&mut err, self.timestamps),
                false => entry.write(&mut out, self.timestamps),
            };
            written.context("print")?;
        }
        out.flush().context("print")
    }

    /// A log that was renamed has a successor of the same name.
    fn reopen_if_rotated(&mut self, path: &Path) -> anyhow::Result<()> {
        let Ok(now) = std::fs::metadata(path) else {
            return Ok(());
        };
        let open = self.reader.get_ref().metadata().context("look at the log")?;
        if now.ino() != open.ino() {
            self.print()?;
            let file = File::open(path).with_context(|| format!("open the log {}", path.display()))?;
            self.reader = BufReader::new(file);
            self.begun.clear();
            self.print()?;
        }
        Ok(())
    }
}

/// A line of a log as CRI has it: time, stream, whether it is whole, text.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    time: &'a str,
    stderr: bool,
    partial: bool,
    text: &'a str,
}

impl Entry<'_> {
    fn write(&self, to: &mut impl Write, timestamps: bool) -> std::io::Result<()> {
        if timestamps {
            write!(to, "{} ", self.time)?;
        }
        to.write_all(self.text.as_bytes())?;
        if self.partial { Ok(()) } else { to.write_all(b"\n") }
    }
}

fn parse(line: &str) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, ' ');
    let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Entry {
        time,
        stderr: stream == "stderr",
        partial: tag.split(':').next() == Some("P"),
        text: parts.next().unwrap_or_default(),
    })
}

fn is_partial(line: &[u8]) -> bool {
    parse(&String::from_utf8_lossy(line)).is_some_and(|entry| entry.partial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let whole = parse("2026-01-02T03:04:05.6Z stdout F a b  c").unwrap();
        assert_eq!(
            (whole.text, whole.stderr, whole.partial),
            ("a b  c", false, false)
        );
        let part = parse("2026-01-02T03:04:05.6Z stderr P begun").unwrap();
        assert_eq!((part.text, part.stderr, part.partial), ("begun", true, true));
        assert_eq!(parse("2026-01-02T03:04:05.6Z stdout F").unwrap().text, "");
        assert_eq!(parse("torn"), None);
        let mut written = Vec::new();
        part.write(&mut written, false).unwrap();
        whole.write(&mut written, true).unwrap();
        assert_eq!(written, b"begun2026-01-02T03:04:05.6Z a b  c\n");
    }

    #[test]
    fn the_tail_counts_whole_lines() {
        let path = std::env::temp_dir().join(format!("knode-tail-{}.log", std::process::id()));
        std::fs::write(&path, "t stdout F 1\nt stdout P 2\nt stdout F b\nt stdout F 3\n").unwrap();
        let left = |lines| {
            let wish = Wish {
                follow: false,
                tail: Some(lines),
                timestamps: false,
            };
            let mut log = Log::open(&path, &wish).unwrap();
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut log.reader, &mut rest).unwrap();
            rest.lines().count()
        };
        assert_eq!([left(0), left(1), left(2), left(9)], [0, 1, 3, 4]);
        std::fs::remove_file(path).unwrap();
    }
}
