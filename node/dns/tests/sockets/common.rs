//! Servers in a host of their own, asked by dig.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::process::Command;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hickory_proto::rr::Name;
use knode_dns::forward::{CacheLimits, Forwarder, Stub};
use knode_dns::model::{Addresses, Endpoint, Model, Port, Protocol, Service, Slice};
use knode_dns::zone::Zone;
use knode_dns::{Server, SharedModel};
use knode_testkit::{Host, Process, wait_until};
use tokio::net::{TcpListener, UdpSocket};

/// How long anything may take.
pub const BOUND: Duration = Duration::from_secs(20);

/// Where the server listens.
pub const OURS: &str = "127.0.0.1";

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn at(address: &str) -> SocketAddr {
    SocketAddr::new(ip(address), 53)
}

pub fn zone() -> Zone {
    Zone {
        origin: Name::from_ascii("cluster.local.").expect("a name"),
        ttl: 30,
        own_ips: vec![ip(OURS)],
    }
}

/// A Service `web` with an address, a headless one `many` with endpoints, `out` for www.example.com.
pub fn model(endpoints: u16) -> Model {
    let port = Port {
        name: "http".into(),
        protocol: Protocol::Tcp,
        number: NonZeroU16::new(80),
    };
    let mut model = Model::default();
    model.add_namespace("ns");
    let own = Addresses::Cluster([ip("10.254.0.10"), ip("fd00:254::a")].into());
    let out = Addresses::External("www.example.com".into());
    model.set_service("ns/web", Some(Service::new(own, [port.clone()])));
    model.set_service("ns/many", Some(Service::new(Addresses::Headless, [port.clone()])));
    model.set_service("ns/out", Some(Service::new(out, [])));
    let endpoint = |n: u16| {
        let [high, low] = n.to_be_bytes();
        Endpoint::new(IpAddr::from([172, 30, high, low]), None)
    };
    let slice = Slice::new([port], (1..=endpoints).map(endpoint));
    model.set_slice("ns/many-1", Some(("ns/many", slice)));
    model
}

/// Serves in the current network namespace as long as the runtime lives. `looks`: for servers that lead back.
pub async fn serve(
    address: &str,
    model: SharedModel,
    stubs: &[Stub],
    servers: &[SocketAddr],
    looks: bool,
) -> Arc<Forwarder> {
    let forwarder = Arc::new(Forwarder::new(stubs, servers, CacheLimits::default()));
    let server = Arc::new(Server::new(zone(), model, forwarder.clone(), true));
    let socket = UdpSocket::bind(at(address)).await.expect("bind by UDP");
    let listener = TcpListener::bind(at(address)).await.expect("bind by TCP");
    tokio::spawn(server.clone().serve_udp(socket));
    tokio::spawn(server.serve_tcp(listener));
    if looks {
        forwarder.look_for_loops();
    }
    forwarder
}

pub fn shared(model: Model) -> SharedModel {
    Arc::new(RwLock::new(model))
}

/// What dig prints.
pub fn dig(host: &Host, arguments: &str) -> String {
    let mut command: Command = host.command("dig");
    command
        .args(["+tries=1", "+time=8", "@127.0.0.1"])
        .args(arguments.split_whitespace());
    let output = command
        .output()
        .expect("dig is installed (Debian: bind9-dnsutils)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The answers' values alone, sorted.
pub fn short(host: &Host, arguments: &str) -> Vec<String> {
    let mut lines: Vec<String> = dig(host, &format!("+short {arguments}"))
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort_unstable();
    lines
}

#[track_caller]
pub fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

/// dnsmasq with these names, on an address of the host.
pub fn dnsmasq(host: &Host, address: &str, records: &[&str]) -> Process {
    let listen = format!("--listen-address={address}");
    let mut arguments = vec![
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        &listen,
        "--log-queries",
        "--log-facility=-",
        "--user=root",
        "--pid-file=",
        "--local-ttl=20",
        "--cache-size=0",
        "--address=/alive.test/",
    ];
    arguments.extend(records);
    let process = host.spawn("dnsmasq", "dnsmasq", &arguments);
    wait_until("dnsmasq to answer", BOUND, || {
        let mut command = host.command("dig");
        command.args(["+tries=1", "+time=1", &format!("@{address}"), "alive.test", "TXT"]);
        let output = command.output().expect("dig is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("status:") {
            Ok(())
        } else {
            Err(format!("{text}\n{}", process.output()))
        }
    });
    process
}
