//! Start, kill, start again, end.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use knode_e2e::{Cluster, Output};
use knode_testkit::{Process, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const WEB: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'mkdir /www; echo here > /www/index.html; exec httpd -f -p 80 -h /www']
  - name: ticker
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'n=0; while true; do n=$((n+1)); echo tick $n; sleep 0.1; done']
";

fn ticks(cluster: &Cluster) -> Vec<u64> {
    let logs = cluster.kubectl("logs web -c ticker").stdout;
    logs.lines()
        .filter_map(|l| l.strip_prefix("tick ")?.parse().ok())
        .collect()
}

/// A killed daemon takes no pod, no request and no line of a log with it.
#[test]
fn killing_the_daemon_disturbs_nothing() {
    go_on_without_the_daemon(Cluster::up("kill"));
}

#[test]
fn the_same_over_containerd() {
    let mut cluster = Cluster::over_containerd("kill-cd");
    cluster.start(&[]);
    go_on_without_the_daemon(cluster);
}

fn go_on_without_the_daemon(mut cluster: Cluster) {
    cluster.import_busybox("busybox:test");
    cluster.apply(WEB).ok();
    let before = cluster.wait_ready("pod web");
    let url = format!("http://{}:30080/", Cluster::ADDRESS);
    wait_until("the first page by NodePort", knode_e2e::BOUND, || {
        cluster.page(&url).result()
    });

    // Asks by NodePort from another host without a pause, and counts what fails.
    let script = format!(
        "ok=0; bad=0; while [ ! -e {0}/stop ]; do if curl -sf --max-time 5 -o /dev/null {url}; then ok=$((ok+1)); else bad=$((bad+1)); fi; done; echo ok=$ok bad=$bad > {0}/counted",
        cluster.scratch.path().display()
    );
    let _asking = Process::spawn("asking", {
        let mut c = cluster.host.command("sh");
        c.args(["-c", &script]);
        c
    });
    let pid = cluster.pid();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_until("the daemon to be gone", knode_e2e::BOUND, || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
    let seen = (0..50).filter(|_| cluster.page(&url).code == 0).count();
    assert_eq!(seen, 50, "pages while no daemon runs");

    cluster.start(&[]);
    let after = cluster.wait_ready("pod web");
    for n in 0..2 {
        let (old, new) = (
            &before["status"]["containerStatuses"][n],
            &after["status"]["containerStatuses"][n],
        );
        assert_eq!(old["containerID"], new["containerID"], "the same container runs");
        assert_eq!(new["restartCount"], 0);
    }
    let now = ticks(&cluster).last().copied().unwrap_or_default();
    let all = wait_until("the log to go on", knode_e2e::BOUND, || {
        let all = ticks(&cluster);
        if all.last().copied().unwrap_or_default() > now + 5 {
            Ok(all)
        } else {
            Err(format!("{} lines", all.len()))
        }
    });
    let complete: Vec<u64> = (1..=all.len() as u64).collect();
    assert_eq!(all, complete, "no line of the log is missing or doubled");

    std::fs::write(cluster.scratch.join("stop"), "").unwrap();
    let counted = wait_until("the count", knode_e2e::BOUND, || {
        std::fs::read_to_string(cluster.scratch.join("counted"))
    });
    assert!(
        counted.contains("bad=0") && !counted.contains("ok=0 "),
        "{counted}"
    );
}

/// After `down --purge` the machine is as it was.
#[test]
fn down_leaves_nothing() {
    leaves_nothing(Cluster::up("down"));
}

#[test]
fn down_leaves_nothing_in_containerd() {
    let mut cluster = Cluster::over_containerd("down-cd");
    cluster.start(&[]);
    leaves_nothing(cluster);
}

fn leaves_nothing(mut cluster: Cluster) {
    cluster.import_busybox("busybox:test");
    cluster.apply(WEB).ok();
    cluster.wait_ready("pod web");
    assert_eq!(cluster.purge(), Vec::<String>::new());
    assert!(!cluster.scratch.join("data").exists());
}

/// `down` without `--purge` keeps the cluster, and `up` takes it up again.
#[test]
fn a_cluster_comes_back_after_down() {
    let mut cluster = Cluster::up("back");
    cluster.kubectl("create configmap kept --from-literal=a=b").ok();
    Output::of(&mut cluster.knode(&["down", "--data-dir", &cluster.data_dir()])).ok();
    cluster.start(&[]);
    assert_eq!(cluster.get("configmap kept")["data"]["a"], "b");
}

/// `knode verify` passes, says what it did, and leaves nothing of its own.
#[test]
fn verify_asks_from_every_side() {
    let cluster = Cluster::up("verify");
    let told = Output::of(&mut cluster.knode(&["verify", "--data-dir", &cluster.data_dir()])).ok();
    for part in [
        "address in the node's lease",
        "page by pod IP from this machine",
        "page by ClusterIP from pod",
        "page by NodePort from pod",
    ] {
        assert!(told.contains(part), "no {part:?} in\n{told}");
    }
    assert!(!told.contains("FAILED"), "{told}");
    let namespaces = cluster.kubectl("get namespaces -o name").ok();
    assert!(!namespaces.contains("knode-verify"), "{namespaces}");
}
