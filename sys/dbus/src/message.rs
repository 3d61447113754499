//! Messages, with the header fields and types of arguments that are used here. Pure.

use crate::wire::length;
use crate::{DbusError, Malformed, Reader, Writer};

/// Kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call of a method.
    Call = 1,
    /// Its answer.
    Return = 2,
    /// Its failure.
    Error = 3,
    /// Something happened.
    Signal = 4,
}

/// Largest message that is taken, in bytes; those of systemd and logind are a few hundred.
pub const MAX_BYTES: usize = 1 << 20;
/// Bytes of the fixed part of a header, with the length of the fields behind it.
pub const FIXED: usize = 16;

/// A message with the fields of its header that are used here. What it has not is empty or 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its number, from 1; the bus's answers name it.
    pub serial: u32,
    /// The object.
    pub path: String,
    /// The interface.
    pub interface: String,
    /// The method or the signal.
    pub member: String,
    /// The name of an error.
    pub error: String,
    /// Which call it answers.
    pub reply_to: u32,
    /// Who gets it.
    pub destination: String,
    /// Who sent it; the bus fills it in.
    pub sender: String,
    /// The types of the body.
    pub signature: String,
    /// Descriptors that travel with it.
    pub fds: u32,
    /// The arguments, marshalled.
    pub body: Vec<u8>,
}

impl Message {
    /// An empty message of this kind.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            serial: 0,
            path: String::new(),
            interface: String::new(),
            member: String::new(),
            error: String::new(),
            reply_to: 0,
            destination: String::new(),
            sender: String::new(),
            signature: String::new(),
            fds: 0,
            body: Vec::new(),
        }
    }

    /// A call of a method of a destination's object.
    pub fn call(destination: &str, path: &str, interface: &str, member: &str) -> Self {
        Self {
            path: path.to_owned(),
            interface: interface.to_owned(),
            member: member.to_owned(),
            destination: destination.to_owned(),
            ..Self::new(Kind::Call)
        }
    }

    /// The same with text arguments.
    pub fn with_strings(mut self, arguments: &[&str]) -> Self {
        let mut writer = Writer::default();
        for argument in arguments {
            writer.string(argument);
        }
        self.signature = "s".repeat(arguments.len());
        self.body = writer.0;
        self
    }

    /// The bytes of the message.
    pub fn marshal(&self) -> Vec<u8> {
        let mut fields = Writer::default();
        let texts = [
            (1, 'o', &self.path),
            (2, 's', &self.interface),
            (3, 's', &self.member),
            (4, 's', &self.error),
            (6, 's', &self.destination),
        ];
        for (code, kind, text) in texts.into_iter().filter(|(.., text)| !text.is_empty()) {
            fields.field(code, kind);
            fields.string(text);
        }
        for (code, number) in [(5, self.reply_to), (9, self.fds)] {
            if number > 0 {
                fields.field(code, 'u');
                fields.u32(number);
            }
        }
        if !self.signature.is_empty() {
            fields.field(8, 'g');
            fields.signature(&self.signature);
        }
        let mut out = Writer(vec![b'l', self.kind as u8, 0, 1]);
        out.u32(length(self.body.len()));
        out.u32(self.serial);
        out.u32(length(fields.0.len()));
        out.0.extend_from_slice(&fields.0);
        out.align(8);
        out.0.extend_from_slice(&self.body);
        out.0
    }

    /// Bytes of the whole message that begins with these [`FIXED`] bytes.
    ///
    /// # Errors
    /// If they begin none.
    pub fn size(start: &[u8; FIXED]) -> Result<usize, Malformed> {
        if start[0] != b'l' || start[3] != 1 {
            return Err(Malformed("neither little endian nor version 1"));
        }
        let number = |at: usize| {
            let bytes = [start[at], start[at + 1], start[at + 2], start[at + 3]];
            usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
        };
        let header = FIXED
            .checked_add(number(12))
            .and_then(|end| end.checked_next_multiple_of(8));
        let all = header.and_then(|header| header.checked_add(number(4)));
        all.filter(|all| *all <= MAX_BYTES).ok_or(Malformed("too long"))
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let kind = match bytes.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Return,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            _ => return Err(Malformed("unknown kind")),
        };
        let mut message = Self::new(kind);
        let mut reader = Reader { bytes, at: 4 };
        let body = reader.u32()?;
        message.serial = reader.u32()?;
        let end = reader.u32()?;
        let end = FIXED.saturating_add(usize::try_from(end).unwrap_or(usize::MAX));
        while reader.at < end {
            message.read_field(&mut reader)?;
        }
        reader.align(8);
        let body = usize::try_from(body).unwrap_or(usize::MAX);
        message.body = reader.take(body)?.to_vec();
        Ok(message)
    }

    fn read_field(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        reader.align(8);
        let code = reader.take(1)?[0];
        let signature = reader.signature()?;
        let text = match signature.as_str() {
            "s" | "o" => reader.string()?,
            "g" => reader.signature()?,
            "u" => {
                let number = reader.u32()?;
                match code {
                    5 => self.reply_to = number,
                    9 => self.fds = number,
                    _ => {}
                }
                return Ok(());
            }
            _ => return Err(Malformed("a header's field of an unknown type")),
        };
        match code {
            1 => self.path = text,
            2 => self.interface = text,
            3 => self.member = text,
            4 => self.error = text,
            6 => self.destination = text,
            7 => self.sender = text,
            8 => self.signature = text,
            _ => {}
        }
        Ok(())
    }

    /// Whether it is the answer, good or bad, to the call with this number.
    pub fn answers(&self, call: u32) -> bool {
        matches!(self.kind, Kind::Return | Kind::Error) && self.reply_to == call
    }

    /// Refuses the answer to a call of `member` that is an error.
    ///
    /// # Errors
    /// [`DbusError::Call`].
    pub fn succeeded(&self, member: &str) -> Result<(), DbusError> {
        if self.kind != Kind::Error {
            return Ok(());
        }
        Err(DbusError::Call {
            member: member.to_owned(),
            name: self.error.clone(),
            // An error without a text says enough by its name.
            message: self.arguments().string().unwrap_or_default(),
        })
    }

    /// The arguments from the first on.
    pub fn arguments(&self) -> Reader<'_> {
        Reader {
            bytes: &self.body,
            at: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first message of every client, as `dbus-send` writes it.
    #[test]
    fn hello_is_written_as_the_specification_has_it() {
        let mut hello = Message::call(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "Hello",
        );
        hello.serial = 1;
        let bytes = hello.marshal();
        assert_eq!(&bytes[..16], b"l\x01\0\x01\0\0\0\0\x01\0\0\0m\0\0\0");
        assert_eq!(&bytes[16..24], b"\x01\x01o\0\x15\0\0\0");
        assert_eq!(bytes.len(), 128);
        let mut start = [0; FIXED];
        start.copy_from_slice(&bytes[..FIXED]);
        assert_eq!(Message::size(&start), Ok(128));
        assert_eq!(Message::parse(&bytes).unwrap(), hello);
    }

    /// What `busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartUnit
    /// ss knode.service replace` puts into its message, in the order of sd-bus.
    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let mut call = Message::call(
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "StartUnit",
        );
        call.serial = 7;
        let call = call.with_strings(&["knode.service", "replace"]).marshal();
        assert_eq!(&call[..4], [b'l', 1, 0, 1]);
        let number = |at: usize| u32::from_le_bytes(call[at..at + 4].try_into().unwrap()) as usize;
        let (body, serial, fields) = (number(4), number(8), number(12));
        assert_eq!(serial, 7);
        assert_eq!(call.len(), 16 + fields.next_multiple_of(8) + body);
        let at = 16 + fields.next_multiple_of(8);
        assert_eq!(&call[at..at + 18], b"\x0d\0\0\0knode.service\0");
        assert_eq!(&call[at + 20..], b"\x07\0\0\0replace\0");
        assert_eq!(&call[16..20], [1, 1, b'o', 0]);
    }

    #[test]
    fn arguments_come_back_in_order() {
        let mut message = Message::call("a.b", "/c", "d.e", "F").with_strings(&["", "kubelet"]);
        message.reply_to = 7;
        message.fds = 1;
        let back = Message::parse(&message.marshal()).unwrap();
        assert_eq!(back, message);
        let mut arguments = back.arguments();
        assert_eq!(arguments.string().unwrap(), "");
        assert_eq!(arguments.string().unwrap(), "kubelet");
        assert_eq!(arguments.u32(), Err(Malformed("too short")));
    }

    #[test]
    fn nothing_that_comes_can_end_the_reader() {
        let whole = Message::call("a.b", "/c", "d.e", "F")
            .with_strings(&["x"])
            .marshal();
        for end in 0..whole.len() {
            assert!(Message::parse(&whole[..end]).is_err(), "{end} bytes");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                // Whatever it gives: it gives it.
                let _ = Message::parse(&bytes);
            }
        }
        let mut huge = [0xff; FIXED];
        huge[0] = b'l';
        huge[3] = 1;
        assert_eq!(Message::size(&huge), Err(Malformed("too long")));
    }
}
