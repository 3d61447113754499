//! A client of a bus over its unix socket: calls one after the other, signals between them, received descriptors.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use knode_linux::fds;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;

use crate::auth;
use crate::{DbusError, FIXED, Message};

/// The bus itself.
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// A message with the descriptors that came with it.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Its descriptors, in order.
    pub fds: Vec<OwnedFd>,
}

/// A connection on which one has said hello.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// Bytes that came and are no whole message yet.
    bytes: Vec<u8>,
    /// Descriptors that came with them.
    fds: VecDeque<OwnedFd>,
    /// Messages that came while an answer was waited for.
    waiting: VecDeque<Received>,
    serial: u32,
}

impl Connection {
    /// Connects with the bus at a socket, as this process's user.
    ///
    /// # Errors
    /// Those of [`DbusError`].
    pub async fn open(path: &Path) -> Result<Self, DbusError> {
        let connected = UnixStream::connect(path).await;
        let mut stream = connected.map_err(|source| DbusError::Connect {
            path: path.to_owned(),
            source,
        })?;
        authenticate(&mut stream).await?;
        let mut connection = Self {
            stream,
            bytes: Vec::new(),
            fds: VecDeque::new(),
            waiting: VecDeque::new(),
            serial: 0,
        };
        connection
            .call(Message::call(BUS, BUS_PATH, BUS, "Hello"))
            .await?;
        Ok(connection)
    }

    /// Calls a method of the bus itself with text arguments.
    ///
    /// # Errors
    /// Those of [`DbusError`].
    pub async fn call_bus(&mut self, member: &str, arguments: &[&str]) -> Result<Received, DbusError> {
        let call = Message::call(BUS, BUS_PATH, BUS, member).with_strings(arguments);
        self.call(call).await
    }

    /// Calls a method and waits for its answer; what comes meanwhile is given by [`Connection::next`].
    ///
    /// # Errors
    /// Those of [`DbusError`].
    pub async fn call(&mut self, call: Message) -> Result<Received, DbusError> {
        let member = call.member.clone();
        let serial = self.send(call, &[]).await?;
        loop {
            let received = self.read().await?;
            if received.message.answers(serial) {
                received.message.succeeded(&member)?;
                return Ok(received);
            }
            self.waiting.push_back(received);
        }
    }

    /// Sends a message; its number.
    ///
    /// # Errors
    /// [`DbusError::Exchange`].
    pub async fn send(&mut self, mut message: Message, fds: &[BorrowedFd<'_>]) -> Result<u32, DbusError> {
        self.serial = self.serial.wrapping_add(1).max(1);
        message.serial = self.serial;
        message.fds = u32::try_from(fds.len()).unwrap_or_default();
        let bytes = message.marshal();
        let mut sent = 0;
        while sent < bytes.len() {
            // Descriptors go with the first byte.
            let with = if sent == 0 { fds } else { &[] };
            let stream = &self.stream;
            let went = stream.async_io(Interest::WRITABLE, || fds::send(stream, &bytes[sent..], with));
            sent += went.await.map_err(DbusError::Exchange)?;
        }
        Ok(self.serial)
    }

    /// The next message that answers nothing.
    ///
    /// # Errors
    /// [`DbusError::Exchange`] when the bus is gone, [`DbusError::Malformed`].
    pub async fn next(&mut self) -> Result<Received, DbusError> {
        match self.waiting.pop_front() {
            Some(waiting) => Ok(waiting),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Received, DbusError> {
        loop {
            if let Some(received) = self.whole()? {
                return Ok(received);
            }
            let mut buffer = [0; 4096];
            let stream = &self.stream;
            let read = stream.async_io(Interest::READABLE, || fds::receive(stream, &mut buffer));
            let (count, fds) = read.await.map_err(DbusError::Exchange)?;
            if count == 0 {
                return Err(DbusError::Exchange(io::ErrorKind::UnexpectedEof.into()));
            }
            self.bytes.extend_from_slice(&buffer[..count]);
            self.fds.extend(fds);
        }
    }

    /// The first message, if it has come as a whole.
    fn whole(&mut self) -> Result<Option<Received>, DbusError> {
        let Some(start) = self.bytes.first_chunk::<FIXED>() else {
            return Ok(None);
        };
        let size = Message::size(start).map_err(DbusError::Malformed)?;
        if self.bytes.len() < size {
            return Ok(None);
        }
        let rest = self.bytes.split_off(size);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        let message = Message::parse(&bytes).map_err(DbusError::Malformed)?;
        let count = usize::try_from(message.fds).unwrap_or(usize::MAX);
        let fds = self.fds.drain(..count.min(self.fds.len())).collect();
        Ok(Some(Received { message, fds }))
    }
}

/// Says who one is, which the kernel confirms.
async fn authenticate(stream: &mut UnixStream) -> Result<(), DbusError> {
    let mut stream = BufReader::new(stream);
    // The bus says nothing beyond its answers before BEGIN, so that nothing stays in this buffer.
    for (say, expect) in [
        (auth::claim(), auth::ACCEPTED),
        (auth::NEGOTIATE_FDS.to_owned(), auth::FDS_AGREED),
    ] {
        let mut answer = String::new();
        let both = async {
            stream.write_all(say.as_bytes()).await?;
            stream.read_line(&mut answer).await
        };
        both.await.map_err(DbusError::Exchange)?;
        auth::expect(&answer, expect)?;
    }
    let begun = stream.write_all(auth::BEGIN.as_bytes()).await;
    begun.map_err(DbusError::Exchange)
}
