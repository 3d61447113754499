//! A logind that a test commands, on a real message bus (Debian's package dbus-daemon).

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use knode_dbus::{Connection, Kind, Message, Writer};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::until;

/// The bus, and logind on it. Both end with it.
pub struct Logind {
    bus: Child,
    directory: PathBuf,
    commands: mpsc::UnboundedSender<bool>,
    /// The other end of the lock that was given last.
    lock: Arc<Mutex<Option<PipeReader>>>,
    task: JoinHandle<()>,
}

impl Logind {
    /// Starts both below a directory. Shutdowns are held up for five seconds at most, until it is told otherwise.
    pub async fn start(directory: &Path) -> Self {
        let file = directory.join("bus.conf");
        let socket = directory.join("bus");
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN' \
             'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'>\n<busconfig><type>session</type>\
             <listen>unix:path={}</listen><policy context='default'><allow send_destination='*'/>\
             <allow receive_sender='*'/><allow own='*'/></policy></busconfig>",
            socket.display()
        );
        std::fs::write(&file, config).unwrap();
        let bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", file.display()))
            .args(["--nofork", "--nopidfile"])
            .stdout(Stdio::null())
            .spawn()
            .expect("the package dbus-daemon is needed");
        until(
            "the bus",
            || if socket.exists() { Ok(()) } else { Err("no socket") },
        )
        .await;
        let (commands, receiver) = mpsc::unbounded_channel();
        let lock = Arc::new(Mutex::new(None));
        let mut connection = connected(&socket).await;
        for name in ["org.freedesktop.login1", "org.freedesktop.systemd1"] {
            own(&mut connection, name).await;
        }
        let fake = Fake {
            connection,
            commands: receiver,
            lock: lock.clone(),
            drop_in: directory.join("99-kubelet.conf"),
            longest: Duration::from_secs(5),
        };
        Self {
            bus,
            directory: directory.to_owned(),
            commands,
            lock,
            task: tokio::spawn(fake.run()),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("bus")
    }

    pub fn drop_in(&self) -> PathBuf {
        self.directory.join("99-kubelet.conf")
    }

    /// Says that a shutdown begins, or is called off.
    pub fn shutdown(&self, begins: bool) {
        self.commands.send(begins).unwrap();
    }

    /// Whether somebody holds the shutdown up.
    pub fn is_held(&self) -> bool {
        let mut lock = self.lock.lock().unwrap();
        let Some(reader) = lock.as_mut() else { return false };
        let flags = rustix::fs::fcntl_getfl(&*reader).unwrap();
        rustix::fs::fcntl_setfl(&*reader, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        // At the end nobody has the other end any more.
        !matches!(reader.read(&mut [0]), Ok(0))
    }

    /// Waits until somebody does, or nobody does.
    pub async fn until_held(&self, held: bool) {
        until("the lock", || {
            if self.is_held() == held {
                Ok(())
            } else {
                Err(!held)
            }
        })
        .await;
    }
}

impl Drop for Logind {
    fn drop(&mut self) {
        self.task.abort();
        // One that has ended already is fine.
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

async fn connected(socket: &Path) -> Connection {
    for _ in 0..200 {
        match Connection::open(socket).await {
            Ok(connection) => return connection,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("the bus does not answer")
}

async fn own(connection: &mut Connection, name: &str) {
    let mut call = Message::call(
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
        "RequestName",
    );
    let mut writer = Writer::default();
    writer.string(name);
    writer.u32(0);
    call.signature = "su".to_owned();
    call.body = writer.0;
    connection.call(call).await.unwrap();
}

struct Fake {
    connection: Connection,
    commands: mpsc::UnboundedReceiver<bool>,
    lock: Arc<Mutex<Option<PipeReader>>>,
    drop_in: PathBuf,
    longest: Duration,
}

impl Fake {
    async fn run(mut self) {
        loop {
            tokio::select! {
                Some(begins) = self.commands.recv() => self.signal(begins).await,
                received = self.connection.next() => match received {
                    Ok(received) if received.message.kind == Kind::Call => self.answer(&received.message).await,
                    Ok(_) => {}
                    Err(_) => return,
                },
            }
        }
    }

    async fn signal(&mut self, begins: bool) {
        let mut signal = Message::new(Kind::Signal);
        signal.path = "/org/freedesktop/login1".to_owned();
        signal.interface = "org.freedesktop.login1.Manager".to_owned();
        signal.member = "PrepareForShutdown".to_owned();
        signal.signature = "b".to_owned();
        let mut writer = Writer::default();
        writer.u32(begins.into());
        signal.body = writer.0;
        self.connection.send(signal, &[]).await.unwrap();
    }

    async fn answer(&mut self, call: &Message) {
        let mut answer = Message::new(Kind::Return);
        answer.reply_to = call.serial;
        answer.destination = call.sender.clone();
        let mut writer = Writer::default();
        match call.member.as_str() {
            "Get" => {
                writer.signature("t");
                writer.u64(u64::try_from(self.longest.as_micros()).unwrap());
                answer.signature = "v".to_owned();
            }
            "Inhibit" => {
                let mut arguments = call.arguments();
                let asked: Vec<String> = (0..4).map(|_| arguments.string().unwrap()).collect();
                assert_eq!((&*asked[0], &*asked[3]), ("shutdown", "delay"));
                let (reader, held) = std::io::pipe().unwrap();
                *self.lock.lock().unwrap() = Some(reader);
                writer.u32(0);
                answer.signature = "h".to_owned();
                answer.body = writer.0;
                self.connection.send(answer, &[held.as_fd()]).await.unwrap();
                return;
            }
            "KillUnit" => {
                let text = std::fs::read_to_string(&self.drop_in).unwrap();
                let told = text
                    .lines()
                    .find_map(|line| line.strip_prefix("InhibitDelayMaxSec="));
                self.longest = Duration::from_secs(told.unwrap().parse().unwrap());
            }
            other => panic!("{other} is not expected"),
        }
        answer.body = writer.0;
        self.connection.send(answer, &[]).await.unwrap();
    }
}
