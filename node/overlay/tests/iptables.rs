//! Hosts whose iptables drop what they forward, as dockerd leaves them. Needs root and iptables.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Cluster, Fabric, Host, eventually, ping};
use knode_overlay::{NetConf, teardown};

const SOON: Duration = Duration::from_secs(5);
const BRIEF: Duration = Duration::from_millis(200);
const KINDS: [&str; 2] = ["nft", "legacy"];

fn conf() -> NetConf {
    NetConf::vxlan("172.30.0.0/16".parse().unwrap()).with_ipv6("fd00::/48".parse().unwrap())
}

/// Runs `iptables-KIND` or `ip6tables-KIND`, or the same with `-save`.
fn run(host: &Host, program: &str, arguments: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace());
    let output = host.netns.run(|| command.output()).unwrap();
    let output = output.expect("these tests need Debian's iptables");
    assert!(output.status.success(), "{program} {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The rules of a kind in both families.
fn saved(host: &Host, kind: &str) -> String {
    let save = |program: &str| run(host, &format!("{program}-{kind}-save"), "-t filter");
    let lines = save("iptables") + &save("ip6tables");
    let rules = lines
        .lines()
        .filter(|l| l.starts_with("-A") || l.starts_with(':'));
    let counts = |line: &str| line.split(" [").next().unwrap_or_default().to_owned();
    rules.map(counts).collect::<Vec<_>>().join("\n")
}

fn drop_forwarded(host: &Host, kind: &str) {
    for program in ["iptables", "ip6tables"] {
        run(host, &format!("{program}-{kind}"), "-P FORWARD DROP");
        run(
            host,
            &format!("{program}-{kind}"),
            "-A FORWARD -i docker0 -j ACCEPT",
        );
    }
}

fn flows(kind: &str, before: bool) {
    let (fabric, cluster) = (Fabric::new(), Cluster::with_nodes([1, 2]));
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    if before {
        drop_forwarded(&a, kind);
    }
    let hosts = saved(&a, kind);
    let one = a.start_ready(conf(), cluster.store(1));
    let two = b.start_ready(conf(), cluster.store(2));
    let (here, there) = (a.pod(one, 2), b.pod(two, 2));
    if !before {
        assert_eq!(
            saved(&a, kind),
            hosts,
            "where nothing is dropped nothing is touched"
        );
        drop_forwarded(&a, kind);
    }
    for to in there.ips() {
        let answer = || ping(&here.netns, to, 1000, BRIEF);
        eventually("an answer", SOON, answer, || format!("{to}: {}", saved(&a, kind)));
    }
    let with = saved(&a, kind);
    assert_eq!(with.matches("-A FLANNEL-FWD").count(), 4, "{with}");
    assert!(
        with.contains("-A FORWARD -i docker0 -j ACCEPT"),
        "the host's rules stay: {with}"
    );
    a.kill();
    a.start_ready(conf(), cluster.store(1));
    assert_eq!(saved(&a, kind), with, "nothing is doubled by a restart");
    a.kill();
    let file = a.subnet_file();
    let errors = a.netns.run(|| teardown(&conf(), &file)).unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    let left = saved(&a, kind);
    assert!(!left.contains("FLANNEL") && left.contains("docker0"), "{left}");
}

#[test]
fn forwarding_that_was_dropped_before_is_let_through() {
    for kind in KINDS {
        flows(kind, true);
    }
}

#[test]
fn forwarding_that_is_dropped_later_is_let_through() {
    // Of the legacy kind the kernel tells nobody.
    flows("nft", false);
}
