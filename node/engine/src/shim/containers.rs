//! The containers of the pod and what the shim holds for them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::attach::Attached;
use super::log::{Log, Stream};
use super::protocol::{Exit, Running};

/// A running container.
pub(super) struct Container {
    pub(super) pid: i32,
    pub(super) started_at: i64,
    pub(super) cgroup: PathBuf,
    pub(super) exit_file: PathBuf,
    pub(super) io: Io,
}

/// The streams of a container.
pub(super) struct Io {
    pub(super) log: Log,
    /// Read end of standard output, or a duplicate of the terminal.
    pub(super) stdout: Option<File>,
    pub(super) stderr: Option<File>,
    /// Write end of standard input, or a duplicate of the terminal.
    pub(super) stdin: Option<File>,
    pub(super) terminal: Option<File>,
    pub(super) stdin_once: bool,
    /// Input taken from a client that the container has not read yet.
    pub(super) unread_input: Vec<u8>,
    pub(super) attached: Vec<Attached>,
}

/// Containers by id.
#[derive(Default)]
pub(super) struct Containers {
    pub(super) all: BTreeMap<String, Container>,
}

impl Containers {
    pub(super) fn by_pid(&self, pid: i32) -> Option<String> {
        self.all
            .iter()
            .find(|(_, container)| container.pid == pid)
            .map(|(id, _)| id.clone())
    }

    pub(super) fn list(&self) -> Vec<Running> {
        let of = |(id, container): (&String, &Container)| Running {
            container: id.clone(),
            pid: container.pid,
            started_at: container.started_at,
            exit: None,
        };
        self.all.iter().map(of).collect()
    }
}

impl Io {
    /// Reads once from an output; closes it at its end.
    pub(super) fn pump(&mut self, stream: Stream) {
        // Stopping after a few chunks lets other streams have their turn.
        for _ in 0..8 {
            if !self.pump_chunk(stream) {
                return;
            }
        }
    }

    /// Reads all that is there.
    pub(super) fn drain(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.pump_chunk(stream) {}
            self.log.finish(stream);
        }
    }

    /// False when there is nothing more for now.
    fn pump_chunk(&mut self, stream: Stream) -> bool {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(file) = slot else { return false };
        let mut chunk = [0; 16 * 1024];
        match file.read(&mut chunk) {
            Ok(count) if count > 0 => {
                self.log.feed(stream, &chunk[..count]);
                self.attached
                    .retain_mut(|client| client.output(stream, &chunk[..count]));
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // A terminal answers EIO when its last process has closed it.
            Ok(_) | Err(_) => {
                *slot = None;
                self.log.finish(stream);
                for client in &mut self.attached {
                    client.close_output(stream);
                }
                false
            }
        }
    }

    /// Gives the container the input that waits.
    pub(super) fn push_input(&mut self) {
        let Some(stdin) = &mut self.stdin else {
            self.unread_input.clear();
            return;
        };
        while !self.unread_input.is_empty() {
            match stdin.write(&self.unread_input) {
                Ok(count) => drop(self.unread_input.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.stdin = None;
                    self.unread_input.clear();
                    return;
                }
            }
        }
    }

    /// Reads input from the attached client `index`.
    pub(super) fn pull_input(&mut self, index: usize) {
        let Some(client) = self.attached.get_mut(index) else {
            return;
        };
        let Some(file) = &mut client.stdin else { return };
        let mut chunk = [0; 8 * 1024];
        match file.read(&mut chunk) {
            Ok(0) => {
                client.stdin = None;
                self.end_input();
            }
            Ok(count) => {
                self.unread_input.extend_from_slice(&chunk[..count]);
                self.push_input();
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            Err(_) => client.stdin = None,
        }
        self.attached.retain(|client| !client.is_over());
    }

    /// A client's input has ended: with `stdin_once` the container's ends too.
    fn end_input(&mut self) {
        if self.stdin_once && self.terminal.is_none() {
            self.push_input();
            self.stdin = None;
        }
    }
}

/// Writes an exit record so that it is there whole or not at all. It is on disk once the file that comes
/// back has been synchronized.
pub(super) fn record_exit(path: &std::path::Path, exit: &Exit) -> io::Result<File> {
    let text = serde_json::to_vec(exit)?;
    let partial = path.with_extension("tmp");
    let mut file = File::create(&partial)?;
    file.write_all(&text)?;
    std::fs::rename(&partial, path)?;
    Ok(file)
}
