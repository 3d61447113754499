//! The seed's flow with Debian's docker: etcd, `knode flanneld` and `knode mk-docker-opts` on two machines, dockerd on
//! `docker0` with the lease's addresses and packet size, containers that reach each other. Needs the package docker.io.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use knode_e2e::{BOUND, Output, binary};
use knode_testkit::leaks::Traces;
use knode_testkit::{Host, Lan, Process, Scratch, image, wait_until};
use serde_json::Value;

/// Debian's; another client may come first on the search path.
const DOCKER: &str = "/usr/bin/docker";
const DOCKERD: &str = "/usr/sbin/dockerd";
const PREFIX: &str = "/kubernetes/network";
const NETWORK: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

/// A machine with its daemons. They end in the opposite order of their start.
struct Machine {
    host: Host,
    dir: PathBuf,
    running: Vec<Process>,
}

impl Machine {
    fn new(lan: &Lan, scratch: &Scratch, number: u8) -> Self {
        let name = format!("docker{number}");
        let dir = scratch.join(&name);
        std::fs::create_dir(&dir).unwrap();
        Self {
            host: lan.host(&name, Ipv4Addr::new(10, 99, 0, number), 24),
            dir,
            running: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn logs(&self) -> String {
        self.running
            .iter()
            .map(Process::output)
            .collect::<Vec<_>>()
            .join("\n--\n")
    }

    fn knode(&self, arguments: &[&str]) -> Output {
        Output::of(self.host.command(binary()).args(arguments))
    }

    fn etcd(&mut self) {
        let (url, peer) = ("http://10.99.0.1:2379", "http://10.99.0.1:2380");
        let data = self.path("etcd");
        let arguments = [
            ["--data-dir", data.as_str()],
            ["--listen-client-urls", url],
            ["--advertise-client-urls", url],
            ["--listen-peer-urls", peer],
            ["--initial-advertise-peer-urls", peer],
            ["--initial-cluster", "default=http://10.99.0.1:2380"],
        ];
        self.running
            .push(self.host.spawn("etcd", "etcd", &arguments.concat()));
        let set = [
            "flanneld",
            "config",
            "set",
            NETWORK,
            "-etcd-endpoints",
            url,
            "-etcd-prefix",
            PREFIX,
        ];
        wait_until("the network's configuration to be set", BOUND, || {
            self.knode(&set)
                .result()
                .map_err(|e| format!("{e}\n{}", self.logs()))
        });
    }

    /// The overlay, with the seed's flags; waits for its subnet file.
    fn flanneld(&mut self) {
        let file = self.path("subnet.env");
        let arguments = [
            "flanneld",
            "-etcd-endpoints=http://10.99.0.1:2379",
            &format!("-etcd-prefix={PREFIX}"),
            "-iface=eth0",
            &format!("-subnet-file={file}"),
        ];
        self.running
            .push(self.host.spawn("flanneld", binary(), &arguments));
        wait_until("the subnet file", BOUND, || {
            std::fs::read_to_string(&file).map_err(|e| format!("{e}\n{}", self.logs()))
        });
    }

    /// The words that the seed's unit file gives dockerd: `$DOCKER_NETWORK_OPTIONS`.
    fn network_options(&self) -> Vec<String> {
        let file = self.path("docker.env");
        let subnet = self.path("subnet.env");
        self.knode(&[
            "mk-docker-opts",
            "-f",
            &subnet,
            "-k",
            "DOCKER_NETWORK_OPTIONS",
            "-d",
            &file,
        ])
        .ok();
        let text = std::fs::read_to_string(&file).unwrap();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("DOCKER_NETWORK_OPTIONS="));
        let words = line.unwrap_or_else(|| panic!("{text}")).trim_matches('"');
        words.split_whitespace().map(str::to_owned).collect()
    }

    /// dockerd with mounts of its own, so that none is left and no file of the machine is touched.
    fn dockerd(&mut self, options: &[String]) {
        let mut command = self.host.command("unshare");
        let private = format!(
            "mount -t tmpfs none /run && mkdir -p /etc/docker && mount -t tmpfs none /etc/docker && exec {DOCKERD} \"$@\""
        );
        command.args([
            "--mount",
            "--propagation",
            "private",
            "--",
            "sh",
            "-c",
            &private,
            "dockerd",
        ]);
        command
            .args([
                "--data-root",
                &self.path("data"),
                "--exec-root",
                &self.path("exec"),
            ])
            .args(["--pidfile", &self.path("docker.pid"), "-H", &self.socket()])
            .args(["--cgroup-parent", &cgroup(), "--oom-score-adjust", "0"])
            .args(options);
        self.running.push(Process::spawn("dockerd", command));
        wait_until("dockerd", BOUND, || {
            let ended = self.running.last_mut().and_then(Process::exited);
            assert!(ended.is_none(), "dockerd ended: {ended:?}\n{}", self.logs());
            self.docker(&["version"])
                .result()
                .map_err(|e| format!("{e}\n{}", self.logs()))
        });
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.path("docker.sock"))
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(DOCKER);
        // Neither another daemon's address nor a person's settings.
        command
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .env("HOME", &self.dir);
        Output::of(command.args(["-H", &self.socket()]).args(arguments))
    }

    /// Runs a container and answers its address.
    fn container(&self, archive: &Path) -> String {
        self.docker(&["load", "-i", &archive.display().to_string()]).ok();
        let run = self.docker(&["run", "-d", "--name", "box", "busybox:test", "sleep", "3600"]);
        assert_eq!(run.code, 0, "{run}\n{}", self.logs());
        let format = "{{.NetworkSettings.IPAddress}}";
        self.docker(&["inspect", "-f", format, "box"])
            .ok()
            .trim()
            .to_owned()
    }

    fn bridge(&self) -> Value {
        serde_json::from_str(&self.host.ip("-j address show docker0")).unwrap()
    }

    fn subnet(&self) -> String {
        let text = std::fs::read_to_string(self.path("subnet.env")).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("FLANNEL_SUBNET="));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    /// Ends what runs, the last first.
    fn end(&mut self) {
        if Path::new(&self.path("docker.sock")).exists() {
            // A failed test may have no container; the daemon's end is what counts.
            let _ = self.docker(&["rm", "-f", "box"]);
        }
        while let Some(mut process) = self.running.pop() {
            process.signal(nix::sys::signal::Signal::SIGTERM);
            if !std::thread::panicking() {
                process.wait(BOUND);
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// The control group of this run's containers.
fn cgroup() -> String {
    format!("/docker-under-test-{}", std::process::id())
}

/// Removes the control group.
struct Groups;

impl Drop for Groups {
    fn drop(&mut self) {
        for controller in std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            // Most controllers do not have it.
            let _ = std::fs::remove_dir(controller.path().join(cgroup().trim_start_matches('/')));
        }
    }
}

#[test]
fn docker_containers_of_two_hosts_reach_each_other_over_the_lease() {
    for program in [DOCKER, DOCKERD] {
        assert!(
            Path::new(program).is_file(),
            "no {program}: scripts/debian.sh test installs docker.io"
        );
    }
    let _groups = Groups;
    let scratch = Scratch::new("docker");
    let lan = Lan::new();
    let mut machines = [1, 2].map(|n| Machine::new(&lan, &scratch, n));
    let marker = scratch.path().display().to_string();
    let before = [0, 1].map(|n| Traces::of(&machines[n].host, &marker).processes);
    machines[0].etcd();
    let archive = scratch.join("busybox.tar");
    image::busybox()
        .name("busybox:test")
        .build()
        .write_docker(&archive);
    for machine in &mut machines {
        machine.flanneld();
        let options = machine.network_options();
        let bip = format!("--bip={}", machine.subnet());
        assert_eq!(options, [&bip, "--ip-masq=true", "--mtu=1450"]);
        machine.dockerd(&options);
        let bridge = machine.bridge();
        let address = &bridge[0]["addr_info"][0];
        let shown = format!(
            "{}/{}",
            address["local"].as_str().unwrap_or_default(),
            address["prefixlen"]
        );
        assert_eq!(shown, machine.subnet(), "docker0 has the lease's first address");
    }
    let addresses = [0, 1].map(|n| machines[n].container(&archive));
    for (n, address) in addresses.iter().enumerate() {
        let ours = machines[n].subnet();
        let network = ours.rsplit_once('.').unwrap().0;
        assert!(address.starts_with(&format!("{network}.")), "{address} of {ours}");
        let mtu = machines[n]
            .docker(&["exec", "box", "cat", "/sys/class/net/eth0/mtu"])
            .ok();
        assert_eq!(mtu.trim(), "1450", "the container's packets fit the overlay");
    }
    for (from, to) in [(0, 1), (1, 0)] {
        // 1422 bytes, with their headers, are a whole packet.
        let ping = [
            "exec",
            "box",
            "ping",
            "-c",
            "1",
            "-W",
            "2",
            "-s",
            "1422",
            &addresses[to],
        ];
        wait_until("a full-size packet from container to container", BOUND, || {
            let logs = || machines[from].host.run("nft", &["list", "ruleset"]);
            machines[from]
                .docker(&ping)
                .result()
                .map_err(|e| format!("{e}\n{}", logs()))
        });
        let tunnel: Value =
            serde_json::from_str(&machines[from].host.ip("-j -s link show flannel.1")).unwrap();
        let sent = tunnel[0]["stats64"]["tx"]["packets"].as_u64().unwrap_or_default();
        assert!(sent > 0, "through the tunnel: {tunnel}");
    }
    for machine in machines.iter_mut().rev() {
        machine.end();
    }
    for (machine, before) in machines.iter().zip(before) {
        let after = Traces::of(&machine.host, &marker).processes;
        assert_eq!(after, before, "processes left");
    }
}
