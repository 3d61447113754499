//! The one wait of a shim and what follows from it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use knode_linux::memory;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Shim;
use super::log::Stream;
use crate::crash;

/// How long after work has come memory is given back.
const REST_AFTER: Duration = Duration::from_secs(5);

/// What a descriptor stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Listener,
    Signals,
    Peer { id: u64 },
    Status { launch: usize },
    Console { launch: usize },
    Output { container: String, stream: Stream },
    Input { container: String },
    Client { container: String, index: usize },
}

impl Shim {
    pub(super) fn serve(&mut self) -> io::Result<()> {
        while !self.ending {
            let mut rest_at = self.rest_at;
            let ready = self.wait(&mut rest_at)?;
            self.rest_at = rest_at;
            // Launches are removed as they finish: later ones first keeps the numbers right.
            for (source, flags) in ready.into_iter().rev() {
                self.step(source, flags);
            }
            self.end_if_idle();
        }
        self.peers.flush_all();
        Ok(())
    }

    /// There is work, after which memory may be given back. Output is none: containers that talk all the time need the
    /// same little memory all the time.
    pub(super) fn work_came(&mut self) {
        self.rest_at.get_or_insert_with(|| Instant::now() + REST_AFTER);
    }

    fn step(&mut self, source: Source, flags: PollFlags) {
        if !matches!(source, Source::Output { .. }) {
            self.work_came();
        }
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.signals_came(),
            Source::Peer { id } => {
                if flags.contains(PollFlags::POLLOUT) {
                    self.peers.flush(id);
                }
                if flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                    for received in self.peers.read(id) {
                        self.handle(received);
                    }
                }
            }
            Source::Status { launch } => self.read_status(launch),
            Source::Console { launch } => self.receive_console(launch),
            Source::Output { container, stream } => {
                if let Some(container) = self.containers.all.get_mut(&container) {
                    container.io.pump(stream);
                }
            }
            Source::Input { container } => {
                if let Some(container) = self.containers.all.get_mut(&container) {
                    container.io.push_input();
                }
            }
            Source::Client { container, index } => {
                if let Some(container) = self.containers.all.get_mut(&container) {
                    container.io.pull_input(index);
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            crash::point("shim.met");
            if let Err(error) = self.peers.add(stream) {
                eprintln!("a connection is dropped: {error}");
            }
        }
    }

    fn signals_came(&mut self) {
        // The signal only says that there is something to reap.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.reap();
    }

    /// Waits until something happens; signals come first in the list, and so are handled last. Memory is given back
    /// when it is due, which is over then.
    fn wait(&self, rest_at: &mut Option<Instant>) -> io::Result<Vec<(Source, PollFlags)>> {
        let sources = self.sources();
        let mut polled: Vec<PollFd<'_>> = sources
            .iter()
            .map(|(_, fd, flags)| PollFd::new(*fd, *flags))
            .collect();
        loop {
            let until_rest = rest_if_due(rest_at);
            match poll(&mut polled, until_rest) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let seen: Vec<PollFlags> = polled
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()))
            .collect();
        let ready = sources
            .into_iter()
            .zip(seen)
            .filter(|(_, flags)| !flags.is_empty());
        Ok(ready.map(|((source, _, _), flags)| (source, flags)).collect())
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let read = PollFlags::POLLIN;
        let mut list = vec![
            (Source::Signals, self.signals.as_fd(), read),
            (Source::Listener, self.listener.as_fd(), read),
        ];
        for (index, launch) in self.launches.iter().enumerate() {
            list.push((Source::Status { launch: index }, launch.status.as_fd(), read));
            if let Some(console) = &launch.console {
                list.push((Source::Console { launch: index }, console.listener.as_fd(), read));
            }
        }
        for peer in &self.peers.all {
            let flags = if peer.wants_to_write() {
                read | PollFlags::POLLOUT
            } else {
                read
            };
            list.push((Source::Peer { id: peer.id }, peer.stream.as_fd(), flags));
        }
        for (id, container) in &self.containers.all {
            container_sources(id, &container.io, &mut list);
        }
        list
    }
}

/// Gives memory back if that is due; tells how long may be waited.
fn rest_if_due(rest_at: &mut Option<Instant>) -> PollTimeout {
    let Some(due) = *rest_at else {
        return PollTimeout::NONE;
    };
    let now = Instant::now();
    if now < due {
        // Rounded up, not to come back too early.
        let left = due - now + Duration::from_millis(1);
        return PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    }
    *rest_at = None;
    if let Err(error) = memory::rest() {
        eprintln!("giving memory back: {error}");
    }
    PollTimeout::NONE
}

fn container_sources<'a>(
    id: &str,
    io: &'a super::containers::Io,
    list: &mut Vec<(Source, BorrowedFd<'a>, PollFlags)>,
) {
    let outputs = [(Stream::Stdout, &io.stdout), (Stream::Stderr, &io.stderr)];
    for (stream, file) in outputs {
        if let Some(file) = file {
            list.push((
                Source::Output {
                    container: id.into(),
                    stream,
                },
                file.as_fd(),
                PollFlags::POLLIN,
            ));
        }
    }
    if let (Some(stdin), false) = (&io.stdin, io.unread_input.is_empty()) {
        list.push((
            Source::Input { container: id.into() },
            stdin.as_fd(),
            PollFlags::POLLOUT,
        ));
        return;
    }
    for (index, client) in io.attached.iter().enumerate() {
        if let Some(stdin) = &client.stdin {
            let source = Source::Client {
                container: id.into(),
                index,
            };
            list.push((source, stdin.as_fd(), PollFlags::POLLIN));
        }
    }
}
