//! Debian's containerd, with Debian's runc, calls the CNI plugin for its pods. Needs root.
//!
//! This program is the test, and the plugin too: containerd finds it under the plugin's name and runs it with the
//! environment of CNI. That is why it has a `main` of its own.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use knode_cri::client::RemoteRuntime;
use knode_cri::{
    ImageService, ImageSpec, ImageStatusRequest, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata,
    PodSandboxStatusRequest, PortMapping, RemovePodSandboxRequest, RunPodSandboxRequest, RuntimeService,
    StatusRequest, StopPodSandboxRequest,
};
use knode_testkit::{Host, Process, Scratch, containerd, wait_until_async};

const TEST: &str = "containerd_calls_the_plugin";
const PAUSE: &str = "localhost/test/pause:1";
const BOUND: Duration = Duration::from_secs(30);
const SUBNET: &str = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.65.1/24\n\
     FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:65::1/64\n\
     FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

fn main() -> ExitCode {
    if std::env::var_os("CNI_COMMAND").is_some() {
        return plugin();
    }
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        println!("{TEST}: test");
        return ExitCode::SUCCESS;
    }
    let mut filters = arguments.iter().filter(|a| !a.starts_with('-')).peekable();
    if filters.peek().is_none() || filters.any(|filter| TEST.contains(filter.as_str())) {
        containerd_calls_the_plugin();
        println!("test {TEST} ... ok");
    }
    ExitCode::SUCCESS
}

fn plugin() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if runtime.unwrap().block_on(knode_podnet::cni_process()).unwrap() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A containerd of the test's own. What it started goes with it.
struct Containerd {
    host: Host,
    cgroup: String,
    process: Option<Process>,
    scratch: Scratch,
}

impl Containerd {
    fn start() -> Self {
        let (host, scratch) = (Host::new("node"), Scratch::new("cni-containerd"));
        let plugins = scratch.join("bin");
        std::fs::create_dir_all(&plugins).unwrap();
        // This containerd calls a plugin of the name `loopback` too.
        for name in ["knode", "loopback"] {
            symlink(std::env::current_exe().unwrap(), plugins.join(name)).unwrap();
        }
        std::fs::create_dir_all(scratch.join("net.d")).unwrap();
        std::fs::write(scratch.join("net.d/10-knode.conflist"), conflist(scratch.path())).unwrap();
        std::fs::write(
            scratch.join("config.toml"),
            containerd::config(scratch.path(), PAUSE),
        )
        .unwrap();
        let configuration = scratch.join("config.toml");
        let process = host.spawn(
            "containerd",
            "containerd",
            &["-c", configuration.to_str().unwrap()],
        );
        Self {
            host,
            cgroup: format!("/knode-cni-test-{}", std::process::id()),
            process: Some(process),
            scratch,
        }
    }

    fn socket(&self) -> PathBuf {
        self.scratch.join("c.sock")
    }

    /// Connects, and waits until the image of pods is there.
    async fn connect(&self) -> RemoteRuntime {
        let connect = || knode_cri::client::connect(self.socket());
        let cri = wait_until_async(&format!("containerd ({})", self.output()), BOUND, connect).await;
        self.import();
        let spec = ImageSpec {
            image: PAUSE.to_owned(),
            ..ImageSpec::default()
        };
        let image = || async {
            let request = ImageStatusRequest {
                image: Some(spec.clone()),
                ..ImageStatusRequest::default()
            };
            let status = cri.image_status(request).await.map_err(|e| e.to_string())?;
            status.image.ok_or_else(|| "no image".to_owned())
        };
        wait_until_async("the image", BOUND, image).await;
        cri
    }

    fn import(&self) {
        let archive = self.scratch.join("pause.tar");
        let image = knode_testkit::image::busybox()
            .name(PAUSE)
            .cmd(&["sleep", "3600"]);
        image.build().write_oci(&archive);
        let socket = self.socket();
        let words = ["-a", socket.to_str().unwrap(), "-n", "k8s.io", "images", "import"];
        let all = [&words[..], &[archive.to_str().unwrap()]].concat();
        self.host.run("ctr", &all);
    }

    fn output(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    /// Addresses that the plugin has given out.
    fn leases(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.scratch.join("leases/leases"));
        let entries = entries.into_iter().flatten().flatten();
        entries.map(|e| e.file_name().into_string().unwrap()).collect()
    }

    fn links(&self) -> Vec<String> {
        let all = self.host.ip("-o link");
        let names = all.lines().filter_map(|line| line.split(": ").nth(1));
        let names = names.map(|name| name.split('@').next().unwrap_or(name).to_owned());
        names.filter(|name| name != "lo").collect()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process = None;
        containerd::end_shims(self.scratch.path());
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            // Only there where a pod was started; one that is in use is reported by the leak check.
            let _absent = std::fs::remove_dir(hierarchy.path().join(self.cgroup.trim_start_matches('/')));
        }
    }
}

fn conflist(scratch: &Path) -> String {
    std::fs::write(scratch.join("subnet.env"), SUBNET).unwrap();
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "knode",
            "dataDir": scratch.join("leases"),
            "subnetFile": scratch.join("subnet.env"),
            "capabilities": { "portMappings": true, "bandwidth": true },
        }],
    })
    .to_string()
}

fn pod(containerd: &Containerd, name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        log_directory: containerd
            .scratch
            .join(format!("logs-{name}"))
            .display()
            .to_string(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: containerd.cgroup.clone(),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

async fn run(cri: &RemoteRuntime, config: PodSandboxConfig) -> String {
    let request = RunPodSandboxRequest {
        config: Some(config),
        ..RunPodSandboxRequest::default()
    };
    cri.run_pod_sandbox(request).await.unwrap().pod_sandbox_id
}

async fn addresses(cri: &RemoteRuntime, id: &str) -> Vec<String> {
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        ..PodSandboxStatusRequest::default()
    };
    let status = cri.pod_sandbox_status(request).await.unwrap().status.unwrap();
    let network = status.network.unwrap();
    let more = network.additional_ips.into_iter().map(|ip| ip.ip);
    [network.ip].into_iter().chain(more).collect()
}

async fn stop(cri: &RemoteRuntime, id: &str) {
    let pod_sandbox_id = id.to_owned();
    cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id })
        .await
        .unwrap();
}

/// Whether somebody is there: nobody listens, so he refuses.
fn refuses(ip: IpAddr, port: u16) -> bool {
    let to = SocketAddr::new(ip, port);
    let error = TcpStream::connect_timeout(&to, Duration::from_secs(5)).map(drop);
    error.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

fn containerd_calls_the_plugin() {
    knode_testkit::require_root();
    let containerd = Containerd::start();
    containerd.host.block_on(async || {
        let cri = containerd.connect().await;
        let conditions = cri
            .status(StatusRequest::default())
            .await
            .unwrap()
            .status
            .unwrap();
        assert!(conditions.conditions.iter().all(|c| c.status), "{conditions:?}");

        let first = run(&cri, with_wishes(pod(&containerd, "first"))).await;
        let second = run(&cri, pod(&containerd, "second")).await;
        assert_eq!(addresses(&cri, &first).await, ["172.30.65.2", "fd00:0:0:65::2"]);
        assert_eq!(addresses(&cri, &second).await, ["172.30.65.3", "fd00:0:0:65::3"]);
        for ip in ["172.30.65.2", "fd00:0:0:65::2", "172.30.65.3", "fd00:0:0:65::3"] {
            assert!(refuses(ip.parse().unwrap(), 80), "{ip}");
        }
        let rules = containerd.host.run("nft", &["list", "ruleset"]);
        assert!(rules.contains("tcp . 8080 : 172.30.65.2 . 80"), "{rules}");
        let queues = containerd.host.run("tc", &["qdisc", "show"]);
        assert!(queues.contains("rate 8Mbit"), "{queues}");
        let leases = ["172.30.65.2", "172.30.65.3", "fd00:0:0:65::2", "fd00:0:0:65::3"];
        assert_eq!(containerd.leases(), leases.map(str::to_owned).into());

        stop(&cri, &first).await;
        stop(&cri, &first).await;
        let left = ["172.30.65.3", "fd00:0:0:65::3"];
        assert_eq!(containerd.leases(), left.map(str::to_owned).into());
        assert!(
            refuses(left[0].parse().unwrap(), 80),
            "the other pod is still there"
        );
        assert!(
            !containerd
                .host
                .run("nft", &["list", "ruleset"])
                .contains("172.30.65.2")
        );
        stop(&cri, &second).await;
        assert_eq!(containerd.leases(), BTreeSet::new());
        assert_eq!(containerd.links(), ["cni0"]);
        for pod_sandbox_id in [first, second] {
            let request = RemovePodSandboxRequest { pod_sandbox_id };
            cri.remove_pod_sandbox(request).await.unwrap();
        }
    });
}

/// A host port and a limit.
fn with_wishes(config: PodSandboxConfig) -> PodSandboxConfig {
    let annotation = ("kubernetes.io/ingress-bandwidth".to_owned(), "8M".to_owned());
    PodSandboxConfig {
        port_mappings: vec![PortMapping {
            container_port: 80,
            host_port: 8080,
            ..PortMapping::default()
        }],
        annotations: [annotation].into(),
        ..config
    }
}
