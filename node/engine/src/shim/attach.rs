//! Clients attached to a container's streams.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use knode_linux::fds;

use super::log::Stream;
use super::protocol;

/// The pipes of one attached client.
pub(super) struct Attached {
    pub(super) stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Attached {
    /// Takes the descriptors of an attach request, in its order.
    pub(super) fn new(request: &protocol::Attach, fds: Vec<OwnedFd>) -> io::Result<Self> {
        for fd in &fds {
            fds::set_nonblocking(fd)?;
        }
        let mut files = fds.into_iter().map(File::from);
        Ok(Self {
            stdin: request.stdin.then(|| files.next()).flatten(),
            stdout: request.stdout.then(|| files.next()).flatten(),
            stderr: request.stderr.then(|| files.next()).flatten(),
        })
    }

    /// How many descriptors the request brings.
    pub(super) fn count(request: &protocol::Attach) -> usize {
        [request.stdin, request.stdout, request.stderr]
            .iter()
            .filter(|wanted| **wanted)
            .count()
    }

    /// Passes output on. A client that does not keep up with a full pipe is cut off, because neither the
    /// container nor its log may wait for it; `false` when it is over.
    pub(super) fn output(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if let Some(file) = slot
            && write_all_now(file, bytes).is_err()
        {
            *slot = None;
            return !self.is_over();
        }
        true
    }

    /// The container has closed this output.
    pub(super) fn close_output(&mut self, stream: Stream) {
        match stream {
            Stream::Stdout => self.stdout = None,
            Stream::Stderr => self.stderr = None,
        }
    }

    /// Nothing is left to copy.
    pub(super) fn is_over(&self) -> bool {
        self.stdin.is_none() && self.stdout.is_none() && self.stderr.is_none()
    }
}

fn write_all_now(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
