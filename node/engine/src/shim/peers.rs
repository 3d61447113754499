//! Connections of the daemon, the one it has and those it had.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use knode_linux::fds;
use serde::Serialize;

use super::protocol::{self, Request};

/// Messages a peer may leave unread, in bytes, before it is dropped: the shim never waits for a daemon.
const MAX_UNREAD: usize = 1024 * 1024;

/// One connection.
pub(super) struct Peer {
    pub(super) id: u64,
    pub(super) stream: UnixStream,
    input: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    output: Vec<u8>,
}

/// A request with the descriptors that are waiting.
pub(super) struct Received {
    pub(super) peer: u64,
    pub(super) request: Request,
}

/// All connections.
#[derive(Default)]
pub(super) struct Peers {
    next: u64,
    pub(super) all: Vec<Peer>,
}

impl Peer {
    /// True while something waits to be written.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Reads what has come; `false` at the end of the connection.
    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 8 * 1024];
        loop {
            match fds::receive(&self.stream, &mut chunk) {
                Ok((0, _)) => return Ok(false),
                Ok((count, received)) => {
                    self.input.extend_from_slice(&chunk[..count]);
                    self.fds.extend(received);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.output.len() > MAX_UNREAD {
            return Err(io::Error::other("the peer does not read"));
        }
        Ok(())
    }
}

impl Peers {
    pub(super) fn add(&mut self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.next += 1;
        let id = self.next;
        self.all.push(Peer {
            id,
            stream,
            input: Vec::new(),
            fds: VecDeque::new(),
            output: Vec::new(),
        });
        Ok(())
    }

    /// Reads from the peer `id`, and takes the requests that are whole. A peer that is gone is forgotten.
    pub(super) fn read(&mut self, id: u64) -> Vec<Received> {
        let Some(peer) = self.all.iter_mut().find(|peer| peer.id == id) else {
            return Vec::new();
        };
        let alive = peer.fill().unwrap_or(false);
        let mut requests = Vec::new();
        let valid = loop {
            match protocol::decode::<Request>(&mut peer.input) {
                Ok(Some(request)) => requests.push(Received { peer: id, request }),
                Ok(None) => break true,
                Err(error) => {
                    eprintln!("a request cannot be read: {error}");
                    break false;
                }
            }
        };
        if !(alive && valid) && requests.is_empty() {
            self.drop_peer(id);
        }
        requests
    }

    /// Peers that came before this one.
    pub(super) fn before(&self, id: u64) -> Vec<u64> {
        self.all
            .iter()
            .map(|peer| peer.id)
            .filter(|other| *other < id)
            .collect()
    }

    /// Takes the next `count` descriptors that the peer sent.
    pub(super) fn take_fds(&mut self, id: u64, count: usize) -> Option<Vec<OwnedFd>> {
        let peer = self.all.iter_mut().find(|peer| peer.id == id)?;
        (peer.fds.len() >= count).then(|| peer.fds.drain(..count).collect())
    }

    /// Sends to one peer, or to all with `None`.
    pub(super) fn send<T: Serialize>(&mut self, to: Option<u64>, message: &T) {
        let mut gone = Vec::new();
        for peer in self
            .all
            .iter_mut()
            .filter(|peer| to.is_none_or(|id| id == peer.id))
        {
            let sent = protocol::encode(message, &mut peer.output).and_then(|()| peer.flush());
            if let Err(error) = sent {
                eprintln!("a peer is dropped: {error}");
                gone.push(peer.id);
            }
        }
        self.all.retain(|peer| !gone.contains(&peer.id));
    }

    /// Writes on to a peer that takes data again.
    pub(super) fn flush(&mut self, id: u64) {
        let failed = self
            .all
            .iter_mut()
            .find(|peer| peer.id == id)
            .is_some_and(|peer| peer.flush().is_err());
        if failed {
            self.drop_peer(id);
        }
    }

    pub(super) fn drop_peer(&mut self, id: u64) {
        self.all.retain(|peer| peer.id != id);
    }

    /// Writes what is left to all, as far as they take it now.
    pub(super) fn flush_all(&mut self) {
        for peer in &mut self.all {
            // The shim is ending; who does not read now loses the message.
            let _ = peer.flush();
        }
    }
}
