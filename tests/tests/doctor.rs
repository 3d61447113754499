//! `knode doctor` on a machine with real faults: it finds them, says what to do, and that helps.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use knode_e2e::{Output, binary};
use knode_testkit::{Host, Lan, Scratch};
use serde_json::Value;

struct Machine {
    host: Host,
    scratch: Scratch,
    _lan: Lan,
}

impl Machine {
    fn new() -> Self {
        let lan = Lan::new();
        let host = lan.host("doctor", [10, 99, 0, 1].into(), 24);
        host.ip("route add default via 10.99.0.254");
        Self {
            host,
            scratch: Scratch::new("doctor"),
            _lan: lan,
        }
    }

    fn doctor(&self, options: &[&str]) -> Output {
        let mut command = self.host.command(binary());
        command
            .arg("doctor")
            .arg("--data-dir")
            .arg(self.scratch.join("data"))
            .args(options);
        Output::of(&mut command)
    }

    /// What is found, by check.
    fn findings(&self, options: &[&str]) -> BTreeMap<String, Value> {
        let told = self.doctor(&[&["-o", "json"], options].concat());
        let found: Vec<Value> = serde_json::from_str(&told.stdout).unwrap_or_else(|e| panic!("{e}: {told}"));
        let failed = found.iter().any(|finding| finding["status"] == "fail");
        assert_eq!(told.code, i32::from(failed), "{told}");
        let by_check = |finding: Value| (finding["check"].as_str().unwrap().to_owned(), finding);
        found.into_iter().map(by_check).collect()
    }
}

/// The finding whose check begins so.
#[track_caller]
fn of<'a>(findings: &'a BTreeMap<String, Value>, check: &str) -> &'a Value {
    let found = findings.iter().find(|(name, _)| name.starts_with(check));
    found.unwrap_or_else(|| panic!("no {check:?} in {findings:#?}")).1
}

#[track_caller]
fn is(findings: &BTreeMap<String, Value>, check: &str, status: &str, words: &str) -> String {
    let finding = of(findings, check);
    assert_eq!(finding["status"], status, "{finding:#}");
    let text = format!("{finding}");
    assert!(text.contains(words), "{words:?} in {finding:#}");
    finding["mend"].as_str().unwrap_or_default().to_owned()
}

fn setting(key: &str) -> String {
    fs::read_to_string(Path::new("/proc/sys").join(key.replace('.', "/"))).unwrap_or_default()
}

#[test]
fn faults_are_found_and_the_mends_help() {
    let machine = Machine::new();
    let sound = machine.findings(&[]);
    for check in [
        "port 10250/tcp",
        "port 8472/udp",
        "address ranges",
        "firewall",
        "overlayfs",
        "vxlan",
        "nf_tables",
    ] {
        is(&sound, check, "ok", "");
    }
    is(&sound, "MTU", "ok", "1500");

    // A port held, and by whom.
    let held = machine.host.enter(|| TcpListener::bind("0.0.0.0:10250").unwrap());
    let found = machine.findings(&[]);
    is(
        &found,
        "port 10250/tcp",
        "fail",
        &format!("process {}", std::process::id()),
    );
    drop(held);

    // A network that is somebody else's.
    machine.host.ip("route add 172.30.5.0/24 via 10.99.0.7");
    machine.host.ip("route add 10.254.128.0/17 via 10.99.0.7");
    is(&machine.findings(&[]), "address ranges", "fail", "172.30.5.0/24");
    let elsewhere = machine.findings(&["--pod-cidr", "172.29.0.0/16"]);
    is(&elsewhere, "address ranges", "fail", "service CIDR 10.254.0.0/16");
    let elsewhere = machine.findings(&["--pod-cidr", "172.29.0.0/16", "--service-cidr", "10.253.0.0/16"]);
    is(&elsewhere, "address ranges", "ok", "");

    settings_are_mended(&machine);
    filters_are_opened(&machine);
    others_are_asked(&machine);
    small_packets(&machine);
}

fn settings_are_mended(machine: &Machine) {
    let keys = ["net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter"];
    machine.host.enter(|| {
        for (key, value) in keys.iter().zip(["0", "1"]) {
            fs::write(Path::new("/proc/sys").join(key.replace('.', "/")), value).unwrap();
        }
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 60999").unwrap();
    });
    let found = machine.findings(&[]);
    is(&found, keys[0], "warn", "0, not 1");
    is(&found, keys[1], "warn", "strict");
    is(&found, "net.ipv4.ip_local_reserved_ports", "warn", "30000-32767");
    // Only what belongs to this network namespace may be mended by a test.
    let global = found.values().filter(|finding| {
        let key = finding["fix"]["setting"]["key"].as_str().unwrap_or("net.ipv4.");
        !key.starts_with("net.ipv4.")
    });
    if global.count() == 0 {
        let told = machine.doctor(&["--fix"]);
        assert!(told.stderr.contains("fixed net.ipv4.ip_forward"), "{told}");
    } else {
        let mends = found
            .values()
            .filter_map(|finding| finding["fix"]["setting"].as_object());
        for fix in mends.filter(|fix| fix["key"].as_str().unwrap().starts_with("net.ipv4.")) {
            let file = Path::new("/proc/sys").join(fix["key"].as_str().unwrap().replace('.', "/"));
            machine
                .host
                .enter(|| fs::write(file, fix["value"].as_str().unwrap()).unwrap());
        }
    }
    let (forward, filter) = machine.host.enter(|| (setting(keys[0]), setting(keys[1])));
    assert_eq!((forward.trim(), filter.trim()), ("1", "2"));
    let mended = machine.findings(&[]);
    for key in [keys[0], keys[1], "net.ipv4.ip_local_reserved_ports"] {
        is(&mended, key, "ok", "");
    }
}

/// Everything that the findings about filters say is done, until there are none.
#[track_caller]
fn open(machine: &Machine, options: &[&str]) -> usize {
    for turn in 0..10 {
        let found = machine.findings(options);
        let closed = found.values().find(|finding| {
            finding["check"].as_str().unwrap().starts_with("firewall") && finding["status"] != "ok"
        });
        let Some(closed) = closed else { return turn };
        let mend = closed["mend"].as_str().unwrap();
        let told = Output::of(machine.host.command("sh").args(["-c", mend]));
        assert_eq!(told.code, 0, "{mend}: {told}");
    }
    panic!("still closed: {:#?}", machine.findings(options));
}

fn filters_are_opened(machine: &Machine) {
    let nft = |script: &str| {
        machine.host.run("nft", &[script]);
    };
    // As a careful person writes it: what is known passes, all else is dropped.
    nft("table inet fence {
      set ports { type inet_service; elements = { 22, 10250 }; }
      chain in { type filter hook input priority 0; policy drop;
        ct state established,related accept; iif lo accept; ip protocol icmp accept;
        tcp dport @ports accept; ip saddr 10.99.0.0/24 tcp dport 6443 accept; }
      chain through { type filter hook forward priority 0; policy drop; ct state established accept; }
    }");
    let found = machine.findings(&["--server"]);
    let mend = is(
        &found,
        "firewall 8472/udp",
        "fail",
        "table inet fence, chain in: policy drop",
    );
    assert_eq!(mend, "nft insert rule inet fence in udp dport 8472 accept");
    is(&found, "firewall 30000-32767/tcp", "fail", "");
    is(&found, "firewall 6443/tcp", "warn", "open to some only");
    is(&found, "firewall, forwarding", "fail", "chain through");
    assert!(
        !found.keys().any(|check| check.starts_with("firewall 10250")),
        "10250 is open: {found:#?}"
    );
    assert!(open(machine, &["--server"]) >= 4);
    nft("delete table inet fence");

    // A rule of its own against one port, in a chain that is called.
    nft("table ip wall {
      chain no { udp dport 8000-9000 counter reject; }
      chain in { type filter hook input priority 10; policy accept; jump no; }
    }");
    is(
        &machine.findings(&[]),
        "firewall 8472/udp",
        "fail",
        "table ip wall",
    );
    open(machine, &[]);
    nft("delete table ip wall");
}

fn others_are_asked(machine: &Machine) {
    let registry = machine
        .host
        .enter(|| TcpListener::bind("10.99.0.1:5000").unwrap());
    let closed: SocketAddr = "10.99.0.1:2379".parse().unwrap();
    let (etcd, certificate) = (format!("http://{closed}"), machine.scratch.join("broken.pem"));
    fs::write(
        &certificate,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let certificate = certificate.display().to_string();
    let good = machine.scratch.join("good.pem").display().to_string();
    let key = machine.scratch.join("good-key.pem").display().to_string();
    Output::of(Command::new("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=good",
        "-days",
        "90",
        "-keyout",
        &key,
        "-out",
        &good,
    ]))
    .ok();
    let found = machine.findings(&[
        "--registry",
        "10.99.0.1:5000",
        "--etcd",
        &etcd,
        "--certificate",
        &certificate,
        "--certificate",
        &good,
    ]);
    is(&found, "registry", "ok", "answers");
    is(&found, "etcd", "fail", "refused");
    is(&found, &format!("certificate {certificate}"), "fail", "");
    is(&found, &format!("certificate {good}"), "ok", "89 days left");
    drop(registry);
}

fn small_packets(machine: &Machine) {
    let links = machine.host.ip("-o route show default");
    let link = links
        .split_whitespace()
        .skip_while(|word| *word != "dev")
        .nth(1)
        .unwrap();
    machine.host.ip(&format!("link set {link} mtu 1300"));
    is(&machine.findings(&[]), "MTU", "warn", "1250");
    let table = machine.doctor(&[]);
    assert!(table.stdout.contains("to think about"), "{table}");
    let line = table.stdout.lines().find(|line| line.contains("MTU")).unwrap();
    assert!(line.starts_with("warn"), "{line}");
}
