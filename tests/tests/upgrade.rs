//! Another binary in the running one's place, in the middle of load: nobody notices, and a bad one is taken back.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use knode_e2e::{BOUND, Cluster, Output, ROOMY, binary};
use knode_testkit::{Process, image, wait_until};
use serde_json::Value;

const WEB: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.254.0.77
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
    image: IMAGE
    imagePullPolicy: Never
  - name: ticker
    image: busybox:test
    imagePullPolicy: Never
    command: [sh, -c, 'while true; do sleep 1; done']
";

/// A cluster whose daemon runs from a file of its own.
struct Upgraded {
    cluster: Cluster,
    program: PathBuf,
}

impl Upgraded {
    fn up(name: &str) -> Self {
        let cluster = Cluster::machine(name);
        let program = cluster.scratch.join("installed/knode");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::copy(binary(), &program).unwrap();
        let site = Self { cluster, program };
        let mut command = site.cluster.host.command(&site.program);
        command
            .args(["up", "--background", "--data-dir", &site.cluster.data_dir()])
            .args(["--write-kubeconfig", &site.cluster.kubeconfig()])
            .args(["--node-name", "node1", ROOMY]);
        let up = Output::of(&mut command);
        assert_eq!(up.code, 0, "{up}\n{}", site.cluster.log());
        site
    }

    fn upgrade(&self, file: &Path, options: &[&str]) -> Output {
        let file = file.display().to_string();
        let data = self.cluster.data_dir();
        let words = [&["upgrade", &file, "--data-dir", &data], options].concat();
        Output::of(&mut self.cluster.knode(&words))
    }

    fn status(&self) -> Value {
        let words = ["status", "--data-dir", &self.cluster.data_dir(), "-o", "json"];
        let text = Output::of(&mut self.cluster.knode(&words)).ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// The version of the daemon that answers.
    fn version(&self) -> String {
        self.status()["daemon"]["version"].as_str().unwrap().to_owned()
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the daemon's log:\n{}\n--", self.cluster.log());
        }
        let left = self.cluster.purge();
        assert!(
            std::thread::panicking() || left.is_empty(),
            "left behind: {left:#?}"
        );
    }
}

/// The binary under test with another version in it: what it says of itself is what it would say as that version.
fn of_version(version: &str, to: &Path) {
    let mut bytes = fs::read(binary()).unwrap();
    let own = format!("{} (Kubernetes", env!("CARGO_PKG_VERSION"));
    let other = format!("{version} (Kubernetes");
    assert_eq!(own.len(), other.len(), "the other version must be as long");
    let places: Vec<usize> = bytes
        .windows(own.len())
        .enumerate()
        .filter(|(_, window)| *window == own.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "{own} is not in the binary");
    for at in places {
        bytes[at..at + other.len()].copy_from_slice(other.as_bytes());
    }
    fs::write(to, bytes).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program that calls itself a newer knode, and does only this when it is started.
fn pretender(behaviour: &str, to: &Path) {
    let source = to.with_extension("c");
    let text = format!(
        "#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\nint main(int c, char **v) {{\n\
         if (c > 1 && !strcmp(v[1], \"--version\")) {{ puts(\"knode 7.0.0 (Kubernetes v1.36.2)\"); return 0; }}\n\
         {behaviour}\n}}\n"
    );
    fs::write(&source, text).unwrap();
    Output::of(Command::new("cc").arg("-o").arg(to).arg(&source)).ok();
}

/// Clients that ask without a pause, each time by a new connection, until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(cluster: &Cluster, targets: &[SocketAddr]) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let namespace = cluster.host.path();
        let clients = targets.iter().map(|target| {
            let (stop, asked, namespace, target) = (stop.clone(), asked.clone(), namespace.clone(), *target);
            std::thread::spawn(move || {
                let file = fs::File::open(namespace).unwrap();
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = ask(target) {
                        failures.push(format!("{target}: {error}"));
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        });
        let clients = clients.collect();
        Self { stop, asked, clients }
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many requests there were, of which none was lost.
    #[track_caller]
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let failures: Vec<String> = self.clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
        assert_eq!(failures, Vec::<String>::new());
        self.asked.load(Ordering::Relaxed)
    }
}

fn ask(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200") {
        return Ok(());
    }
    Err(std::io::Error::other(answer))
}

/// Processes of a pod with their start times: a process that was started again has another one.
fn processes(uid: &str) -> BTreeSet<(i32, String)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        // `sleep` comes and goes.
        if !read("cgroup").contains(uid) || command.starts_with("sleep") {
            continue;
        }
        let stat = read("stat");
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        found.insert((
            pid,
            behind_name
                .split_whitespace()
                .nth(19)
                .unwrap_or_default()
                .to_owned(),
        ));
    }
    found
}

#[test]
fn a_new_binary_takes_over_under_load_and_a_bad_one_does_not() {
    let site = Upgraded::up("upgrade");
    let cluster = &site.cluster;
    let archive = cluster.scratch.join("busybox.tar");
    image::busybox().name("busybox:test").build().write_oci(&archive);
    cluster.import(&archive).ok();
    let image = format!("localhost/knode/web:{}", env!("CARGO_PKG_VERSION"));
    cluster.apply(&WEB.replace("IMAGE", &image)).ok();
    let before = cluster.wait_ready("pod web");
    let uid = before["metadata"]["uid"].as_str().unwrap();
    let pids = processes(uid);
    assert!(pids.len() >= 2, "{pids:?}");
    let targets: [SocketAddr; 2] = [
        "10.254.0.77:80".parse().unwrap(),
        SocketAddr::new(Cluster::ADDRESS.into(), 30080),
    ];
    let namespace = &cluster.host;
    for target in targets {
        wait_until("the first page", BOUND, || namespace.enter(|| ask(target)));
    }
    let load = Load::start(cluster, &targets);
    wait_until("the load", BOUND, || {
        (load.asked() > 100).then_some(()).ok_or(load.asked())
    });

    // A newer one.
    let old = site.version();
    let daemon = cluster.pid();
    let newer = cluster.scratch.join("newer");
    of_version("0.1.7", &newer);
    let told = site.upgrade(&newer, &[]);
    assert_eq!(told.code, 0, "{told}\n{}", cluster.log());
    assert!(told.stdout.contains("version 0.1.7"), "{told}");
    assert!(
        site.version().starts_with("0.1.7 "),
        "{} before, {}",
        old,
        site.version()
    );
    assert_ne!(cluster.pid(), daemon, "another process");
    let at_upgrade = load.asked();
    wait_until("the load to go on", BOUND, || {
        (load.asked() > at_upgrade + 100)
            .then_some(())
            .ok_or(load.asked())
    });

    // An older one, one that ends at once, one that never comes up.
    let refused = site.upgrade(&binary(), &[]).fails();
    assert!(
        refused.contains("older") && refused.contains("--allow-downgrade"),
        "{refused}"
    );
    for (name, behaviour, bound) in [
        ("ending", "return 3;", "60"),
        ("hanging", "pause(); return 0;", "2"),
    ] {
        let bad = cluster.scratch.join(name);
        pretender(behaviour, &bad);
        let told = site.upgrade(&bad, &["--timeout", bound]);
        assert_ne!(told.code, 0, "{told}");
        assert!(
            told.stderr.contains("was taken back"),
            "{told}\n{}",
            cluster.log()
        );
        assert!(site.version().starts_with("0.1.7 "), "{}", site.version());
        assert_eq!(fs::read(&site.program).unwrap(), fs::read(&newer).unwrap());
    }

    // Nobody has noticed: no request is lost, no container was restarted.
    let requests = load.end();
    println!("{requests} requests, none lost");
    let after = cluster.wait_ready("pod web");
    for n in 0..2 {
        let of = |pod: &Value| pod["status"]["containerStatuses"][n].clone();
        assert_eq!(of(&before)["containerID"], of(&after)["containerID"]);
        assert_eq!(of(&after)["restartCount"], 0);
    }
    assert_eq!(processes(uid), pids, "the same processes run");
    the_screen_shows_it(&site);
}

/// `knode status` of the same cluster: what is there, and what can't be reached.
fn the_screen_shows_it(site: &Upgraded) {
    let status = wait_until("all services in the kernel", BOUND, || {
        let status = site.status();
        let services = &status["services"];
        let all = services["ports"] == services["programmed"] && services["ports"].as_u64() >= Some(2);
        all.then_some(status.clone()).ok_or(status)
    });
    assert_eq!(status["node"]["name"], "node1");
    let conditions = status["node"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c["kind"] == "Ready" && c["status"] == "True"),
        "{status:#}"
    );
    let pods = status["pods"].as_array().unwrap();
    let web = pods.iter().find(|pod| pod["name"] == "web").unwrap();
    assert_eq!((&web["ready"], &web["restarts"]), (&2.into(), &0.into()));
    assert!(web["memory"].as_u64() > Some(0), "{web}");
    let images = status["images"].as_array().unwrap();
    assert!(
        images
            .iter()
            .any(|name| name.as_str().unwrap().contains("busybox:test")),
        "{images:?}"
    );
    let certificates = status["certificates"].as_array().unwrap();
    assert!(
        certificates.iter().any(|c| c["daysLeft"].as_i64() > Some(200)),
        "{certificates:?}"
    );
    assert_eq!(status["unreached"], Value::Array(Vec::new()), "{status:#}");
    let words = ["status", "--data-dir", &site.cluster.data_dir()];
    let screen = Output::of(&mut site.cluster.knode(&words)).ok();
    for part in [
        "DAEMON",
        "ready, version 0.1.7",
        "Ready=True",
        "default/web",
        "MiB",
        "in the kernel",
    ] {
        assert!(screen.contains(part), "{part:?} in\n{screen}");
    }
    let words = ["status", "--data-dir", "/nonexistent/knode"];
    let nobody = Output::of(&mut site.cluster.knode(&words));
    assert_eq!(nobody.code, 1, "{nobody}");
    assert!(
        nobody
            .stdout
            .contains("the daemon: none runs from /nonexistent/knode"),
        "{nobody}"
    );
}

/// Where something starts the daemon again by itself, as systemd does (`Restart=always`), upgrade leaves that to it.
#[test]
fn a_service_manager_starts_the_new_one() {
    let cluster = Cluster::machine("managed");
    let program = cluster.scratch.join("knode");
    fs::copy(binary(), &program).unwrap();
    let (data, stop) = (cluster.data_dir(), cluster.scratch.join("stop"));
    let script = format!(
        "export INVOCATION_ID=0123; while [ ! -e {} ]; do {} server --data-dir {data} --write-kubeconfig {}; sleep 0.2; done",
        stop.display(),
        program.display(),
        cluster.kubeconfig()
    );
    let mut manager = cluster.host.command("sh");
    manager.args(["-c", &script]);
    let manager = Process::spawn("manager", manager);
    let life = || {
        let told = Output::of(&mut cluster.knode(&["status", "--data-dir", &data, "-o", "json"]));
        let status: Value = serde_json::from_str(&told.stdout).unwrap_or_default();
        let daemon = status["daemon"].clone();
        if daemon["ready"] == true {
            Ok(daemon)
        } else {
            Err(format!("{told}\n{}", manager.output()))
        }
    };
    let before = wait_until("the control plane", BOUND, life);
    let newer = cluster.scratch.join("newer");
    of_version("0.1.8", &newer);
    let file = newer.display().to_string();
    let told = Output::of(&mut cluster.knode(&["upgrade", &file, "--data-dir", &data]));
    assert_eq!(told.code, 0, "{told}\n{}", manager.output());
    let after = life().unwrap();
    assert!(
        after["version"].as_str().unwrap().starts_with("0.1.8 "),
        "{after}"
    );
    let parent = fs::read_to_string(format!("/proc/{}/stat", after["pid"])).unwrap();
    let parent = parent
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned();
    assert_eq!(parent, manager.id().to_string(), "the manager has started it");
    assert_ne!(before["pid"], after["pid"]);
    fs::write(&stop, "").unwrap();
    drop(manager);
    let down = Output::of(&mut cluster.knode(&["down", "--purge", "--data-dir", &data]));
    assert_eq!(down.code, 0, "{down}");
}
