//! Calls to one program over its own socket, without a bus between; they block.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::auth;
use crate::{DbusError, FIXED, Message};

/// A conversation with a program.
#[derive(Debug)]
pub struct Peer {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Peer {
    /// Connects with the program that listens at a socket, as this process's user. A peer that says nothing for
    /// `patience`, more than zero, is not asked further.
    ///
    /// # Errors
    /// [`DbusError::Connect`], [`DbusError::Refused`], [`DbusError::Exchange`].
    pub fn open(path: &Path, patience: Duration) -> Result<Self, DbusError> {
        let connected = UnixStream::connect(path);
        let stream = connected.map_err(|source| DbusError::Connect {
            path: path.to_owned(),
            source,
        })?;
        let mut stream = BufReader::new(stream);
        let answer = claim(&mut stream, patience).map_err(DbusError::Exchange)?;
        auth::expect(&answer, auth::ACCEPTED)?;
        Ok(Self { stream, serial: 0 })
    }

    /// Calls a method and waits for its answer; signals between are passed over.
    ///
    /// # Errors
    /// Those of [`DbusError`], [`DbusError::Call`] with the peer's words.
    pub fn call(&mut self, call: Message) -> Result<Message, DbusError> {
        self.exchange(call, &mut |_| {})
    }

    /// Calls a method and waits until a signal, before its answer or after it, says what `ends` looks for: it is given
    /// the answer and one signal after the other. Other signals do not count as an answer: after `patience` it is
    /// over.
    ///
    /// # Errors
    /// Those of [`Peer::call`].
    pub fn call_until(
        &mut self,
        call: Message,
        patience: Duration,
        ends: &mut dyn FnMut(&Message, &Message) -> Option<String>,
    ) -> Result<String, DbusError> {
        let start = Instant::now();
        let mut signals = Vec::new();
        let answer = self.exchange(call, &mut |signal| signals.push(signal))?;
        if let Some(end) = signals.iter().find_map(|signal| ends(&answer, signal)) {
            return Ok(end);
        }
        while start.elapsed() < patience {
            let message = self.read()?;
            if let Some(end) = ends(&answer, &message) {
                return Ok(end);
            }
        }
        Err(DbusError::Exchange(io::ErrorKind::TimedOut.into()))
    }

    /// Sends a call and reads to its answer.
    fn exchange(&mut self, mut call: Message, other: &mut dyn FnMut(Message)) -> Result<Message, DbusError> {
        self.serial = self.serial.wrapping_add(1).max(1);
        call.serial = self.serial;
        let sent = self.stream.get_mut().write_all(&call.marshal());
        sent.map_err(DbusError::Exchange)?;
        loop {
            let message = self.read()?;
            if message.answers(call.serial) {
                message.succeeded(&call.member)?;
                return Ok(message);
            }
            other(message);
        }
    }

    fn read(&mut self) -> Result<Message, DbusError> {
        let mut start = [0; FIXED];
        let stream = &mut self.stream;
        stream.read_exact(&mut start).map_err(DbusError::Exchange)?;
        let size = Message::size(&start).map_err(DbusError::Malformed)?;
        let mut bytes = start.to_vec();
        bytes.resize(size, 0);
        let rest = stream.read_exact(&mut bytes[FIXED..]);
        rest.map_err(DbusError::Exchange)?;
        Message::parse(&bytes).map_err(DbusError::Malformed)
    }
}

/// Says who one is; what the peer answers.
fn claim(stream: &mut BufReader<UnixStream>, patience: Duration) -> io::Result<String> {
    let socket = stream.get_mut();
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    // In one write, as libsystemd's clients do: systemd leaves a message unread that it reads together with BEGIN.
    socket.write_all(format!("{}{}", auth::claim(), auth::BEGIN).as_bytes())?;
    let mut answer = String::new();
    stream.read_line(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread;

    use super::*;
    use crate::{Kind, Writer};

    /// A program that reads one call after the other and answers with these bytes; it gives what was said first.
    fn program(name: &str, answers: Vec<Vec<u8>>) -> (PathBuf, thread::JoinHandle<String>) {
        let path = std::env::temp_dir().join(format!("knode-dbus-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let serve = move || {
            let stream = BufReader::new(listener.accept().unwrap().0);
            let mut peer = Peer { stream, serial: 0 };
            let mut said = String::new();
            peer.stream.read_line(&mut said).unwrap();
            peer.stream.get_mut().write_all(b"OK 0123\r\n").unwrap();
            peer.stream.read_line(&mut said).unwrap();
            for answer in answers {
                peer.read().unwrap();
                peer.stream.get_mut().write_all(&answer).unwrap();
            }
            said
        };
        (path, thread::spawn(serve))
    }

    fn message(kind: Kind, reply_to: u32, text: &str) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.string(text);
        let message = Message {
            serial: 9,
            reply_to,
            signature: "s".to_owned(),
            body: writer.0,
            ..Message::new(kind)
        };
        message.marshal()
    }

    fn call(member: &str) -> Message {
        Message::call("a.b", "/c", "d.e", member)
    }

    #[test]
    fn answers_are_told_from_signals_and_refusals() {
        let signal_and_return = [
            message(Kind::Signal, 0, "JobNew"),
            message(Kind::Return, 7, "of another call"),
            message(Kind::Return, 1, "/job/1"),
        ]
        .concat();
        let refusal = message(Kind::Error, 2, "Unit x.service not found.");
        let (path, served) = program("answers", vec![signal_and_return, refusal]);
        let mut peer = Peer::open(&path, Duration::from_secs(10)).unwrap();
        let answer = peer.call(call("Start")).unwrap();
        assert_eq!(answer.arguments().string().unwrap(), "/job/1");
        let refused = peer.call(call("Stop")).unwrap_err();
        assert!(
            matches!(&refused, DbusError::Call { member, message, .. }
                if member == "Stop" && message == "Unit x.service not found."),
            "{refused:?}"
        );
        assert_eq!(served.join().unwrap(), auth::claim() + auth::BEGIN);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_peer_that_says_nothing_is_not_waited_for() {
        let (path, served) = program("silent", vec![Vec::new()]);
        let mut peer = Peer::open(&path, Duration::from_millis(50)).unwrap();
        let error = peer.call(call("Start")).unwrap_err();
        assert!(matches!(error, DbusError::Exchange(_)), "{error:?}");
        served.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn nobody_there() {
        let error = Peer::open(Path::new("/nonexistent/private"), Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/private"), "{error}");
    }
}
