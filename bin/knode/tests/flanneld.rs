//! `flanneld` and `mk-docker-opts` as unit files start them, against Debian's etcd. Needs root.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use knode_netlink::{Address, Handle, LinkChange, Netns, VethSpec, add_address, add_veth, change_link};

const CONFIG: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

/// A machine with etcd, a network interface and a directory; it ends with the test.
struct Machine {
    netns: Netns,
    directory: PathBuf,
    children: Vec<Child>,
}

impl Machine {
    fn new(name: &str) -> Self {
        let netns = Netns::anonymous().expect("these tests need root (CAP_SYS_ADMIN)");
        let links = Handle::open_in(&netns).unwrap();
        let spec = VethSpec {
            name: "ens160",
            mtu: 1500,
            master: None,
            peer_name: "switch",
            peer_mac: None,
            peer_netns: None,
        };
        links.execute(add_veth(&spec)).unwrap();
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        for link in ["lo", "ens160", "switch"] {
            links.execute(change_link(link, &up)).unwrap();
        }
        let index = links.link("ens160").unwrap().unwrap().index;
        let net = "192.0.2.1/24".parse().unwrap();
        links.execute(add_address(&Address { index, net })).unwrap();
        let directory = std::env::temp_dir().join(format!("knode-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut machine = Self {
            netns,
            directory,
            children: Vec::new(),
        };
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir")
            .arg(machine.path("etcd"))
            .args(["--logger", "zap"]);
        machine.start(etcd.stdout(Stdio::null()).stderr(Stdio::null()));
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn start(&mut self, command: &mut Command) {
        let child = self.netns.run(|| command.spawn().unwrap()).unwrap();
        self.children.push(child);
    }

    /// The binary, called by a name.
    fn called(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_knode"));
        command.arg0(name).args(args).env_remove("NOTIFY_SOCKET");
        command
    }

    fn output(&self, name: &str, args: &[&str]) -> Output {
        let mut command = self.called(name, args);
        self.netns.run(|| command.output().unwrap()).unwrap()
    }

    /// Waits until a command does it.
    fn until(&self, name: &str, args: &[&str]) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let output = self.output(name, args);
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            assert!(
                Instant::now() < end,
                "{name} {args:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// What a health check hears.
fn healthz(machine: &Machine) -> String {
    let ask = || {
        let mut stream = TcpStream::connect("127.0.0.1:8471").unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    machine.netns.run(ask).unwrap()
}

#[test]
fn a_unit_file_of_today_starts_flanneld_and_docker_gets_its_options() {
    let mut machine = Machine::new("flanneld");
    let etcd = "-etcd-endpoints=http://127.0.0.1:1,http://127.0.0.1:2379";
    let prefix = "-etcd-prefix=/kubernetes/network";
    machine.until("knode", &["flanneld", "config", "set", CONFIG, etcd, prefix]);
    let get = ["flanneld", "config", "get", etcd, prefix];
    assert_eq!(machine.until("knode", &get), format!("{CONFIG}\n"));
    let nonsense = machine.output("knode", &["flanneld", "config", "set", "{}", etcd, prefix]);
    assert!(!nonsense.status.success());
    assert!(String::from_utf8_lossy(&nonsense.stderr).contains("Network"));

    let notify = UnixDatagram::bind(machine.path("notify")).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (env, log) = (machine.path("run/subnet.env"), machine.path("log"));
    let file = format!("-subnet-file={}", env.display());
    let mut daemon = machine.called("flanneld", &[etcd, prefix, "-iface=ens160", &file]);
    daemon
        .env("NOTIFY_SOCKET", machine.path("notify"))
        .env("FLANNELD_HEALTHZ_PORT", "8471")
        .stderr(std::fs::File::create(&log).unwrap());
    machine.start(&mut daemon);
    let mut told = [0; 64];
    let length = notify
        .recv(&mut told)
        .unwrap_or_else(|e| panic!("{e}; the log: {}", read(&log)));
    assert!(String::from_utf8_lossy(&told[..length]).contains("READY=1"));

    let text = read(&env);
    let subnet = text
        .lines()
        .find_map(|l| l.strip_prefix("FLANNEL_SUBNET="))
        .unwrap();
    let lines: Vec<_> = text.lines().map(|l| l.split_once('=').unwrap()).collect();
    let fixed = [("FLANNEL_NETWORK", "172.30.0.0/16"), ("FLANNEL_SUBNET", subnet)];
    assert_eq!(lines[..2], fixed);
    assert_eq!(lines[2..], [("FLANNEL_MTU", "1450"), ("FLANNEL_IPMASQ", "false")]);
    assert!(healthz(&machine).starts_with("HTTP/1.1 200"), "healthz");
    let leases = machine.until("knode", &["flanneld", "config", "leases", etcd, prefix]);
    let leased = subnet.replace(".1/", ".0-");
    assert!(
        leases.starts_with(&leased) && leases.contains("\"PublicIP\":\"192.0.2.1\""),
        "{leases}"
    );
    let acquired = format!("Lease acquired: {}", subnet.replace(".1/", ".0/"));
    let logged = read(&log);
    let line = logged.lines().find(|l| l.contains(&acquired));
    let line = line.unwrap_or_else(|| panic!("no {acquired:?} in {logged}"));
    assert!(line.starts_with('I') && line.contains("] Lease"), "{line}");

    let docker = machine.path("docker");
    let (from, to) = (env.to_str().unwrap(), docker.to_str().unwrap());
    machine.until(
        "mk-docker-opts.sh",
        &["-k", "DOCKER_NETWORK_OPTIONS", "-f", from, "-d", to],
    );
    let want = format!("DOCKER_NETWORK_OPTIONS=\" --bip={subnet} --ip-masq=true --mtu=1450\"");
    assert_eq!(read(&docker).lines().last(), Some(want.as_str()));
}

#[test]
fn wrong_flags_end_as_upstreams_do() {
    let machine = Machine::new("flanneld-flags");
    let output = machine.output("flanneld", &["-remote=x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("flag provided but not defined: -remote"));
    assert_eq!(machine.output("flanneld", &["-version"]).status.code(), Some(0));
    let interface = machine.output("flanneld", &["-iface=eth9"]);
    assert_eq!(interface.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&interface.stderr).contains("eth9"));
}

#[test]
fn an_engines_call_without_arguments_reaches_the_cni_plugin() {
    let call = |command: &str, conf: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_knode"))
            .env("CNI_COMMAND", command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(conf.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = call("VERSION", r#"{"cniVersion":"1.0.0"}"#);
    assert_eq!((code, &said["cniVersion"]), (Some(0), &"1.0.0".into()));
    let (code, said) = call("ADD", r#"{"cniVersion":"1.1.0","name":"pods"}"#);
    assert_eq!((code, &said["code"]), (Some(1), &4.into()), "{said}");
}
