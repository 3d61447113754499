//! Pod to pod on one node by iperf3, beside a bare cable between two namespaces, one stream. Prints one line a way and
//! the ratio. Needs root and iperf3; `cargo bench -p knode-podnet --bench throughput`, with `-- --quick` for a second.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnet::IpNet;
use knode_netlink::{Address, Handle, LinkChange, Netns, VethSpec, add_address, add_veth, change_link};
use knode_podnet::{AddRequest, Config, PodNet, Subnet};
use knode_testkit::{Host, Process, Scratch, wait_until};
use tokio::sync::watch;

const MTU: u32 = 1450;

fn main() {
    let seconds = if std::env::args().any(|a| a == "--quick") {
        "1"
    } else {
        "10"
    };
    let bare = cable(seconds);
    println!("bare cable            {bare:>7.2} Gbit/s");
    for family in ["IPv4", "IPv6"] {
        let pods = pods(family, seconds);
        println!(
            "pod to pod, {family}      {pods:>7.2} Gbit/s, {:.2} of the cable",
            pods / bare
        );
    }
}

/// Two namespaces and nothing between them but a cable.
fn cable(seconds: &str) -> f64 {
    let (one, other) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    let spec = VethSpec {
        name: "eth0",
        mtu: MTU,
        master: None,
        peer_name: "eth0",
        peer_mac: None,
        peer_netns: Some(&other),
    };
    let handle = Handle::open_in(&one).unwrap();
    handle.execute(add_veth(&spec)).unwrap();
    for (netns, net) in [(&one, "192.0.2.1/24"), (&other, "192.0.2.2/24")] {
        let handle = Handle::open_in(netns).unwrap();
        let index = handle.link("eth0").unwrap().unwrap().index;
        let net: IpNet = net.parse().unwrap();
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        let requests = vec![change_link(index, &up), add_address(&Address { index, net })];
        handle.execute_each(requests).unwrap();
    }
    gigabits(&one, &other, "192.0.2.2".parse().unwrap(), seconds)
}

/// Two pods of one node.
fn pods(family: &str, seconds: &str) -> f64 {
    let (host, scratch) = (Host::new("node"), Scratch::new("bench-throughput"));
    let (one, other) = (Netns::anonymous().unwrap(), Netns::anonymous().unwrap());
    let ip = host.block_on(async || {
        let subnet = Subnet {
            ipv4: "172.30.65.0/24".parse().ok(),
            ipv6: "fd00:0:0:65::/64".parse().ok(),
            mtu: MTU,
        };
        let (_, receiver) = watch::channel(Some(subnet));
        let net = PodNet::open(Config::new(scratch.join("leases")), receiver).unwrap();
        net.add(AddRequest::new("one", path(&one))).await.unwrap();
        let ips = net.add(AddRequest::new("other", path(&other))).await.unwrap().ips;
        ips[usize::from(family == "IPv6")]
    });
    gigabits(&one, &other, ip, seconds)
}

fn path(netns: &Netns) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", netns.as_raw_fd())
}

fn gigabits(from: &Netns, to: &Netns, ip: IpAddr, seconds: &str) -> f64 {
    let mut server = Command::new("iperf3");
    server.args(["-s", "-1", "--forceflush"]);
    let server = to.run(|| Process::spawn("iperf3", server)).unwrap();
    wait_until("iperf3 to listen", Duration::from_secs(10), || {
        server.output().contains("Server listening")
    });
    let client = || {
        Command::new("iperf3")
            .args(["-J", "-t", seconds, "-c", &ip.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .expect("iperf3 is installed")
    };
    let output = from.run(client).unwrap();
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let bits = result["end"]["sum_received"]["bits_per_second"].as_f64();
    bits.unwrap_or_else(|| panic!("{}: {result}", Path::new("iperf3").display())) / 1e9
}
