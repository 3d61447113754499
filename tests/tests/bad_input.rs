//! Wrong manifests, options and machines: a clear answer each, nothing half-made.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::net::TcpListener;

use knode_e2e::{Cluster, Output, binary};

#[test]
fn a_wrong_manifest_is_answered_with_the_fields_path() {
    let cluster = Cluster::up("manifest");
    let unknown = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: a, imagee: b}]}\n";
    let said = cluster.apply(unknown).fails();
    assert!(
        said.contains("unknown field \"spec.containers[0].imagee\""),
        "{said}"
    );
    let typed = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: a, ports: [{containerPort: eighty}]}]}\n";
    let said = cluster.apply(typed).fails();
    assert!(
        said.contains("containerPort") || said.contains("unmarshal"),
        "{said}"
    );
    let empty = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n";
    let said = cluster.apply(empty).fails();
    assert!(
        said.contains("spec.containers[0].image: Required value"),
        "{said}"
    );
    cluster.kubectl("get pod p").fails();
}

#[test]
fn a_taken_port_is_named_with_its_holder() {
    let mut cluster = Cluster::machine("port");
    let listener = cluster.host.enter(|| TcpListener::bind("0.0.0.0:6443").unwrap());
    let output = cluster.try_start(&[]);
    assert_ne!(output.code, 0, "{output}");
    let said = format!("{output}{}", cluster.log());
    assert!(
        said.contains("6443") && said.contains(&std::process::id().to_string()),
        "{said}"
    );
    drop(listener);
    cluster.start(&[]);
}

#[test]
fn overlapping_ranges_are_refused_before_anything_is_made() {
    let mut cluster = Cluster::machine("ranges");
    let output = cluster.try_start(&["--pod-cidr", "10.254.0.0/16"]);
    assert_ne!(output.code, 0, "{output}");
    let said = format!("{output}{}", cluster.log());
    assert!(
        said.contains("10.254.0.0/16") && said.contains("overlap"),
        "{said}"
    );
    cluster.host.ip("route add 172.30.5.0/24 via 10.99.0.9");
    let output = cluster.try_start(&[]);
    assert_ne!(output.code, 0, "{output}");
    let said = format!("{output}{}", cluster.log());
    assert!(
        said.contains("172.30.5.0/24") && said.contains("172.30.0.0/16"),
        "{said}"
    );
    cluster.host.ip("route del 172.30.5.0/24");
    assert!(!cluster.scratch.join("data/pki").exists(), "nothing was made");
}

#[test]
fn only_root_can_start_a_node() {
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(binary())
        .args(["up", "--data-dir", "/nonexistent/knode"]);
    let said = Output::of(&mut command).fails();
    assert!(said.contains("root"), "{said}");
}

#[test]
fn a_full_disk_loses_nothing() {
    let mut cluster = Cluster::machine("full");
    let data = cluster.scratch.join("data/server");
    std::fs::create_dir_all(&data).unwrap();
    let mount = [
        "-t",
        "tmpfs",
        "-o",
        "size=8m",
        "tmpfs",
        &data.display().to_string(),
    ]
    .map(str::to_owned);
    Output::of(std::process::Command::new("mount").args(&mount)).ok();
    cluster.start(&[]);
    cluster.kubectl("create configmap before --from-literal=a=b").ok();
    let filler = data.join("filler");
    let fill = format!("dd if=/dev/zero of={} bs=4k 2>/dev/null; true", filler.display());
    Output::of(std::process::Command::new("sh").args(["-c", &fill])).ok();
    let refused = (0..2000).map(|n| {
        cluster.kubectl(&format!(
            "create configmap fill-{n} --from-literal=a={}",
            "x".repeat(4000)
        ))
    });
    let said = refused
        .into_iter()
        .find(|o| o.code != 0)
        .expect("a full disk refuses writes")
        .stderr;
    assert!(said.contains("space") || said.contains("full"), "{said}");
    assert_eq!(cluster.get("configmap before")["data"]["a"], "b");
    std::fs::remove_file(&filler).unwrap();
    cluster.kubectl("create configmap after --from-literal=a=b").ok();
    cluster.get("configmap before");
    let data_dir = cluster.data_dir();
    let left = cluster.purge();
    // The test's own mount keeps the directories above it.
    assert!(left.iter().all(|l| l.contains(&data_dir)), "{left:#?}");
    Output::of(std::process::Command::new("umount").arg(&data)).ok();
}
