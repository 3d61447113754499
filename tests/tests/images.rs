//! Images: from a registry, from an archive, and what goes wrong with them.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use knode_e2e::{BOUND, Cluster, Output};
use knode_testkit::{Registry, image, wait_until};
use serde_json::Value;

const MANIFEST: &str = include_str!("../../nginx-ds.yml");

/// The manifest of the original walk-through, with a real nginx from a real registry.
#[test]
fn the_walk_throughs_manifest_serves_its_page() {
    let cluster = Cluster::up("nginx");
    let registry = Registry::start(&cluster.host);
    let image = registry.push(&image::nginx().name("nginx:1.7.9").build());
    cluster.apply(&MANIFEST.replace("nginx:1.7.9", &image)).ok();

    let pods = cluster.wait("pods -l app=nginx-ds", |list| {
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        let running = |p: &Value| {
            let conditions = p["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        if pods.len() == 1 && pods.iter().all(running) {
            Ok(pods)
        } else {
            Err(list.to_string())
        }
    });
    let node = cluster.get("node node1");
    let lease: ipnet::IpNet = node["spec"]["podCIDR"].as_str().unwrap().parse().unwrap();
    let address = pods[0]["status"]["podIP"].as_str().unwrap().parse().unwrap();
    assert!(
        lease.contains::<&std::net::IpAddr>(&address),
        "{address} outside {lease}"
    );

    let service = cluster.get("service nginx-ds");
    let cluster_ip = service["spec"]["clusterIP"].as_str().unwrap();
    let node_port = &service["spec"]["ports"][0]["nodePort"];
    for url in [
        format!("http://{cluster_ip}/"),
        format!("http://{}:{node_port}/", Cluster::ADDRESS),
    ] {
        let page = wait_until(&format!("the page by {url}"), BOUND, || {
            cluster.page(&url).result()
        });
        assert!(page.contains("Welcome to nginx!"), "{url}: {page}");
    }
}

fn pod(name: &str, image: &str, policy: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: c, image: '{image}', imagePullPolicy: {policy}}}\n"
    )
}

/// An image that doesn't exist: both reasons, and the registry's own words in an event.
#[test]
fn a_missing_image_says_what_the_registry_said() {
    let cluster = Cluster::up("missing");
    let registry = Registry::start(&cluster.host);
    let missing = format!("{}/nothing/here:1", registry.address());
    cluster.apply(&pod("missing", &missing, "Always")).ok();
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        cluster.wait("pod missing", |p| {
            let waiting = &p["status"]["containerStatuses"][0]["state"]["waiting"];
            if waiting["reason"] == reason {
                Ok(())
            } else {
                Err(format!("waiting for {reason}: {}", p["status"]))
            }
        });
    }
    cluster.wait("events --field-selector involvedObject.name=missing", |events| {
        let all: Vec<_> = events["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| e["message"].as_str())
            .collect();
        let said = all
            .iter()
            .any(|m| m.contains("Failed to pull image") && m.contains("not found"));
        if said { Ok(()) } else { Err(format!("{all:#?}")) }
    });
}

/// A corrupt archive is refused by name, and nothing of it stays.
#[test]
fn a_corrupt_archive_is_refused_whole() {
    let cluster = Cluster::up("corrupt");
    let archive = cluster.scratch.join("broken.tar");
    let bytes = image::busybox().name("busybox:broken").build().oci_archive();
    std::fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    let said = cluster.import(&archive).fails();
    assert!(said.contains("broken.tar"), "{said}");
    let images =
        Output::of(&mut cluster.knode(&["engine", "images", "--data-dir", &cluster.data_dir()])).ok();
    assert!(!images.contains("broken"), "{images}");
    std::fs::write(&archive, &bytes).unwrap();
    cluster.import(&archive).ok();
    let images =
        Output::of(&mut cluster.knode(&["engine", "images", "--data-dir", &cluster.data_dir()])).ok();
    assert!(images.contains("busybox:broken"), "{images}");
}

/// An archive that lies in the images directory before the start is there after it.
#[test]
fn archives_beside_the_data_are_imported_at_start() {
    let mut cluster = Cluster::machine("offline");
    let directory = cluster.scratch.join("data/images");
    std::fs::create_dir_all(&directory).unwrap();
    image::busybox()
        .name("busybox:brought")
        .build()
        .write_docker(&directory.join("busybox.tar"));
    cluster.start(&[]);
    let images =
        Output::of(&mut cluster.knode(&["engine", "images", "--data-dir", &cluster.data_dir()])).ok();
    assert!(images.contains("busybox:brought"), "{images}");
}
