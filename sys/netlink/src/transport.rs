//! One netlink socket, requests and their answers. Knows frames, no objects.

use std::io;

use nix::libc;
use rtnetlink::packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::error::{Error, Result};

/// Bytes read at once; the kernel's dumps come in pieces of at most this.
const BUFFER: usize = 32 << 10;
/// Messages sent in one go: their acknowledgements must fit the socket's receive buffer.
const BATCH: usize = 64;
/// A dump that changes while it is read is read again, so often at most.
const DUMP_ATTEMPTS: usize = 8;
/// `NLM_F_DUMP_INTR`: the table changed during the dump.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLMSGERR_ATTR_MSG`: the kernel's own words.
const ATTR_MSG: u16 = 1;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A refusal as the kernel gave it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub errno: i32,
    pub detail: Option<String>,
}

/// Answer to one request: messages until its acknowledgement.
pub(crate) type Answer = std::result::Result<Vec<RouteNetlinkMessage>, Refusal>;

/// A socket bound to the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Transport {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            socket.set_ext_ack(true)?;
            socket.set_netlink_get_strict_chk(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|source| Error::Socket { op: "open", source })?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::new(),
        })
    }

    /// Sends all messages, each acknowledged, and returns the answers in order.
    pub fn call(&mut self, messages: Vec<(RouteNetlinkMessage, u16)>) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let batch: Vec<_> = messages.by_ref().take(BATCH).collect();
            self.call_batch(batch, &mut answers)?;
        }
        Ok(answers)
    }

    /// Reads a whole table, consistently.
    pub fn dump(&mut self, message: RouteNetlinkMessage) -> Result<Answer> {
        let mut last = Ok(Vec::new());
        for _ in 0..DUMP_ATTEMPTS {
            let first = self.send(vec![(message.clone(), NLM_F_DUMP)])?;
            let (answer, interrupted) = self.receive(first)?;
            last = answer;
            if !interrupted {
                break;
            }
        }
        Ok(last)
    }

    fn call_batch(
        &mut self,
        batch: Vec<(RouteNetlinkMessage, u16)>,
        answers: &mut Vec<Answer>,
    ) -> Result<()> {
        let count = batch.len() as u32;
        let first = self.send(
            batch
                .into_iter()
                .map(|(m, flags)| (m, flags | NLM_F_ACK))
                .collect(),
        )?;
        self.receive_many(first, count, answers)
    }

    /// Sends messages as one datagram; returns the first one's sequence number.
    fn send(&mut self, messages: Vec<(RouteNetlinkMessage, u16)>) -> Result<u32> {
        let first = self.sequence.wrapping_add(1);
        let mut out = Vec::new();
        for (payload, flags) in messages {
            self.sequence = self.sequence.wrapping_add(1);
            let mut message = NetlinkMessage::from(payload);
            message.header.flags = flags | NLM_F_REQUEST;
            message.header.sequence_number = self.sequence;
            message.finalize();
            let start = out.len();
            out.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut out[start..]);
        }
        self.socket
            .send(&out, 0)
            .map_err(|source| Error::Socket { op: "send", source })?;
        Ok(first)
    }

    /// Answer of one request, and whether a dump was interrupted.
    fn receive(&mut self, sequence: u32) -> Result<(Answer, bool)> {
        let mut state = Pending::new(sequence, 1);
        while !state.complete() {
            self.read()?;
            state.take(&self.buffer);
        }
        let interrupted = state.interrupted;
        Ok((state.answers.pop().unwrap_or_else(|| Ok(Vec::new())), interrupted))
    }

    fn receive_many(&mut self, first: u32, count: u32, answers: &mut Vec<Answer>) -> Result<()> {
        let mut state = Pending::new(first, count);
        while !state.complete() {
            self.read()?;
            state.take(&self.buffer);
        }
        answers.append(&mut state.answers);
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        self.buffer.clear();
        self.buffer.reserve(BUFFER);
        loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
                Err(source) => {
                    return Err(Error::Socket {
                        op: "receive",
                        source,
                    });
                }
            }
        }
    }
}

/// Requests in flight whose answers are collected, in the order they were sent (so the kernel answers).
struct Pending {
    first: u32,
    count: u32,
    current: Vec<RouteNetlinkMessage>,
    answers: Vec<Answer>,
    interrupted: bool,
}

impl Pending {
    fn new(first: u32, count: u32) -> Self {
        Self {
            first,
            count,
            current: Vec::new(),
            answers: Vec::new(),
            interrupted: false,
        }
    }

    fn complete(&self) -> bool {
        self.answers.len() as u32 == self.count
    }

    /// Takes the messages of one datagram.
    fn take(&mut self, mut bytes: &[u8]) {
        while let Some((frame, rest)) = next_frame(bytes) {
            bytes = rest;
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(frame) {
                Ok(message) => self.message(message),
                Err(error) => tracing::warn!(%error, "a route netlink message was not understood"),
            }
        }
    }

    fn message(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        let expected = self.first.wrapping_add(self.answers.len() as u32);
        if message.header.sequence_number != expected {
            return;
        }
        self.interrupted |= message.header.flags & DUMP_INTERRUPTED != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => self.current.push(inner),
            NetlinkPayload::Error(error) => self.finish(-error.raw_code(), detail(&error)),
            NetlinkPayload::Done(done) => self.finish(-done.code, None),
            _ => {}
        }
    }

    fn finish(&mut self, errno: i32, detail: Option<String>) {
        let messages = std::mem::take(&mut self.current);
        self.answers.push(if errno == 0 {
            Ok(messages)
        } else {
            Err(Refusal { errno, detail })
        });
    }
}

/// Splits the first message off a datagram.
pub(crate) fn next_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = NetlinkBuffer::new_checked(bytes).ok()?.length() as usize;
    let next = length.next_multiple_of(4).min(bytes.len());
    (length >= HEADER).then(|| (&bytes[..length], &bytes[next..]))
}

/// The kernel's words in an extended acknowledgement: attributes behind the echoed header.
fn detail(error: &ErrorMessage) -> Option<String> {
    let mut attributes = error.header.get(HEADER..)?;
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]) & 0x3fff;
        let value = attributes.get(4..length)?;
        if kind == ATTR_MSG {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}
