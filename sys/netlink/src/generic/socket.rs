//! A generic netlink socket: requests with their answers.

use std::io;

use nix::libc;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

use super::{CONTROLLER, family_id, get_family};
use crate::error::{Error, Result};
use crate::transport::next_frame;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
const BUFFER: usize = 32 << 10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The lowest type of message that is not netlink's own.
const FIRST_FAMILY: u16 = 16;

/// Bound to the namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct GenericSocket {
    socket: Socket,
    sequence: u32,
}

impl GenericSocket {
    pub fn open() -> Result<Self> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_GENERIC)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| Error::Socket { op: "open", source })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of a family; [`Error::Unsupported`] when the kernel has none of that name.
    pub fn family(&mut self, name: &str) -> Result<u16> {
        let op = "get generic netlink family";
        let missing = || Error::Unsupported {
            op,
            object: name.to_owned(),
        };
        match self.call((op, name), CONTROLLER, NLM_F_ACK, &get_family(name)) {
            Ok(answers) => answers.iter().find_map(|a| family_id(a)).ok_or_else(missing),
            Err(error) if error.is_not_found() => Err(missing()),
            Err(error) => Err(error),
        }
    }

    /// Sends a change and waits until it is done.
    pub fn change(&mut self, what: (&'static str, &str), family: u16, message: &[u8]) -> Result<()> {
        self.call(what, family, NLM_F_ACK, message).map(drop)
    }

    /// Reads a table.
    pub fn dump(&mut self, what: (&'static str, &str), family: u16, message: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.call(what, family, NLM_F_DUMP, message)
    }

    fn call(
        &mut self,
        (op, object): (&'static str, &str),
        family: u16,
        flags: u16,
        message: &[u8],
    ) -> Result<Vec<Vec<u8>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let frame = frame(family, flags | NLM_F_REQUEST, self.sequence, message);
        let failed = |op| move |source| Error::Socket { op, source };
        self.socket.send(&frame, 0).map_err(failed("send"))?;
        let (mut answers, mut buffer) = (Vec::new(), Vec::with_capacity(BUFFER));
        loop {
            buffer.clear();
            buffer.reserve(BUFFER);
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(e) if e.raw_os_error() == Some(libc::EINTR) => continue,
                Err(source) => return Err(failed("receive")(source)),
            }
            match take(&buffer, self.sequence, &mut answers) {
                None => {}
                Some(0) => return Ok(answers),
                Some(errno) => return Err(Error::refused(op, object, errno, None)),
            }
        }
    }
}

/// A message with `struct nlmsghdr` before it.
fn frame(kind: u16, flags: u16, sequence: u32, message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + message.len());
    frame.extend(((HEADER + message.len()) as u32).to_ne_bytes());
    frame.extend(kind.to_ne_bytes());
    frame.extend(flags.to_ne_bytes());
    frame.extend(sequence.to_ne_bytes());
    frame.extend([0; 4]);
    frame.extend(message);
    frame
}

/// Takes a datagram in; the error number when the answer is complete.
fn take(mut bytes: &[u8], sequence: u32, answers: &mut Vec<Vec<u8>>) -> Option<i32> {
    while let Some((frame, rest)) = next_frame(bytes) {
        bytes = rest;
        let (header, body) = frame.split_at(HEADER);
        let seen = u32::from_ne_bytes(header[8..12].try_into().unwrap_or_default());
        if seen != sequence {
            continue;
        }
        match u16::from_ne_bytes([header[4], header[5]]) {
            NLMSG_ERROR | NLMSG_DONE => {
                let errno = body.get(..4).and_then(|b| b.try_into().ok());
                return Some(-errno.map_or(0, i32::from_ne_bytes));
            }
            kind if kind >= FIRST_FAMILY => answers.push(body.to_vec()),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_collected_until_the_end() {
        let mut answers = Vec::new();
        let datagram = [
            frame(29, 0, 6, b"late"),
            frame(29, 0, 7, b"half"),
            frame(29, 0, 7, b"rest"),
        ]
        .concat();
        assert_eq!(take(&datagram, 7, &mut answers), None);
        assert_eq!(take(&frame(NLMSG_DONE, 0, 7, &[0; 4]), 7, &mut answers), Some(0));
        assert_eq!(answers, [b"half".to_vec(), b"rest".to_vec()]);
        let refused = frame(NLMSG_ERROR, 0, 8, &(-libc::ENODEV).to_ne_bytes());
        assert_eq!(take(&refused, 8, &mut answers), Some(libc::ENODEV));
    }
}
