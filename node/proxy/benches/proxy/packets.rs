//! First packets of connections: what connecting takes, through Services and without one.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::objects::{Cluster, PORT, TARGET_PORT, cluster_ip, endpoint_ips};
use crate::report::Report;

/// Connections through each address.
const ROUNDS: usize = 2000;

/// Gives the namespace's loopback interface every pod's address, and a way to the Services.
pub fn make_network() {
    for arguments in [
        "link set lo up",
        "address add 10.244.255.254/16 dev lo",
        "route add 10.96.0.0/12 dev lo",
    ] {
        let output = Command::new("ip").args(arguments.split(' ')).output();
        let output = output.expect("ip is installed (Debian: iproute2)");
        assert!(output.status.success(), "ip {arguments}: {output:?}");
    }
}

/// Connects in turn to an endpoint, through the first Service and through the last, whose table is `whose`.
pub fn measure(cluster: &Cluster, whose: &str, report: &mut Report) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, TARGET_PORT)).expect("listen");
    let endpoint = endpoint_ips(0, 0..1).next().expect("an endpoint");
    let ways = [
        (endpoint, TARGET_PORT),
        (cluster_ip(0), PORT),
        (cluster_ip(cluster.services - 1), PORT),
    ];
    let mut times = ways.map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for (way, times) in ways.iter().zip(&mut times) {
            times.push(connect(&listener, *way));
        }
    }
    let names = ["straight to an endpoint", "first service", "last service"];
    for (name, times) in names.iter().zip(times) {
        report.spread(&format!("{whose}: connecting, {name}: p50 / p99"), times);
    }
}

fn connect(listener: &TcpListener, to: (Ipv4Addr, u16)) -> Duration {
    let began = Instant::now();
    let stream = TcpStream::connect(to);
    let took = began.elapsed();
    let stream = stream.unwrap_or_else(|error| panic!("{to:?}: {error}"));
    let (accepted, _) = listener.accept().expect("accept");
    // Who closes first keeps the address pair for a minute: the listener has ports enough.
    drop(accepted);
    drop(stream);
    took
}
