//! Hosts as network namespaces. None has a way out: no default route, nothing but what the test connects.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

use crate::process::Process;
use crate::wait::wait_until;

/// How long the kernel may take to take an address up.
const USABLE: Duration = Duration::from_secs(10);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network namespace with its loopback up.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: File,
    /// The bind mount in `/run/netns`, when it is a named one.
    mount: Option<PathBuf>,
}

impl Host {
    /// A host without a name in the file system; it goes with the last process or file in it.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        crate::require_root();
        let host = Self {
            name: name.to_owned(),
            namespace: new_namespace(),
            mount: None,
        };
        host.ip("link set lo up");
        host
    }

    /// A host that is also known as `/run/netns/<name>`, as `ip netns` makes them.
    ///
    /// # Panics
    /// When it cannot be made or the name is taken.
    #[track_caller]
    pub fn named(name: &str) -> Self {
        let mut host = Self::new(name);
        let path = Path::new("/run/netns").join(name);
        let mount = || {
            std::fs::create_dir_all("/run/netns")?;
            File::create_new(&path)?;
            let none: Option<&str> = None;
            let flags = nix::mount::MsFlags::MS_BIND;
            nix::mount::mount(Some(host.path().as_path()), &path, none, flags, none)
                .map_err(std::io::Error::from)
        };
        mount().unwrap_or_else(|error| panic!("cannot name host {name}: {error}"));
        host.mount = Some(path);
        host
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path to the namespace, valid as long as this value lives.
    pub fn path(&self) -> PathBuf {
        self.mount.clone().unwrap_or_else(|| {
            PathBuf::from(format!(
                "/proc/{}/fd/{}",
                std::process::id(),
                self.namespace.as_raw_fd()
            ))
        })
    }

    /// A command that runs in the namespace. Arguments and the rest are set on the answer.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program.as_ref());
        command
    }

    /// Starts a process in the namespace.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(&self, name: &str, program: impl AsRef<Path>, arguments: &[&str]) -> Process {
        let mut command = self.command(program);
        command.args(arguments);
        Process::spawn(name, command)
    }

    /// Runs a program to its end and answers what it printed.
    ///
    /// # Panics
    /// When it cannot be started or fails.
    #[track_caller]
    pub fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> String {
        let shown = format!("{} {}", program.as_ref().display(), arguments.join(" "));
        let output = self.command(program).args(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("{}: cannot run {shown}: {error}", self.name));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {shown}: {}: {errors}",
            self.name,
            output.status
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a function on a thread in the namespace. Sockets that it opens, and threads that it starts, are there.
    ///
    /// # Panics
    /// With the function, or when the namespace cannot be entered.
    #[track_caller]
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.namespace, CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|error| panic!("cannot enter host {}: {error}", self.name));
            function()
        };
        let outcome = std::thread::scope(|scope| scope.spawn(inside).join());
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// [`Host::enter`] with an asynchronous function, on a runtime of its own.
    ///
    /// # Panics
    /// As [`Host::enter`].
    #[track_caller]
    pub fn block_on<T: Send>(&self, function: impl AsyncFnOnce() -> T + Send) -> T {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| panic!("cannot start a runtime: {error}"));
            runtime.block_on(function())
        })
    }

    /// `ip` with the words of `arguments`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        self.run("ip", &arguments.split_whitespace().collect::<Vec<_>>())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(path) = &self.mount else { return };
        if let Err(error) = knode_linux::overlay::unmount_all(path).and_then(|()| std::fs::remove_file(path))
        {
            eprintln!("host {}: cannot remove {}: {error}", self.name, path.display());
        }
    }
}

/// A switch that hosts are plugged into, in a namespace of its own.
#[derive(Debug)]
pub struct Lan {
    switch: Host,
}

impl Lan {
    /// Makes the switch.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn new() -> Self {
        let switch = Host::new("switch");
        switch.ip("link add br0 type bridge");
        switch.ip("link set br0 up");
        Self { switch }
    }

    /// Plugs a host in: it gets a link `eth0` with this address. No route leads further than the prefix.
    ///
    /// # Panics
    /// When it cannot be plugged in.
    #[track_caller]
    pub fn plug(&self, host: &Host, address: Ipv4Addr, prefix: u8) {
        let port = format!("p{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let peer = host.path();
        let peer = peer.display();
        self.switch.run(
            "ip",
            &[
                "link",
                "add",
                &port,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                &peer.to_string(),
            ],
        );
        self.switch.ip(&format!("link set {port} master br0 up"));
        host.ip(&format!("address add {address}/{prefix} dev eth0"));
        // An address that appears by itself, a second later, would look like something left behind.
        host.ip("link set eth0 addrgenmode none");
        host.ip("link set eth0 up");
    }

    /// Gives a host that is plugged in an IPv6 address too, usable at once.
    ///
    /// # Panics
    /// When it can't have it.
    #[track_caller]
    pub fn number(&self, host: &Host, address: Ipv6Addr, prefix: u8) {
        host.ip(&format!("-6 address add {address}/{prefix} dev eth0 nodad"));
        // The kernel takes the address up a moment later.
        wait_until(&format!("{address} to be usable"), USABLE, || {
            let routes = host.ip("-6 route show table local");
            let usable = routes.contains(&format!("local {address} "));
            if usable { Ok(()) } else { Err(routes) }
        });
    }

    /// Makes a host and plugs it in.
    ///
    /// # Panics
    /// As [`Lan::plug`].
    #[track_caller]
    pub fn host(&self, name: &str, address: Ipv4Addr, prefix: u8) -> Host {
        let host = Host::new(name);
        self.plug(&host, address, prefix);
        host
    }

    /// The switch itself, to look at traffic.
    pub fn switch(&self) -> &Host {
        &self.switch
    }
}

impl Default for Lan {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

#[track_caller]
fn new_namespace() -> File {
    let make = || -> std::io::Result<File> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    };
    let made = std::thread::spawn(make)
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("the thread panicked")));
    made.unwrap_or_else(|error| panic!("cannot make a network namespace: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn hosts_of_one_lan_reach_each_other_and_nothing_else() {
        let lan = Lan::new();
        let (one, two) = ([10, 99, 0, 1].into(), [10, 99, 0, 2].into());
        let (first, second) = (lan.host("first", one, 24), lan.host("second", two, 24));
        let listener = first.enter(|| TcpListener::bind((one, 80))).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, from) = listener.accept().unwrap();
            std::io::Write::write_all(&mut stream, from.ip().to_string().as_bytes()).unwrap();
        });
        let mut answer = String::new();
        second
            .enter(|| TcpStream::connect((one, 80)).unwrap().read_to_string(&mut answer))
            .unwrap();
        server.join().unwrap();
        assert_eq!(answer, "10.99.0.2");
        assert_eq!(second.ip("route show default"), "");
        let outside = second.enter(|| TcpStream::connect(("192.0.2.1", 80)));
        assert_eq!(
            outside.unwrap_err().kind(),
            std::io::ErrorKind::NetworkUnreachable
        );
    }

    #[test]
    fn a_named_host_goes_with_its_value() {
        let name = format!("knode-test-{}", std::process::id());
        let host = Host::named(&name);
        assert!(
            Command::new("ip")
                .args(["netns", "exec", &name, "true"])
                .status()
                .unwrap()
                .success()
        );
        let path = host.path();
        drop(host);
        assert!(!path.exists());
    }
}
