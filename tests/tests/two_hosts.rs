//! A control plane on one host, nodes on two, joined by a bootstrap kubeconfig, connected by vxlan.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use knode_e2e::{BOUND, Output, binary, kubectl};
use knode_testkit::leaks::Traces;
use knode_testkit::{Host, Lan, Process, Scratch, image, wait_until};
use serde_json::Value;

/// One `knode` in the foreground with its data directory.
struct Running {
    process: Option<Process>,
    data: PathBuf,
}

struct Site {
    scratch: Scratch,
    hosts: [Host; 2],
    _lan: Lan,
}

impl Site {
    fn new() -> Self {
        let lan = Lan::new();
        let hosts = [1, 2].map(|n| lan.host(&format!("host{n}"), Ipv4Addr::new(10, 99, 0, n), 24));
        Self {
            scratch: Scratch::new("two-hosts"),
            hosts,
            _lan: lan,
        }
    }

    fn start(&self, name: &str, host: usize, arguments: &[&str]) -> Running {
        let data = self.scratch.join(name);
        let mut command = self.hosts[host].command(binary());
        command.args(arguments).arg("--data-dir").arg(&data);
        Running {
            process: Some(Process::spawn(name, command)),
            data,
        }
    }

    fn node(&self, name: &str, host: usize) -> Running {
        let images = self.scratch.join(name).join("images");
        std::fs::create_dir_all(&images).unwrap();
        image::busybox()
            .name("busybox:test")
            .build()
            .write_oci(&images.join("busybox.tar"));
        let join = self.path("join.kubeconfig");
        self.start(
            name,
            host,
            &["node", "--bootstrap-kubeconfig", &join, "--node-name", name],
        )
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }

    fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command: Command = self.hosts[0].command(kubectl::default());
        command
            .env("KUBECONFIG", self.path("admin.kubeconfig"))
            .env("HOME", self.scratch.path())
            .args(arguments);
        Output::of(&mut command)
    }

    fn json(&self, what: &[&str]) -> Result<Value, String> {
        let text = self.kubectl(&[&["get", "-o", "json"], what].concat()).result()?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }

    fn end(&self, host: usize, mut running: Running) {
        drop(running.process.take());
        let data = running.data.display().to_string();
        Output::of(
            self.hosts[host]
                .command(binary())
                .args(["down", "--purge", "--data-dir", &data]),
        )
        .ok();
    }
}

fn ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions
        .iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

const PODS: &str = r"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: busybox:test
        imagePullPolicy: Never
        command: [sleep, '3600']
";

#[test]
fn pods_of_two_hosts_reach_each_other_through_vxlan() {
    let site = Site::new();
    let marker = site.scratch.path().display().to_string();
    let before = [0, 1].map(|n| Traces::of(&site.hosts[n], &marker));
    let (admin, join) = (site.path("admin.kubeconfig"), site.path("join.kubeconfig"));
    let server = site.start(
        "server",
        0,
        &[
            "server",
            "--write-kubeconfig",
            &admin,
            "--write-bootstrap-kubeconfig",
            &join,
        ],
    );
    wait_until("the control plane", BOUND, || {
        let answer = site.kubectl(&["get", "--raw", "/readyz"]).result();
        answer
            .and_then(|_| std::fs::metadata(&join).map(drop).map_err(|e| e.to_string()))
            .map_err(|e| {
                format!(
                    "{e}\n{}",
                    server.process.as_ref().map(Process::output).unwrap_or_default()
                )
            })
    });
    let (one, two) = (site.node("one", 0), site.node("two", 1));
    let nodes = wait_until("both nodes Ready", BOUND, || {
        let list = site.json(&["nodes"])?;
        let nodes = list["items"].as_array().cloned().unwrap_or_default();
        let logs = || {
            [&one, &two]
                .map(|r| r.process.as_ref().map(Process::output).unwrap_or_default())
                .join("\n--\n")
        };
        if nodes.len() == 2 && nodes.iter().all(ready) {
            Ok(nodes)
        } else {
            Err(format!("{list}\n{}", logs()))
        }
    });
    assert_ne!(nodes[0]["spec"]["podCIDR"], nodes[1]["spec"]["podCIDR"]);

    let manifest = site.path("each.yaml");
    std::fs::write(&manifest, PODS).unwrap();
    site.kubectl(&["apply", "-f", &manifest]).ok();
    let pods = wait_until("a pod on each", BOUND, || {
        let list = site.json(&["pods", "-l", "app=each"])?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        if pods.len() == 2 && pods.iter().all(ready) {
            Ok(pods)
        } else {
            Err(list.to_string())
        }
    });
    for (from, to) in [(0, 1), (1, 0)] {
        let (name, address) = (
            pods[from]["metadata"]["name"].as_str().unwrap(),
            pods[to]["status"]["podIP"].as_str().unwrap(),
        );
        wait_until("a full-size packet through the overlay", BOUND, || {
            site.kubectl(&[
                "exec", name, "--", "ping", "-c", "1", "-W", "2", "-s", "1372", address,
            ])
            .result()
        });
    }
    // The packets really go through the tunnel device.
    let link = site.hosts[0].ip("-s -d link show flannel.1");
    assert!(
        link.contains("vxlan id 1") && link.contains("dstport 8472"),
        "{link}"
    );

    site.kubectl(&["delete", "daemonset", "each"]).ok();
    site.end(0, one);
    site.end(1, two);
    site.end(0, server);
    for (n, before) in before.iter().enumerate() {
        let left = before.differences(&Traces::of(&site.hosts[n], &marker));
        assert_eq!(left, Vec::<String>::new(), "host {n}");
    }
}
