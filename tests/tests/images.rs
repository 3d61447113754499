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

/// User `me`, password `secret`, as a registry is told them and as clients send them.
const ME: (&str, &str) = (
    "me:$2y$05$Zr4Hd3dDJ5mCJUvZhFR5bOHsX77qnjhe97xyN2oZnZa0bSFo13SOO",
    "bWU6c2VjcmV0",
);

/// A secret for a registry, with what clients send.
fn registry_secret(name: &str, registry: &str, auth: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/dockerconfigjson\n\
         stringData: {{.dockerconfigjson: '{{\"auths\": {{\"{registry}\": {{\"auth\": \"{auth}\"}}}}}}'}}\n"
    )
}

fn pod_with(name: &str, image: &str, policy: &str, secret: &str) -> String {
    pod(name, image, policy) + &format!("  imagePullSecrets: [{{name: {secret}}}]\n")
}

fn wait_reason(cluster: &Cluster, pod: &str, reason: &str) -> Value {
    cluster.wait(&format!("pod {pod}"), |p| {
        let waiting = &p["status"]["containerStatuses"][0]["state"]["waiting"];
        match waiting["reason"] == reason {
            true => Ok(waiting.clone()),
            false => Err(format!("waiting for {reason}: {}", p["status"])),
        }
    })
}

/// Files in a directory of records of pulls.
fn records(cluster: &Cluster, directory: &str) -> Vec<String> {
    let path = std::path::Path::new(&cluster.data_dir())
        .join("kubelet/image_manager")
        .join(directory);
    let files = std::fs::read_dir(path).unwrap();
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn a_private_image_is_for_those_with_its_password() {
    private_images(Cluster::machine("private"));
}

#[test]
fn a_private_image_in_containerd_too() {
    private_images(Cluster::over_containerd("private-cd"));
}

fn private_images(mut cluster: Cluster) {
    cluster.start(&[]);
    let (by_tag, by_digest) = only_those_with_the_password(&cluster);
    // What is known outlives the kubelet and needs no registry.
    cluster.kill();
    cluster.start(&[]);
    cluster
        .apply(&pod_with("second", &by_tag, "IfNotPresent", "good"))
        .ok();
    cluster.wait_ready("pod second");
    cluster
        .apply(&pod_with("third", &by_digest, "Never", "good"))
        .ok();
    cluster.wait_ready("pod third");
    wait_reason(&cluster, "never", "ErrImageNeverPull");
}

/// The names of an image that a pod has pulled and others may not have, whose registry is gone then.
fn only_those_with_the_password(cluster: &Cluster) -> (String, String) {
    let mut registry = Registry::start_with_password(&cluster.host, ME.0);
    registry.sign_in(&format!("Basic {}", ME.1));
    let built = image::busybox()
        .name("team/app:1")
        .cmd(&["sleep", "86400"])
        .build();
    let by_tag = registry.push(&built);
    let by_digest = format!("{}/team/app@{}", registry.address(), built.manifest.digest);
    cluster
        .apply(&registry_secret("good", &registry.address(), ME.1))
        .ok();
    cluster
        .apply(&registry_secret("bad", &registry.address(), "bWU6Z3Vlc3M="))
        .ok();

    cluster
        .apply(&pod_with("first", &by_tag, "IfNotPresent", "good"))
        .ok();
    cluster.wait_ready("pod first");
    let known = records(cluster, "pulled").concat();
    assert!(known.contains("/team/app\":{\"kubernetesSecrets\":[{"), "{known}");
    assert!(!known.contains("secret\"") && !known.contains(ME.1), "{known}");
    assert_eq!(records(cluster, "pulling"), Vec::<String>::new());

    for (name, image) in [("none", &by_tag), ("digest", &by_digest)] {
        cluster.apply(&pod(name, image, "IfNotPresent")).ok();
        let waiting = wait_reason(cluster, name, "ErrImagePull");
        let told = waiting["message"].as_str().unwrap();
        assert!(told.contains("authoriz"), "{told}");
    }
    cluster
        .apply(&pod_with("wrong", &by_digest, "IfNotPresent", "bad"))
        .ok();
    wait_reason(cluster, "wrong", "ErrImagePull");
    cluster.apply(&pod("never", &by_tag, "Never")).ok();
    let waiting = wait_reason(cluster, "never", "ErrImageNeverPull");
    let text = format!("Container image \"{by_tag}\" is not present with pull policy of Never");
    assert_eq!(waiting["message"], text);
    (by_tag, by_digest)
}
