//! systemd's manager, asked over its own socket: the calls that installing and control groups need. They block.
//!
//! The calls are those of `org.freedesktop.systemd1.Manager` (org.freedesktop.systemd1(5)).

mod error;
mod property;
pub mod slice;

use std::path::Path;
use std::time::Duration;

pub use error::SystemdError;
pub use property::{Property, Value};
use slice::{Limits, Slice, Version};

use crate::{DbusError, Message, Peer, Writer};

/// Where the manager listens for root, without a bus between.
pub const PRIVATE: &str = "/run/systemd/private";
/// Where the system's bus listens.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const DESTINATION: &str = "org.freedesktop.systemd1";
/// How a bus is told which signals are wanted.
const JOBS: &str = "type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'";
/// A manager that says nothing for so long is not asked further.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether systemd runs this machine, as `sd_booted(3)` tells it.
pub fn runs() -> bool {
    std::fs::symlink_metadata("/run/systemd/system").is_ok_and(|found| found.is_dir())
}

/// Whether the manager can be reached by this socket, or, if it is [`PRIVATE`], over the system's bus.
pub fn listens(path: &Path) -> bool {
    path.exists() || (path == Path::new(PRIVATE) && Path::new(SYSTEM_BUS).exists())
}

/// What can be done with a unit that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Start it or, if it runs, start it again.
    Restart,
}

impl Job {
    fn call(self) -> &'static str {
        match self {
            Self::Start => "StartUnit",
            Self::Stop => "StopUnit",
            Self::Restart => "RestartUnit",
        }
    }
}

/// A connection to the manager. It tells whoever is connected what happens to every unit, and nobody reads that
/// between two calls: connect for a few calls, and let go.
#[derive(Debug)]
pub struct Systemd(Peer);

impl Systemd {
    /// Connects and authenticates as this process's user: with the manager at its own socket, or over the system's bus
    /// if that socket is [`PRIVATE`] and missing.
    ///
    /// # Errors
    /// [`SystemdError::Connect`]; over a bus those of calls.
    pub fn connect(path: &Path) -> Result<Self, SystemdError> {
        if !path.exists() && listens(path) {
            return Self::on_bus(Path::new(SYSTEM_BUS));
        }
        open(path)
    }

    fn on_bus(path: &Path) -> Result<Self, SystemdError> {
        let mut systemd = open(path)?;
        systemd.call_bus("Hello", &[])?;
        systemd.call_bus("AddMatch", &[JOBS])?;
        systemd.call(manager("Subscribe"), "Subscribe", "")?;
        Ok(systemd)
    }

    fn call_bus(&mut self, call: &'static str, arguments: &[&str]) -> Result<(), SystemdError> {
        const BUS: &str = "org.freedesktop.DBus";
        let message = Message::call(BUS, "/org/freedesktop/DBus", BUS, call).with_strings(arguments);
        self.call(message, call, "").map(drop)
    }

    /// Reads all units anew.
    ///
    /// # Errors
    /// Those of the connection, [`SystemdError::Refused`].
    pub fn reload(&mut self) -> Result<(), SystemdError> {
        self.call(manager("Reload"), "Reload", "").map(drop)
    }

    /// Has something done with a unit; returns when that is under way.
    ///
    /// # Errors
    /// Those of the connection, [`SystemdError::NoSuchUnit`], [`SystemdError::Refused`].
    pub fn queue(&mut self, job: Job, unit: &str) -> Result<(), SystemdError> {
        let call = job.call();
        let message = manager(call).with_strings(&[unit, "replace"]);
        self.call(message, call, unit).map(drop)
    }

    /// Makes a unit that goes when it is stopped or the machine is, starts it, and waits until that is done. Which
    /// kind it is its name says: `….slice` or `….scope`; a scope begins with processes ([`Property::pids`]).
    ///
    /// # Errors
    /// [`SystemdError::UnitExists`] if one of this name is loaded, [`SystemdError::Job`], and the others.
    pub fn start_transient(&mut self, unit: &str, properties: &[Property]) -> Result<(), SystemdError> {
        let mut body = Writer::default();
        body.string(unit);
        body.string("replace");
        property::write(properties, &mut body);
        // No auxiliary units.
        body.array(8, &mut |_| {});
        let message = Message {
            signature: "ssa(sv)a(sa(sv))".to_owned(),
            body: body.0,
            ..manager("StartTransientUnit")
        };
        self.finish(message, "StartTransientUnit", "start", unit)
    }

    /// Changes properties of a unit until it is stopped or the machine is.
    ///
    /// # Errors
    /// Those of the connection, [`SystemdError::NoSuchUnit`], [`SystemdError::Refused`].
    pub fn set_properties(&mut self, unit: &str, properties: &[Property]) -> Result<(), SystemdError> {
        let mut body = Writer::default();
        body.string(unit);
        body.u32(u32::from(true));
        property::write(properties, &mut body);
        let message = Message {
            signature: "sba(sv)".to_owned(),
            body: body.0,
            ..manager("SetUnitProperties")
        };
        self.call(message, "SetUnitProperties", unit).map(drop)
    }

    /// Makes a slice with these limits; of one that was made before, or that a file describes, only the limits are
    /// changed. One that systemd made because of another below it is made whole.
    ///
    /// # Errors
    /// Those of [`Systemd::start_transient`] and [`Systemd::set_properties`].
    pub fn apply(&mut self, slice: &Slice, limits: &Limits, version: Version) -> Result<(), SystemdError> {
        let limits = limits.properties(version);
        let whole = [slice.properties(version), limits.clone()].concat();
        match self.start_transient(slice.unit(), &whole) {
            Err(SystemdError::UnitExists { .. }) => self.set_properties(slice.unit(), &limits),
            other => other,
        }
    }

    /// Stops a unit and waits until that is done: what is left in a scope or below a slice is killed. A unit that is
    /// not loaded is stopped.
    ///
    /// # Errors
    /// Those of the connection, [`SystemdError::Job`], [`SystemdError::Refused`].
    pub fn stop(&mut self, unit: &str) -> Result<(), SystemdError> {
        let message = manager("StopUnit").with_strings(&[unit, "replace"]);
        match self.finish(message, "StopUnit", "stop", unit) {
            Err(SystemdError::NoSuchUnit { .. }) => Ok(()),
            other => other,
        }
    }

    /// Has a unit that failed forgotten. A unit that is not loaded is forgotten.
    ///
    /// # Errors
    /// Those of the connection, [`SystemdError::Refused`].
    pub fn reset_failed(&mut self, unit: &str) -> Result<(), SystemdError> {
        let message = manager("ResetFailedUnit").with_strings(&[unit]);
        match self.call(message, "ResetFailedUnit", unit) {
            Err(SystemdError::NoSuchUnit { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes a call that gives a job, and waits for the job's end.
    fn finish(
        &mut self,
        message: Message,
        call: &'static str,
        verb: &'static str,
        unit: &str,
    ) -> Result<(), SystemdError> {
        let ended = self.0.call_until(message, PATIENCE, &mut result_of);
        match ended.map_err(|source| refusal(source, call, unit))?.as_str() {
            "done" => Ok(()),
            result => Err(SystemdError::Job {
                verb,
                unit: unit.to_owned(),
                result: result.to_owned(),
            }),
        }
    }

    fn call(&mut self, message: Message, call: &'static str, unit: &str) -> Result<Message, SystemdError> {
        let answer = self.0.call(message);
        answer.map_err(|source| refusal(source, call, unit))
    }
}

/// A connection on which nothing has been asked.
fn open(path: &Path) -> Result<Systemd, SystemdError> {
    let opened = Peer::open(path, PATIENCE);
    opened.map(Systemd).map_err(|source| SystemdError::Connect {
        path: path.to_owned(),
        source,
    })
}

/// A call of a method of the manager.
fn manager(call: &str) -> Message {
    Message::call(DESTINATION, PATH, INTERFACE, call)
}

/// How the job that an answer names ended, if a signal says that.
fn result_of(answer: &Message, signal: &Message) -> Option<String> {
    if signal.member != "JobRemoved" {
        return None;
    }
    let job = answer.arguments().string().ok()?;
    let mut arguments = signal.arguments();
    let (_number, of) = (arguments.u32().ok()?, arguments.string().ok()?);
    let (_unit, result) = (arguments.string().ok()?, arguments.string().ok()?);
    (of == job).then_some(result)
}

fn refusal(source: DbusError, call: &'static str, unit: &str) -> SystemdError {
    let DbusError::Call { name, message, .. } = source else {
        return SystemdError::Call { call, source };
    };
    match name.as_str() {
        "org.freedesktop.systemd1.UnitExists" => SystemdError::UnitExists {
            unit: unit.to_owned(),
        },
        "org.freedesktop.systemd1.NoSuchUnit" => SystemdError::NoSuchUnit { call, message },
        _ => SystemdError::Refused { call, message },
    }
}

#[cfg(test)]
mod tests;
