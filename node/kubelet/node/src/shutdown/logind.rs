//! systemd-logind: holding up the machine's shutdown, and hearing of it (`org.freedesktop.login1`).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use knode_dbus::{Connection, DbusError, Kind, Message, Writer};

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const SIGNAL: &str = "PrepareForShutdown";

/// A connection with logind.
#[derive(Debug)]
pub(super) struct Logind(Connection);

/// Holds the shutdown up until it is dropped.
#[derive(Debug)]
pub(super) struct Inhibitor {
    _fd: OwnedFd,
}

impl Logind {
    /// Connects over the bus at `socket` and hears of shutdowns from then on.
    ///
    /// # Errors
    /// Those of the bus.
    pub(super) async fn open(socket: &Path) -> Result<Self, DbusError> {
        let mut bus = Connection::open(socket).await?;
        let rule = format!("type='signal',interface='{MANAGER}',member='{SIGNAL}',path='{PATH}'");
        bus.call_bus("AddMatch", &[&rule]).await?;
        Ok(Self(bus))
    }

    /// How long a shutdown can be held up at most.
    ///
    /// # Errors
    /// Those of the bus, as when there is no logind.
    pub(super) async fn longest_delay(&mut self) -> Result<Duration, DbusError> {
        let call =
            Message::call(NAME, PATH, PROPERTIES, "Get").with_strings(&[MANAGER, "InhibitDelayMaxUSec"]);
        let answer = self.0.call(call).await?.message;
        let mut arguments = answer.arguments();
        let micros = arguments.signature().and_then(|_| arguments.u64());
        micros.map(Duration::from_micros).map_err(DbusError::Malformed)
    }

    /// Lets logind read its configuration again, in which the longest delay stands.
    ///
    /// # Errors
    /// Those of the bus.
    pub(super) async fn reload(&mut self) -> Result<(), DbusError> {
        const SIGHUP: u32 = 1;
        let mut call = Message::call(
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "KillUnit",
        );
        let mut writer = Writer::default();
        writer.string("systemd-logind.service");
        writer.string("all");
        writer.u32(SIGHUP);
        call.signature = "ssi".to_owned();
        call.body = writer.0;
        self.0.call(call).await.map(drop)
    }

    /// Holds up the shutdown, for as long as logind lets it.
    ///
    /// # Errors
    /// Those of the bus; a lock without a descriptor is refused as well.
    pub(super) async fn inhibit(&mut self) -> Result<Inhibitor, DbusError> {
        let call = Message::call(NAME, PATH, MANAGER, "Inhibit").with_strings(&[
            "shutdown",
            "kubelet",
            "Kubelet needs time to handle node shutdown",
            "delay",
        ]);
        let answer = self.0.call(call).await?;
        let fd = answer.fds.into_iter().next();
        let missing = DbusError::NoDescriptor { member: "Inhibit" };
        Ok(Inhibitor {
            _fd: fd.ok_or(missing)?,
        })
    }

    /// Waits until a shutdown begins (true) or is called off (false).
    ///
    /// # Errors
    /// Those of the bus, as when it ends.
    pub(super) async fn changed(&mut self) -> Result<bool, DbusError> {
        loop {
            let message = self.0.next().await?.message;
            if message.kind == Kind::Signal && message.member == SIGNAL && message.interface == MANAGER {
                let begins = message.arguments().u32().map_err(DbusError::Malformed)?;
                return Ok(begins != 0);
            }
        }
    }
}
