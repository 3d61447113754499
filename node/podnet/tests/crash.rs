//! A process that connects pods is killed in the middle of its work, again and again. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeSet, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{Pod, TempDir, link_names, on_host, request};
use knode_netlink::Handle;
use knode_podnet::{AddRequest, Bandwidth, PodNet, PortMapping, Protocol, RateLimit};

/// Where the process that is to be killed keeps its leases.
const VICTIM: &str = "KNODE_PODNET_VICTIM";
const PODS: usize = 4;

fn open(dir: &TempDir) -> PodNet {
    let subnet = common::subnet(Some("172.30.65.0/24"), Some("fd00:0:0:65::/64"), 1450);
    common::open(dir, subnet)
}

/// A pod with all that can be left behind.
fn full(number: usize, pod: &Pod) -> AddRequest {
    AddRequest {
        port_mappings: vec![PortMapping {
            protocol: Protocol::Tcp,
            host_port: 8000 + number as u16,
            container_port: 80,
            host_ip: None,
        }],
        bandwidth: Bandwidth {
            ingress: None,
            egress: Some(RateLimit::of(1_000_000_000)),
        },
        ..request(&format!("p{number}"), pod)
    }
}

/// Not a test of its own: adds and removes pods until it is killed, and tells what it has done.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(VICTIM) else {
        return;
    };
    let dir = TempDir(PathBuf::from(directory));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async {
        let net = open(&dir);
        let pods: Vec<_> = (0..PODS).map(|_| Pod::new()).collect();
        let mut out = std::io::stdout();
        for step in 0.. {
            let number = step % PODS;
            net.remove(&format!("p{number}")).await.unwrap();
            let got = net.add(full(number, &pods[number])).await.unwrap();
            writeln!(out, "p{number} {}", got.ips[0]).unwrap();
            out.flush().unwrap();
        }
    });
}

/// Kills a process that has connected so many pods.
fn kill_after(dir: &TempDir, pods: usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, &dir.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told = lines.map(Result::unwrap).filter(|l| l.starts_with('p'));
    let told: Vec<_> = told.take(pods).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        told.len(),
        pods,
        "the process to be killed ended by itself: {told:?}"
    );
}

#[test]
fn whatever_a_killed_process_left_is_taken_up_or_removed() {
    let dir = TempDir::new();
    on_host(|| async {
        let host = Handle::open().unwrap();
        for round in 0..6 {
            kill_after(&dir, 3 + round);
            let net = open(&dir);
            let leases = net.leases();
            let distinct: BTreeSet<_> = leases.iter().map(|(ip, _)| ip).collect();
            assert_eq!(distinct.len(), leases.len(), "{leases:?}");
            assert!(leases.len() <= 2 * PODS, "{leases:?}");

            // A pod that lives on keeps its address whatever the others left.
            let pod = Pod::new();
            let mine = net.add(full(PODS, &pod)).await.unwrap();
            let taken = |ip: &std::net::IpAddr| leases.iter().any(|(other, _)| other == ip);
            assert!(!mine.ips.iter().any(taken), "{mine:?} of {leases:?}");
            let live = HashSet::from([format!("p{PODS}")]);
            net.gc(live).await.unwrap();
            assert_eq!(net.leases().len(), 2, "round {round}");
            assert_eq!(
                link_names(&host).len(),
                3,
                "round {round}: {:?}",
                link_names(&host)
            );
            // Its port was not freed with those of the dead, whose ports are free.
            let again = net.add(full(0, &Pod::new())).await;
            assert!(again.is_ok(), "round {round}: {again:?}");
            net.gc(HashSet::new()).await.unwrap();
            assert_eq!(net.leases(), []);
            assert_eq!(link_names(&host), ["cni0"], "round {round}");
        }
    });
}
