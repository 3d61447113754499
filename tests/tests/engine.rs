//! The engine as a daemon of its own, over its CRI socket, by its command line, and with other OCI runtimes.
//! Needs the packages docker-registry, runc and crun.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use knode_cri::client::RemoteRuntime;
use knode_cri::*;
use knode_e2e::{BOUND, Output, binary};
use knode_linux::cgroup::{Cgroups, DEFAULT_ROOT};
use knode_testkit::leaks::Traces;
use knode_testkit::{Host, Lan, Process, Registry, Scratch, image, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const PODS: &str = "10.77.0.0/24";
/// Says that it runs, and ends when it is asked to.
const PATIENT: &str = "trap 'exit 7' TERM; echo ready; echo oops >&2; while :; do sleep 1000 & wait; done";
/// Debian's crun refuses machines whose second hierarchy of control groups has controllers left: there it is started
/// where that one is not to be seen.
const CRUN: &str = r#"#!/bin/sh
exec unshare --mount sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"' crun "$@"
"#;

/// A machine with an engine. Dropping it runs `knode engine --stop-all` and fails the test if anything is left.
struct Machine {
    host: Host,
    scratch: Scratch,
    process: Option<Process>,
    tokio: tokio::runtime::Runtime,
    before: Traces,
    _lan: Lan,
}

impl Machine {
    fn new(name: &str) -> Self {
        let lan = Lan::new();
        let host = lan.host(name, ADDRESS, 24);
        let scratch = Scratch::new(name);
        let before = Traces::of(&host, &scratch.path().display().to_string());
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Self {
            host,
            process: None,
            tokio: tokio.unwrap(),
            before,
            scratch,
            _lan: lan,
        }
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).display().to_string()
    }

    fn socket(&self) -> PathBuf {
        self.scratch.join("cri.sock")
    }

    /// Starts the daemon and waits until it serves.
    fn start(&mut self, options: &[&str]) {
        let mut command = self.host.command(binary());
        command.args([
            "engine",
            "--data-dir",
            &self.path("data"),
            "--socket",
            &self.path("cri.sock"),
        ]);
        command.args(options);
        self.process = Some(Process::spawn("engine", command));
        wait_until("the engine", BOUND, || {
            let output = self.process.as_ref().unwrap().output();
            if output.contains("] ready") {
                Ok(())
            } else {
                Err(output)
            }
        });
    }

    /// Ends the daemon by a signal; gives its exit code.
    fn end(&mut self, signal: Signal) -> Option<i32> {
        let mut process = self.process.take().unwrap();
        process.signal(signal);
        process.wait(BOUND).code()
    }

    /// `knode engine …` for the data directory.
    fn knode(&self, words: &[&str]) -> Output {
        let mut command: Command = self.host.command(binary());
        let (name, rest) = words.split_first().unwrap();
        command
            .args(["engine", name, "--data-dir", &self.path("data")])
            .args(rest);
        Output::of(&mut command)
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.knode(words).ok()).unwrap()
    }

    /// One call over the socket.
    fn cri<T>(&self, call: impl AsyncFnOnce(RemoteRuntime) -> CriResult<T>) -> CriResult<T> {
        self.tokio.block_on(async {
            let engine = knode_cri::client::connect(self.socket()).await?;
            call(engine).await
        })
    }

    fn sandbox_config(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "test".into(),
                attempt: 0,
            }),
            hostname: name.into(),
            log_directory: self.path(&format!("logs/{name}")),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: group(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn run_pod(&self, config: PodSandboxConfig, handler: &str) -> CriResult<String> {
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler.into(),
        };
        self.cri(async |engine| engine.run_pod_sandbox(request).await)
            .map(|answer| answer.pod_sandbox_id)
    }

    fn create(&self, pod: &str, name: &str, image: &str, command: &[&str], tty: bool) -> CriResult<String> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: name.into(),
                attempt: 0,
            }),
            image: Some(spec(image)),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            log_path: format!("{name}.log"),
            tty,
            linux: Some(LinuxContainerConfig {
                security_context: Some(own_processes()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config),
            sandbox_config: None,
        };
        self.cri(async |engine| engine.create_container(request).await)
            .map(|answer| answer.container_id)
    }

    fn start_container(&self, id: &str) -> CriResult<()> {
        let request = StartContainerRequest {
            container_id: id.into(),
        };
        self.cri(async |engine| engine.start_container(request).await.map(drop))
    }

    /// A pod with a container that says "ready".
    fn patient(&self, name: &str, image: &str, handler: &str) -> (String, String) {
        let pod = self.run_pod(self.sandbox_config(name), handler).unwrap();
        let container = self
            .create(&pod, name, image, &["sh", "-c", PATIENT], false)
            .unwrap();
        self.start_container(&container).unwrap();
        self.wait_log(name, "ready");
        (pod, container)
    }

    fn wait_log(&self, name: &str, text: &str) -> String {
        wait_until(&format!("{text:?} in the log of {name}"), BOUND, || {
            let log = self.knode(&["logs", name]);
            let said = format!("{}{}", log.stdout, log.stderr);
            if said.contains(text) {
                Ok(said)
            } else {
                Err(log.to_string())
            }
        })
    }

    fn status(&self, container: &str) -> ContainerStatus {
        let request = ContainerStatusRequest {
            container_id: container.into(),
            verbose: false,
        };
        let answer = self.cri(async |engine| engine.container_status(request).await);
        answer.unwrap().status.unwrap()
    }

    fn wait_state(&self, container: &str, state: ContainerState) -> ContainerStatus {
        wait_until(&format!("{state:?}"), BOUND, || {
            let status = self.status(container);
            if status.state() == state {
                Ok(status)
            } else {
                Err(format!("{status:?}"))
            }
        })
    }

    fn stop(&self, container: &str) {
        let request = StopContainerRequest {
            container_id: container.into(),
            timeout: 20,
        };
        self.cri(async |engine| engine.stop_container(request).await)
            .unwrap();
    }

    fn network(&self) -> RuntimeCondition {
        let answer = self.cri(async |engine| engine.status(StatusRequest::default()).await);
        let conditions = answer.unwrap().status.unwrap().conditions;
        conditions
            .into_iter()
            .find(|one| one.r#type == "NetworkReady")
            .unwrap()
    }

    /// Brings busybox into the engine from an archive.
    fn import(&self) -> String {
        let archive = self.scratch.join("busybox.tar");
        image::busybox().name("busybox:test").build().write_oci(&archive);
        self.knode(&["import", &archive.display().to_string()]).ok();
        "busybox:test".into()
    }

    /// `--stop-all`, and what it left.
    fn stop_all(&mut self) -> Vec<String> {
        let mut command = self.host.command(binary());
        command.args(["engine", "--stop-all", "--data-dir", &self.path("data")]);
        let ended = Output::of(&mut command);
        self.process = None;
        // Pods' parents are the kubelet's to make and remove.
        let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref()).unwrap();
        cgroups.remove(group().as_ref()).unwrap();
        let scratch = self.path("");
        let mut left = self.before.differences(&Traces::of(&self.host, &scratch));
        // Mounts and groups are the whole machine's: others' come and go.
        left.retain(|line| match line.split_once(' ') {
            Some(("mount", _)) => line.contains(&scratch),
            Some(("cgroup", _)) => line.contains(&group()),
            Some(("process", rest)) => rest.starts_with("left"),
            Some(("namespace", _)) => false,
            _ => true,
        });
        if ended.code != 0 {
            left.push(ended.to_string());
        }
        left
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.process.as_ref().map(Process::output).unwrap_or_default();
            eprintln!("-- the engine's log:\n{log}\n--");
        }
        let left = self.stop_all();
        if !left.is_empty() {
            eprintln!("left behind: {left:#?}");
            assert!(
                std::thread::panicking(),
                "the engine left something behind: {left:#?}"
            );
        }
    }
}

/// The control group of the pods.
fn group() -> String {
    format!("/knode-e2e-{}", std::process::id())
}

/// What the kubelet asks for; CRI's default is the pod's process numbers.
fn own_processes() -> LinuxContainerSecurityContext {
    LinuxContainerSecurityContext {
        namespace_options: Some(NamespaceOption {
            pid: NamespaceMode::Container as i32,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn spec(image: &str) -> ImageSpec {
    ImageSpec {
        image: image.into(),
        ..Default::default()
    }
}

/// Registry, pod, every command, and the three ways in which a daemon ends.
#[test]
fn the_engine_alone_runs_pods_that_outlive_it() {
    let mut machine = Machine::new("engine");
    let registry = Registry::start(&machine.host);
    let image = registry.push(&image::busybox().name("tools/busybox:1").build());
    machine.start(&["--pod-subnet", PODS]);

    let id = machine.knode(&["pull", &image]).ok();
    assert!(id.starts_with("sha256:"), "{id}");
    tells_of_pulls(&machine, &image);
    let listed = machine.knode(&["images"]).ok();
    assert!(listed.contains(&image), "{listed}");
    assert_eq!(
        machine.json(&["images", "-o", "json"])["images"][0]["id"],
        id.trim()
    );

    let mut config = machine.sandbox_config("web");
    config.port_mappings = vec![PortMapping {
        container_port: 80,
        host_port: 8080,
        ..Default::default()
    }];
    let pod = machine.run_pod(config, "").unwrap();
    let script = format!("while echo hello | nc -l -p 80 >/dev/null; do :; done & {PATIENT}");
    let container = machine
        .create(&pod, "web", &image, &["sh", "-c", &script], false)
        .unwrap();
    machine.start_container(&container).unwrap();
    lists_and_shows(&machine, &pod, &container);
    commands_run(&machine);
    serves_its_host_port(&machine);

    // Ended by a service manager, and killed: the container runs on, and its log goes on.
    let started = machine.status(&container).started_at;
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let code = machine.end(signal);
        assert_eq!(code, (signal == Signal::SIGTERM).then_some(0), "{signal}");
        machine.start(&["--pod-subnet", PODS]);
        let status = machine.status(&container);
        assert_eq!(
            (status.state(), status.started_at),
            (ContainerState::ContainerRunning, started)
        );
        assert_eq!(machine.knode(&["exec", "web", "echo", "again"]).ok(), "again\n");
    }
    serves_its_host_port(&machine);
    removes_what_is_named(&machine, &pod, &container, &image);
}

fn tells_of_pulls(machine: &Machine, image: &str) {
    let data = machine.path("data");
    let words = ["engine", "images", "--watch", "--data-dir", &data];
    let watch = machine.host.spawn("watch", binary(), &words);
    // A pull before it listens is not told.
    wait_until("a pull to be told", BOUND, || {
        machine.knode(&["pull", image]).ok();
        let said = watch.output();
        let done = said.contains(&format!("{image}: done"));
        if done { Ok(()) } else { Err(said) }
    });
}

fn lists_and_shows(machine: &Machine, pod: &str, container: &str) {
    machine.wait_log("web", "ready");
    let ps = machine.knode(&["ps"]).ok();
    let line = ps.lines().nth(1).unwrap_or_default();
    assert!(
        line.starts_with(&container[..13]) && line.contains("Running") && line.contains("web"),
        "{ps}"
    );
    assert_eq!(
        machine.json(&["ps", "-o", "json"])["containers"][0]["state"],
        "CONTAINER_RUNNING"
    );
    let pods = machine.json(&["pods", "-o", "json"]);
    assert_eq!(pods["items"][0]["id"], pod);
    let inspected = machine.json(&["inspect", &pod[..12]]);
    let address = inspected["status"]["network"]["ip"].as_str().unwrap();
    assert!(address.starts_with("10.77.0."), "{inspected}");
    let inspected = machine.json(&["inspect", "web"]);
    assert_eq!(inspected["status"]["id"], container);
    let logs = machine.knode(&["logs", "web"]);
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("ready\n", "oops\n")
    );
    let stats = machine.knode(&["stats"]).ok();
    assert!(stats.contains(&container[..13]), "{stats}");
    let stats = machine.json(&["stats", "--pods", "-o", "json"]);
    assert_eq!(stats["stats"][0]["attributes"]["id"], pod);
}

fn commands_run(machine: &Machine) {
    assert_eq!(machine.knode(&["exec", "web", "sh", "-c", "exit 3"]).code, 3);
    let both = machine.knode(&["exec", "web", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    let missing = machine.knode(&["exec", "web", "nope"]).fails();
    assert!(missing.contains("executable file not found"), "{missing}");
    let file = machine.scratch.join("input");
    std::fs::write(&file, "one\ntwo\n").unwrap();
    let mut counting = machine.host.command(binary());
    counting.args([
        "engine",
        "exec",
        "-i",
        "--data-dir",
        &machine.path("data"),
        "web",
        "wc",
        "-l",
    ]);
    counting.stdin(std::fs::File::open(&file).unwrap());
    assert_eq!(Output::of(&mut counting).ok().trim(), "2");
    let nobody = machine.knode(&["exec", "nobody", "true"]).fails();
    assert!(nobody.contains("no container \"nobody\""), "{nobody}");
}

fn serves_its_host_port(machine: &Machine) {
    for address in ["127.0.0.1", "10.99.0.1"] {
        wait_until(&format!("the host port on {address}"), BOUND, || {
            let mut ask = machine.host.command("busybox");
            ask.args(["nc", "-w", "2", address, "8080"]);
            ask.stdin(std::process::Stdio::null());
            let said = Output::of(&mut ask);
            if said.stdout == "hello\n" {
                Ok(())
            } else {
                Err(said.to_string())
            }
        });
    }
}

fn removes_what_is_named(machine: &Machine, pod: &str, container: &str, image: &str) {
    // What is exported comes back by its name.
    let archive = machine.path("exported.tar");
    machine.knode(&["export", "-f", &archive, image]).ok();
    let missing = machine.knode(&["export", "-f", &archive, "no/such:1"]).fails();
    assert!(missing.contains("no/such:1"), "{missing}");
    let refused = machine.knode(&["rm", container]).fails();
    assert!(refused.contains("--force"), "{refused}");
    let follow = machine.host.spawn(
        "follow",
        binary(),
        &["engine", "logs", "-f", "--data-dir", &machine.path("data"), "web"],
    );
    wait_until("the log to be followed", BOUND, || {
        follow.output().contains("ready")
    });
    machine.stop(container);
    assert_eq!(
        machine
            .wait_state(container, ContainerState::ContainerExited)
            .exit_code,
        7
    );
    let mut follow = follow;
    assert!(follow.wait(BOUND).success(), "{}", follow.output());
    assert!(!machine.knode(&["ps"]).ok().contains(&container[..13]));
    assert!(machine.knode(&["ps", "-a"]).ok().contains("Exited"));
    assert_eq!(machine.knode(&["prune"]).ok(), "0B of images removed\n");
    machine.knode(&["rm", container]).ok();
    machine.knode(&["rm", "--force", pod]).ok();
    machine.knode(&["pin", image]).ok();
    assert_eq!(machine.knode(&["prune"]).ok(), "0B of images removed\n");
    assert_eq!(
        machine.json(&["images", "-o", "json"])["images"][0]["pinned"],
        true
    );
    machine.knode(&["pin", "--off", image]).ok();
    let unknown = machine.knode(&["pin", "no/such:1"]).fails();
    assert!(unknown.contains("no/such:1"), "{unknown}");
    let pruned = machine.knode(&["prune"]).ok();
    assert!(pruned.contains(image), "{pruned}");
    assert_eq!(machine.knode(&["images", "-q"]).ok(), "");
    machine.knode(&["import", &archive]).ok();
    assert!(machine.knode(&["images"]).ok().contains(image));
}

/// Without a subnet on the command line the engine waits for the kubelet to tell it, and remembers it.
#[test]
fn a_kubelet_tells_the_pods_addresses() {
    let mut machine = Machine::new("podcidr");
    machine.start(&[]);
    let image = machine.import();
    assert!(!machine.network().status);
    let refused = machine.run_pod(machine.sandbox_config("early"), "").unwrap_err();
    assert!(refused.message.contains("network"), "{refused}");
    let request = UpdateRuntimeConfigRequest {
        runtime_config: Some(RuntimeConfig {
            network_config: Some(NetworkConfig {
                pod_cidr: "10.78.0.0/24".into(),
            }),
        }),
    };
    machine
        .cri(async |engine| engine.update_runtime_config(request).await)
        .unwrap();
    let ready = |machine: &Machine| {
        wait_until("the network", BOUND, || {
            let network = machine.network();
            if network.status {
                Ok(())
            } else {
                Err(network.message)
            }
        });
    };
    ready(&machine);
    machine.end(Signal::SIGKILL);
    machine.start(&[]);
    ready(&machine);
    let (pod, container) = machine.patient("late", &image, "");
    let address = machine.json(&["inspect", &pod])["status"]["network"]["ip"].clone();
    assert!(address.as_str().unwrap().starts_with("10.78.0."), "{address}");
    let driver = machine.cri(async |engine| engine.runtime_config(Default::default()).await);
    assert_eq!(
        driver.unwrap().linux.unwrap().cgroup_driver(),
        CgroupDriver::Cgroupfs
    );
    machine.knode(&["rm", "-f", &container, &pod]).ok();
}

/// runc and crun by handler: what they start is adopted after a kill, and ends as it should.
#[test]
fn other_oci_runtimes_run_containers_by_their_handler() {
    let mut machine = Machine::new("runtimes");
    let config = machine.path("engine.yaml");
    let crun = machine.path("crun");
    std::fs::write(&crun, CRUN).unwrap();
    std::fs::set_permissions(&crun, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(
        &config,
        format!("runtimes:\n  runc: {{path: runc}}\n  crun: {{path: {crun}}}\n"),
    )
    .unwrap();
    let options = ["--pod-subnet", PODS, "--config", &config];
    machine.start(&options);
    let image = machine.import();
    handlers_are_reported(&machine);
    let unknown = machine
        .run_pod(machine.sandbox_config("kata"), "kata")
        .unwrap_err();
    assert_eq!(unknown.message, "no runtime for \"kata\" is configured");

    let runs: Vec<_> = ["runc", "crun"]
        .iter()
        .map(|name| (*name, machine.patient(name, &image, name)))
        .collect();
    for (name, (pod, container)) in &runs {
        assert_eq!(
            machine.json(&["inspect", pod])["status"]["runtimeHandler"],
            **name
        );
        made_by(&machine, name, container);
        assert_eq!(machine.knode(&["exec", name, "cat", "/proc/1/comm"]).ok(), "sh\n");
        assert_eq!(machine.knode(&["exec", name, "sh", "-c", "exit 5"]).code, 5);
        let missing = machine.knode(&["exec", name, "nope"]).fails();
        assert!(missing.contains("nope"), "{missing}");
        fails_to_start(&machine, name, pod, &image);
        runs_on_a_terminal(&machine, name, pod, &image);
    }
    machine.end(Signal::SIGKILL);
    machine.start(&options);
    for (name, (pod, container)) in &runs {
        assert_eq!(
            machine.status(container).state(),
            ContainerState::ContainerRunning
        );
        assert_eq!(
            machine.knode(&["exec", name, "echo", "adopted"]).ok(),
            "adopted\n"
        );
        machine.stop(container);
        let ended = machine.wait_state(container, ContainerState::ContainerExited);
        assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"));
        machine.knode(&["rm", container]).ok();
        assert!(
            !machine
                .scratch
                .join("data/run/engine/oci")
                .join(container)
                .exists()
        );
        machine.knode(&["rm", "-f", pod]).ok();
    }
}

fn handlers_are_reported(machine: &Machine) {
    let answer = machine.cri(async |engine| engine.status(StatusRequest::default()).await);
    let handlers = answer.unwrap().runtime_handlers;
    let of = |name: &str| {
        let handler = handlers.iter().find(|handler| handler.name == name);
        handler
            .unwrap_or_else(|| panic!("{name:?}: {handlers:?}"))
            .features
            .unwrap()
    };
    // Debian's runc says what it can, its crun is too old to.
    assert!(of("").recursive_read_only_mounts && of("runc").recursive_read_only_mounts);
    assert!(!of("crun").recursive_read_only_mounts && !of("crun").user_namespaces);
}

/// Each program keeps its own files of what it has made.
fn made_by(machine: &Machine, name: &str, container: &str) {
    let state = machine.scratch.join("data/run/engine/oci").join(container);
    let own = if name == "runc" { "state.json" } else { "status" };
    let seen: Vec<_> = std::fs::read_dir(&state)
        .unwrap_or_else(|error| panic!("{}: {error}", state.display()))
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(seen.iter().any(|file| file == own), "{name}: {seen:?}");
}

fn fails_to_start(machine: &Machine, name: &str, pod: &str, image: &str) {
    let broken = format!("{name}-broken");
    let container = machine.create(pod, &broken, image, &["nope"], false).unwrap();
    let error = machine.start_container(&container).unwrap_err();
    assert!(
        error.message.contains("nope") && error.message.contains("not found"),
        "{name}: {error}"
    );
    let status = machine.status(&container);
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
}

fn runs_on_a_terminal(machine: &Machine, name: &str, pod: &str, image: &str) {
    let talker = format!("{name}-tty");
    let command = ["sh", "-c", "test -t 1 && echo on a terminal"];
    let container = machine.create(pod, &talker, image, &command, true).unwrap();
    machine.start_container(&container).unwrap();
    assert_eq!(
        machine
            .wait_state(&container, ContainerState::ContainerExited)
            .exit_code,
        0
    );
    machine.wait_log(&talker, "on a terminal");
}
