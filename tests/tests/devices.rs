//! Devices of plugins and of claims, in containers. Over the engine and over containerd.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

#[path = "devices/plugin.rs"]
mod plugin;

use std::path::Path;

use knode_e2e::{BOUND, Cluster, kubectl};
use knode_testkit::wait_until;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use plugin::{Devices, Driver, Plugins};

const RESOURCE: &str = "example.com/dev";
const DRIVER: &str = "driver.example.com";

/// Copies of `/dev/zero` and `/dev/full`.
fn make_nodes(directory: &Path) {
    std::fs::create_dir(directory).unwrap();
    for (name, minor) in [("zero", 5), ("full", 7)] {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&directory.join(name), SFlag::S_IFCHR, mode, makedev(1, minor)).unwrap();
    }
    std::fs::write(directory.join("note"), "from the plugin\n").unwrap();
}

fn pod(name: &str, count: u32, command: &str) -> String {
    let container = |name: &str, command: &str| {
        json!({"name": name, "image": "busybox:test", "imagePullPolicy": "Never", "command": ["sh", "-c", command],
            "resources": {"limits": {RESOURCE: count.to_string()}}})
    };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": "node1", "terminationGracePeriodSeconds": 1, "restartPolicy": "Never",
            "initContainers": [container("i", "echo before $GIVEN")],
            "containers": [container("c", command)],
        },
    })
    .to_string()
}

fn counts(cluster: &Cluster, resource: &str, capacity: u32, allocatable: u32) {
    cluster.wait("node node1", |node| {
        let of = |field: &str| {
            node["status"][field][resource]
                .as_str()
                .unwrap_or("none")
                .to_owned()
        };
        let found = (of("capacity"), of("allocatable"));
        match found == (capacity.to_string(), allocatable.to_string()) {
            true => Ok(()),
            false => Err(format!("{resource}: {found:?}, not {capacity} and {allocatable}")),
        }
    });
}

fn failure(cluster: &Cluster, pod: &str) -> (String, String) {
    cluster.wait(&format!("pod {pod}"), |pod| {
        let status = &pod["status"];
        match status["phase"] == "Failed" {
            true => Ok((
                status["reason"].as_str().unwrap_or_default().to_owned(),
                status["message"].as_str().unwrap_or_default().to_owned(),
            )),
            false => Err(status.to_string()),
        }
    })
}

#[test]
fn devices_of_plugins_and_claims() {
    work(Cluster::machine("devices"));
}

#[test]
fn the_same_over_containerd() {
    work(Cluster::over_containerd("devices-cd"));
}

fn work(mut cluster: Cluster) {
    cluster.start(&[]);
    cluster.import_busybox("busybox:test");
    let plugins = Plugins::new(&cluster.data_dir());
    containers_get_devices_of_plugins_and_keep_them_over_a_restart(&mut cluster, &plugins);
    containers_get_what_their_pod_has_claimed(&cluster, &plugins);
}

fn containers_get_devices_of_plugins_and_keep_them_over_a_restart(cluster: &mut Cluster, plugins: &Plugins) {
    let nodes = cluster.scratch.join("nodes");
    make_nodes(&nodes);
    let devices = Devices::new(&nodes, &[("full", true), ("zero", true), ("broken", false)]);
    plugins.register(&devices, RESOURCE).unwrap();
    counts(cluster, RESOURCE, 3, 2);

    // The first of the two is `full`: an init container's device is its successor's too.
    let command =
        "cat /plugin/note; echo has $GIVEN; echo x > /dev/given-full; ls /dev/given-*; exec sleep 3600";
    cluster.apply(&pod("first", 1, command)).ok();
    let running = cluster.wait_ready("pod first");
    let logs = cluster.kubectl("logs first -c c").ok();
    for line in [
        "from the plugin",
        "has full",
        "No space left on device",
        "/dev/given-full",
    ] {
        assert!(logs.contains(line), "no {line:?} in\n{logs}");
    }
    let before = cluster.kubectl("logs first -c i").ok();
    assert_eq!(before.trim(), "before full");

    cluster.apply(&pod("greedy", 2, "exec sleep 3600")).ok();
    let (reason, message) = failure(cluster, "greedy");
    assert_eq!(reason, "UnexpectedAdmissionError");
    assert!(
        message.contains(
            "Allocate failed due to requested number of devices unavailable for example.com/dev. Requested: 2, \
             Available: 1, which is unexpected"
        ),
        "{message}"
    );
    let given = plugins.given().unwrap();
    let first = given.iter().find(|pod| pod.name == "first").unwrap();
    let held = &first.containers[0].devices;
    assert_eq!(
        (held.len(), held[0].device_ids.as_slice()),
        (1, &["full".to_owned()][..])
    );

    cluster.kill();
    cluster.start(&[]);
    // The plugin's socket is gone, by which it knows that it must register anew.
    wait_until("the plugin to register", BOUND, || {
        plugins.register(&devices, RESOURCE)
    });
    counts(cluster, RESOURCE, 3, 2);
    let command = "head -c 2 /dev/given-zero | od -An -tx1; exec sleep 3600";
    cluster.apply(&pod("second", 1, command)).ok();
    cluster.wait_ready("pod second");
    assert_eq!(cluster.kubectl("logs second -c c").ok().trim(), "00 00");
    let now = cluster.get("pod first");
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    assert_eq!(id(&now), id(&running), "what ran goes on");

    devices.end();
    counts(cluster, RESOURCE, 3, 0);
    cluster.apply(&pod("late", 1, "true")).ok();
    let (_, message) = failure(cluster, "late");
    assert!(message.contains("no healthy devices present"), "{message}");

    // Another way to come.
    let other = Devices::new(&nodes, &[("zero", true)]);
    plugins.present("DevicePlugin", "example.com/other", "v1beta1", other.router());
    counts(cluster, "example.com/other", 1, 1);
}

/// A description of a device, where runtimes look for it.
struct Cdi(std::path::PathBuf);

impl Cdi {
    fn new(kind: &str, name: &str) -> Self {
        let directory = Path::new("/var/run/cdi");
        std::fs::create_dir_all(directory).unwrap();
        let path = directory.join(format!("knode-test-{}.json", std::process::id()));
        let device = json!({"name": name, "containerEdits": {"env": ["CLAIMED=yes"]}});
        let text = json!({"cdiVersion": "0.6.0", "kind": kind, "devices": [device]});
        std::fs::write(&path, text.to_string()).unwrap();
        Self(path)
    }
}

impl Drop for Cdi {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

const CLAIMED: &str = r#"
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: each}
spec: {spec: {devices: {requests: [{name: r, exactly: {deviceClassName: class.example.com}}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: claims}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 1
  resourceClaims: [{name: mine, resourceClaimTemplateName: each}]
  containers:
  - name: c
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'echo claimed $CLAIMED; exec sleep 3600']
    resources: {claims: [{name: mine}]}
"#;

fn containers_get_what_their_pod_has_claimed(cluster: &Cluster, plugins: &Plugins) {
    let kind = format!("knode.test/class{}", std::process::id());
    let _cdi = Cdi::new(&kind, "one");
    let driver = Driver {
        device: format!("{kind}=one"),
        ..Driver::default()
    };
    let socket = plugins.present("DRAPlugin", DRIVER, "v1.DRAPlugin", driver.router());
    assert!(socket.exists());
    cluster.apply(CLAIMED).ok();
    let uid = cluster.get("pod claims")["metadata"]["uid"].clone();
    let name = cluster.wait("pod claims", |pod| {
        let made = pod["status"]["resourceClaimStatuses"][0]["resourceClaimName"].as_str();
        made.map(str::to_owned).ok_or_else(|| pod["status"].to_string())
    });
    // Nobody may use a claim that is not reserved for them.
    cluster.wait(
        "events --field-selector involvedObject.name=claims,reason=FailedPrepareDynamicResources",
        |events| {
            let refused = format!("is not allowed to use ResourceClaim {name}");
            let all = events["items"].as_array().unwrap();
            let mut messages = all.iter().filter_map(|event| event["message"].as_str());
            match messages.any(|message| message.contains(&refused)) {
                true => Ok(()),
                false => Err(events.to_string()),
            }
        },
    );
    let result = json!({"request": "r", "driver": DRIVER, "pool": "pool", "device": "one"});
    let status = json!({"status": {
        "allocation": {"devices": {"results": [result]}},
        "reservedFor": [{"resource": "pods", "name": "claims", "uid": uid}],
    }});
    let patch = [
        "patch",
        "resourceclaim",
        &name,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ];
    cluster.kubectl_by(&kubectl::default(), &patch).ok();
    cluster.wait_ready("pod claims");
    // containerd before 1.7 knows no such devices.
    let told = if cluster.is_over_containerd() {
        "claimed"
    } else {
        "claimed yes"
    };
    assert_eq!(cluster.kubectl("logs claims").ok().trim(), told);
    let given = plugins.given().unwrap();
    let claims = &given.iter().find(|pod| pod.name == "claims").unwrap().containers[0].dynamic_resources;
    assert_eq!(claims[0].claim_name, name);
    assert_eq!(claims[0].claim_resources[0].driver_name, DRIVER);
    cluster.kubectl("delete pod claims").ok();
    assert_eq!(
        *driver.asked.lock().unwrap(),
        [format!("+{name}"), format!("-{name}")]
    );
    // What was made for the pod goes with it.
    cluster.wait("resourceclaims", |all| match all["items"].as_array() {
        Some(left) if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}
