//! A machine dies: it is noticed, its pods leave, the others do not feel it; it comes back.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use knode_e2e::{BOUND, Output, ROOMY, Site, binary, ready};
use knode_testkit::wait_until;
use serde_json::Value;

/// The promise, and one look's time.
const NOTICED: Duration = Duration::from_secs(45);
const NAMES: [&str; 3] = ["one", "two", "three"];

const WORK: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: 'busybox:test', imagePullPolicy: Never, command: [sleep, '3600']}
---
apiVersion: v1
kind: Pod
metadata: {name: leaves}
spec:
  nodeName: three
  terminationGracePeriodSeconds: 0
  tolerations:
  - {key: node.kubernetes.io/unreachable, effect: NoExecute, tolerationSeconds: 1}
  containers:
  - {name: c, image: 'busybox:test', imagePullPolicy: Never, command: [sleep, '3600']}
";

/// The words after `knode` that `knode token create` prints.
fn join_line(site: &Site) -> Vec<String> {
    let mut command = site.hosts[0].command(binary());
    command.args(["token", "create", "--kubeconfig", &site.path("admin.kubeconfig")]);
    let line = Output::of(&mut command).ok();
    line.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn join(site: &mut Site, line: &[String], name: &str, host: usize) {
    let words: Vec<&str> = line.iter().map(String::as_str).collect();
    site.start(name, host, &[&words, &["--node-name", name, ROOMY][..]].concat());
}

/// `knode verify`, from the first machine.
fn verify(site: &Site) -> Output {
    let mut command = site.hosts[0].command(binary());
    command.args(["verify", "--kubeconfig", &site.path("admin.kubeconfig")]);
    Output::of(&mut command)
}

fn on<'a>(pods: &'a [Value], node: &str) -> &'a Value {
    pods.iter().find(|p| p["spec"]["nodeName"] == node).unwrap()
}

/// Nodes of the service's endpoints that are ready.
fn serving(site: &Site) -> Result<Vec<String>, String> {
    let slices = site.json(&["endpointslices", "-l", "kubernetes.io/service-name=web"])?;
    let endpoints = |slice: &Value| slice["endpoints"].as_array().cloned().unwrap_or_default();
    let mut nodes: Vec<String> = slices["items"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(endpoints)
        .filter(|e| e["conditions"]["ready"] != false)
        .filter_map(|e| e["nodeName"].as_str().map(str::to_owned))
        .collect();
    nodes.sort();
    Ok(nodes)
}

#[test]
fn a_lost_machine_is_noticed_and_comes_back() {
    let mut site = Site::new("lost", 3);
    site.server(&[]);
    let line = join_line(&site);
    for (host, name) in NAMES.into_iter().enumerate() {
        site.bring_busybox(name);
        join(&mut site, &line, name, host);
    }
    site.all_ready(&["nodes"], 3);
    let asked = verify(&site).ok();
    for name in NAMES {
        assert!(asked.contains(name), "{name} is missing in {asked}");
    }
    site.apply(WORK);
    let pods = site.all_ready(&["pods", "-l", "app=web"], 3);
    site.all_ready(&["pods", "--field-selector=metadata.name=leaves"], 1);

    // The pods of the machines that live talk to each other all the time.
    let address = on(&pods, "two")["status"]["podIP"].as_str().unwrap();
    let name = on(&pods, "one")["metadata"]["name"].as_str().unwrap();
    let mut talk = site.hosts[0].command(knode_e2e::kubectl::default());
    talk.env("KUBECONFIG", site.path("admin.kubeconfig"))
        .args(["exec", name, "--", "ping", "-q", "-c", "40", "-W", "1", address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let talk = talk.spawn().unwrap();

    let died = Instant::now();
    site.hosts[2].ip("link set eth0 down");
    site.kill("three");
    wait_until("the machine to be missed", NOTICED, || {
        let node = site.json(&["node", "three"])?;
        (!ready(&node)).then_some(()).ok_or(node.to_string())
    });
    let noticed = died.elapsed();
    assert!(
        noticed > Duration::from_secs(25),
        "missed after {noticed:?}, a beat or two"
    );
    wait_until("its endpoints to go", BOUND, || {
        let nodes = serving(&site)?;
        (nodes == ["one", "two"])
            .then_some(())
            .ok_or(format!("{nodes:?}"))
    });
    wait_until("its pod to be evicted", BOUND, || {
        match site.json(&["pod", "leaves"]) {
            Ok(pod) if pod["metadata"]["deletionTimestamp"].is_null() => Err(pod.to_string()),
            _ => Ok(()),
        }
    });
    for name in ["one", "two"] {
        assert!(ready(&site.json(&["node", name]).unwrap()), "{name} is as it was");
    }

    site.hosts[2].ip("link set eth0 up");
    join(&mut site, &line, "three", 2);
    site.all_ready(&["nodes"], 3);
    site.all_ready(&["pods", "-l", "app=web"], 3);
    wait_until("its endpoints to come back", BOUND, || {
        let nodes = serving(&site)?;
        (nodes == ["one", "three", "two"])
            .then_some(())
            .ok_or(format!("{nodes:?}"))
    });
    let told = talk.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(said.contains(" 0% packet loss"), "the others feel it: {told:?}");
    verify(&site).ok();
}
