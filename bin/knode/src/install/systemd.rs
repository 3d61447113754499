//! systemd's manager, asked over its own D-Bus socket: the few calls that installing needs.
//!
//! The protocol is D-Bus between two peers, without a bus: <https://dbus.freedesktop.org/doc/dbus-specification.html>;
//! the calls are those of `org.freedesktop.systemd1.Manager`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the manager listens for root.
pub const SOCKET: &str = "/run/systemd/private";

const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const DESTINATION: &str = "org.freedesktop.systemd1";
/// A manager that says nothing for so long is not asked further.
const PATIENCE: Duration = Duration::from_secs(25);
const RETURN: u8 = 2;
const ERROR: u8 = 3;
/// No answer of the calls below comes near it.
const LONGEST: u32 = 1 << 20;

/// Why the manager did not do it.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    #[error("speak with systemd at {path}")]
    Connect { path: PathBuf, source: io::Error },
    #[error("ask systemd for {call}")]
    Call { call: &'static str, source: io::Error },
    #[error("systemd refuses {call}: {message}")]
    Refused { call: &'static str, message: String },
}

/// A connection to the manager.
#[derive(Debug)]
pub struct Manager {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Manager {
    /// Whether systemd runs this machine, as `sd_booted(3)` tells it.
    pub fn runs() -> bool {
        sd_notify::booted().unwrap_or(false)
    }

    /// Connects and authenticates as this process's user.
    pub fn connect(path: &Path) -> Result<Self, SystemdError> {
        Self::open(path).map_err(|source| SystemdError::Connect {
            path: path.to_owned(),
            source,
        })
    }

    fn open(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut stream = BufReader::new(stream);
        let uid = nix::unistd::geteuid().to_string();
        let uid: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        stream
            .get_mut()
            .write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_line(&mut answer)?;
        if !answer.starts_with("OK ") {
            let text = format!("authentication: {}", answer.trim());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        stream.get_mut().write_all(b"BEGIN\r\n")?;
        Ok(Self { stream, serial: 0 })
    }

    /// Reads all units anew.
    pub fn reload(&mut self) -> Result<(), SystemdError> {
        self.call("Reload", &[])
    }

    /// Starts a unit; returns when that is under way.
    pub fn start(&mut self, unit: &str) -> Result<(), SystemdError> {
        self.call("StartUnit", &[unit, "replace"])
    }

    /// Stops a unit; returns when that is under way.
    pub fn stop(&mut self, unit: &str) -> Result<(), SystemdError> {
        self.call("StopUnit", &[unit, "replace"])
    }

    /// Starts a unit or, if it runs, starts it again; returns when that is under way.
    pub fn restart(&mut self, unit: &str) -> Result<(), SystemdError> {
        self.call("RestartUnit", &[unit, "replace"])
    }

    fn call(&mut self, call: &'static str, arguments: &[&str]) -> Result<(), SystemdError> {
        self.serial += 1;
        let bytes = method_call(self.serial, call, arguments);
        let exchange = |stream: &mut BufReader<UnixStream>| {
            stream.get_mut().write_all(&bytes)?;
            loop {
                let (kind, body) = read_message(stream)?;
                // Signals come in between.
                if kind == RETURN || kind == ERROR {
                    return Ok((kind, body));
                }
            }
        };
        match exchange(&mut self.stream) {
            Ok((RETURN, _)) => Ok(()),
            Ok((_, body)) => Err(SystemdError::Refused {
                call,
                message: first_string(&body),
            }),
            Err(source) => Err(SystemdError::Call { call, source }),
        }
    }
}

/// A message under construction; little endian, each value at a multiple of its size.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// A header field: its number, the signature of its value and the value.
    fn field(&mut self, number: u8, signature: u8, value: &str) {
        self.align(8);
        self.0.extend([number, 1, signature, 0]);
        if signature == b'g' {
            self.0.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
            self.0.extend(value.as_bytes());
            self.0.push(0);
        } else {
            self.text(value);
        }
    }
}

fn method_call(serial: u32, member: &str, arguments: &[&str]) -> Vec<u8> {
    let mut body = Writer::default();
    arguments.iter().for_each(|argument| body.text(argument));
    let mut fields = Writer::default();
    fields.field(1, b'o', PATH);
    fields.field(2, b's', INTERFACE);
    fields.field(3, b's', member);
    fields.field(6, b's', DESTINATION);
    if !arguments.is_empty() {
        fields.field(8, b'g', &"s".repeat(arguments.len()));
    }
    let length = |writer: &Writer| u32::try_from(writer.0.len()).unwrap_or(u32::MAX);
    // Little endian, a method call, no flags, version 1.
    let mut message = Writer(vec![b'l', 1, 0, 1]);
    message.number(length(&body));
    message.number(serial);
    message.number(length(&fields));
    message.0.extend(&fields.0);
    message.align(8);
    message.0.extend(&body.0);
    message.0
}

/// The next message's type and body.
fn read_message(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let number = |at: usize| {
        let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
        if head[0] == b'l' {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        }
    };
    let (body, fields) = (number(4), number(12));
    if body > LONGEST || fields > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is no D-Bus message",
        ));
    }
    let mut rest = vec![0; (fields as usize).next_multiple_of(8) + body as usize];
    stream.read_exact(&mut rest)?;
    Ok((head[1], rest.split_off((fields as usize).next_multiple_of(8))))
}

/// The string that an error's body begins with.
fn first_string(body: &[u8]) -> String {
    let text = body.get(4..).unwrap_or_default();
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    String::from_utf8_lossy(&text[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What `busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartUnit
    /// ss knode.service replace` puts into its message, in the order of sd-bus.
    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let call = method_call(7, "StartUnit", &["knode.service", "replace"]);
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

    /// A manager that reads one call after the other and answers with these messages.
    fn manager(name: &str, answers: Vec<Vec<u8>>) -> (PathBuf, thread::JoinHandle<String>) {
        let path = std::env::temp_dir().join(format!("knode-systemd-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let serve = move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut said = Vec::new();
            stream.read_until(b'\n', &mut said).unwrap();
            stream.get_mut().write_all(b"OK 0123\r\n").unwrap();
            stream.read_until(b'\n', &mut said).unwrap();
            for answer in answers {
                read_message(&mut stream).unwrap();
                stream.get_mut().write_all(&answer).unwrap();
            }
            String::from_utf8(said).unwrap()
        };
        (path, thread::spawn(serve))
    }

    fn message(kind: u8, body: &str) -> Vec<u8> {
        let mut text = Writer::default();
        text.text(body);
        let mut all = Writer(vec![b'l', kind, 0, 1]);
        all.number(text.0.len() as u32);
        all.number(1);
        all.number(0);
        all.0.extend(text.0);
        all.0
    }

    #[test]
    fn answers_and_refusals() {
        let signal_and_return = [message(4, "JobNew"), message(RETURN, "/job/1")].concat();
        let refusal = message(ERROR, "Unit x.service not found.");
        let (path, served) = manager("answers", vec![signal_and_return, refusal]);
        let mut systemd = Manager::connect(&path).unwrap();
        systemd.start("knode.service").unwrap();
        let refused = systemd.stop("x.service").unwrap_err().to_string();
        assert_eq!(refused, "systemd refuses StopUnit: Unit x.service not found.");
        let uid = nix::unistd::geteuid().to_string();
        let uid: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            served.join().unwrap(),
            format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n")
        );
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn nobody_there() {
        let error = Manager::connect(Path::new("/nonexistent/private")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/private"), "{error}");
    }
}
