//! The README's first command, as a person gives it: in this checkout, with every default, on a machine without a
//! way out.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use knode_e2e::{Output, ROOMY, kubectl};
use knode_testkit::Lan;
use knode_testkit::leaks::Traces;

const DATA_DIR: &str = "/var/lib/knode";
const KUBECONFIG: &str = "/etc/knode/admin.kubeconfig";

#[test]
fn make_up_gives_a_checked_cluster_and_make_down_takes_it_away() {
    assert!(
        !Path::new(DATA_DIR).exists(),
        "{DATA_DIR} is there: end that cluster first (make down PURGE=1)"
    );
    let lan = Lan::new();
    let host = lan.host("fresh", Ipv4Addr::new(10, 99, 0, 1), 24);
    let before = Traces::of(&host, DATA_DIR);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let make = |words: &[&str]| {
        let mut command: Command = host.command("make");
        command
            .arg("-C")
            .arg(&root)
            .args(words)
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL");
        // What cargo tells this test of itself would make build scripts run anew.
        let told = std::env::vars_os().map(|(name, _)| name);
        for name in told.filter(|n| n.to_string_lossy().starts_with("CARGO_") && n != "CARGO_HOME") {
            command.env_remove(name);
        }
        Output::of(&mut command)
    };

    let up = make(&["up", &format!("UP='{ROOMY}'")]);
    let ended = || make(&["down", "PURGE=1"]);
    if up.code != 0 {
        panic!("{up}\n{}", ended());
    }
    for part in [
        "the node is Ready",
        "page by NodePort from this machine",
        KUBECONFIG,
        "Try next",
    ] {
        assert!(up.stdout.contains(part), "no {part:?} in {up}\n{}", ended());
    }
    let mut get = host.command(kubectl::default());
    get.env("KUBECONFIG", KUBECONFIG)
        .args(["get", "nodes", "--no-headers"]);
    let nodes = Output::of(&mut get);
    assert!(nodes.stdout.contains(" Ready "), "{nodes}\n{}", ended());
    // The files lie where upstream's programs keep them.
    for file in [
        "/var/lib/kubelet/pki/kubelet-client-current.pem",
        "/run/flannel/subnet.env",
    ] {
        assert!(Path::new(file).exists(), "no {file}\n{}", ended());
    }

    ended().ok();
    let left = before.differences(&Traces::of(&host, DATA_DIR));
    assert_eq!(left, Vec::<String>::new());
    for path in [
        DATA_DIR,
        KUBECONFIG,
        "/var/lib/kubelet",
        "/var/log/pods",
        "/run/flannel",
    ] {
        assert!(!Path::new(path).exists(), "{path} is left");
    }
}
