//! The streams of what is being started, and the socket that a terminal comes over.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use knode_linux::fds;

use super::protocol::StartContainer;

/// A socket on which a terminal will arrive.
pub(super) struct Console {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
}

impl Console {
    /// Listens in `directory`, whose path may be too long for a socket's name.
    pub(super) fn listen(directory: &Path, name: &str) -> io::Result<Self> {
        std::env::set_current_dir(directory)?;
        // What is left of an earlier attempt is in the way; mostly there is nothing.
        let _ = std::fs::remove_file(name);
        let listener = UnixListener::bind(name);
        std::env::set_current_dir("/")?;
        let listener = listener?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path: directory.join(name),
        })
    }

    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(false)?;
        let mut name = [0; 256];
        let (_, mut received) = fds::receive(&stream, &mut name)?;
        received.pop().ok_or_else(|| io::Error::other("no terminal came"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Of no use any more; its directory goes with the container at the latest.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Standard streams of a creator, which the process it makes inherits: input, output, error output.
pub(super) struct Stdio3(pub(super) [OwnedFd; 3]);

/// The other ends of them.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) stdin: Option<File>,
    pub(super) stdout: Option<File>,
    pub(super) stderr: Option<File>,
}

impl Stdio3 {
    pub(super) fn null() -> io::Result<Self> {
        Ok(Self([null()?, null()?, null()?]))
    }

    /// Of exactly three descriptors.
    pub(super) fn from_fds(fds: Vec<OwnedFd>) -> io::Result<Self> {
        let three = <[OwnedFd; 3]>::try_from(fds);
        three
            .map(Self)
            .map_err(|_| io::Error::other("a command has three streams"))
    }

    pub(super) fn for_container(start: &StartContainer) -> io::Result<(Self, Ends)> {
        if start.tty {
            return Ok((Self::null()?, Ends::default()));
        }
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        let mut ends = Ends {
            stdin: None,
            stdout: Some(File::from(OwnedFd::from(stdout))),
            stderr: Some(File::from(OwnedFd::from(stderr))),
        };
        let stdin = if start.stdin {
            let (reader, writer) = io::pipe()?;
            ends.stdin = Some(File::from(OwnedFd::from(writer)));
            reader.into()
        } else {
            null()?
        };
        for end in [&ends.stdin, &ends.stdout, &ends.stderr].into_iter().flatten() {
            fds::set_nonblocking(end)?;
        }
        Ok((Self([stdin, stdout_writer.into(), stderr_writer.into()]), ends))
    }
}

pub(super) fn null() -> io::Result<OwnedFd> {
    let file = File::options().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from)
}
