//! systemd's manager, asked over its own D-Bus socket: the few calls that installing needs.
//!
//! The protocol is D-Bus between two peers, without a bus; the calls are those of `org.freedesktop.systemd1.Manager`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use knode_dbus::{DbusError, Message, Peer};

/// Where the manager listens for root.
pub const SOCKET: &str = "/run/systemd/private";

const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const DESTINATION: &str = "org.freedesktop.systemd1";
/// A manager that says nothing for so long is not asked further.
const PATIENCE: Duration = Duration::from_secs(25);

/// Why the manager did not do it.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Nobody listens, or the manager does not take this process.
    #[error("speak with systemd at {path}")]
    Connect {
        /// The manager's socket.
        path: PathBuf,
        /// Why.
        source: DbusError,
    },
    /// The connection broke.
    #[error("ask systemd for {call}")]
    Call {
        /// The manager's method.
        call: &'static str,
        /// Why.
        source: DbusError,
    },
    /// The manager says no.
    #[error("systemd refuses {call}: {message}")]
    Refused {
        /// The manager's method.
        call: &'static str,
        /// Its words.
        message: String,
    },
}

/// A connection to the manager.
#[derive(Debug)]
pub struct Manager(Peer);

impl Manager {
    /// Whether systemd runs this machine, as `sd_booted(3)` tells it.
    pub fn runs() -> bool {
        sd_notify::booted().unwrap_or(false)
    }

    /// Connects and authenticates as this process's user.
    pub fn connect(path: &Path) -> Result<Self, SystemdError> {
        let opened = Peer::open(path, PATIENCE);
        opened.map(Self).map_err(|source| SystemdError::Connect {
            path: path.to_owned(),
            source,
        })
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
        let message = Message::call(DESTINATION, PATH, INTERFACE, call).with_strings(arguments);
        match self.0.call(message) {
            Ok(_) => Ok(()),
            Err(DbusError::Call { message, .. }) => Err(SystemdError::Refused { call, message }),
            Err(source) => Err(SystemdError::Call { call, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use knode_dbus::{FIXED, Kind, Writer};

    use super::*;

    /// A manager that reads one call after the other and answers with these messages.
    fn manager(name: &str, answers: Vec<Vec<u8>>) -> (PathBuf, thread::JoinHandle<()>) {
        let path = std::env::temp_dir().join(format!("knode-systemd-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let serve = move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut said = Vec::new();
            stream.read_until(b'\n', &mut said).unwrap();
            stream.get_mut().write_all(b"OK 0123\r\n").unwrap();
            stream.read_until(b'\n', &mut said).unwrap();
            for answer in answers {
                let mut start = [0; FIXED];
                stream.read_exact(&mut start).unwrap();
                let mut rest = vec![0; Message::size(&start).unwrap() - FIXED];
                stream.read_exact(&mut rest).unwrap();
                stream.get_mut().write_all(&answer).unwrap();
            }
        };
        (path, thread::spawn(serve))
    }

    fn message(kind: Kind, reply_to: u32, text: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.string(text);
        let message = Message {
            serial: 1,
            reply_to,
            body: body.0,
            ..Message::new(kind)
        };
        message.marshal()
    }

    #[test]
    fn answers_and_refusals() {
        let signal_and_return = [
            message(Kind::Signal, 0, "JobNew"),
            message(Kind::Return, 1, "/job/1"),
        ]
        .concat();
        let refusal = message(Kind::Error, 2, "Unit x.service not found.");
        let (path, served) = manager("answers", vec![signal_and_return, refusal]);
        let mut systemd = Manager::connect(&path).unwrap();
        systemd.start("knode.service").unwrap();
        let refused = systemd.stop("x.service").unwrap_err().to_string();
        assert_eq!(refused, "systemd refuses StopUnit: Unit x.service not found.");
        served.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn nobody_there() {
        let error = Manager::connect(Path::new("/nonexistent/private")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/private"), "{error}");
    }
}
