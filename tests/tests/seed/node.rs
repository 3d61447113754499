//! A machine with directories of its own: the seed's paths mean a private file system here.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use knode_e2e::{BOUND, Output, Site, binary};
use knode_testkit::{Process, image, wait_until};

/// Laid over the machine's own directories in a mount namespace, which ends with this process and leaves no trace.
const PREPARE: &str = r#"
set -e
mount -t tmpfs tmpfs "$1/own"
for dir in etc opt root; do
    mkdir "$1/own/$dir" "$1/own/$dir.work"
    mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$1/own/$dir,workdir=$1/own/$dir.work" "/$dir"
done
for dir in /run /var/lib /var/log; do
    mount -t tmpfs tmpfs "$dir"
done
rm -rf /etc/kubernetes /etc/cni/net.d /etc/systemd/system/kubelet.service
mkdir -p /etc/kubernetes/ssl /etc/cni/net.d /var/lib/kube-proxy /var/lib/knode/images /root/local/bin
for name in kubelet kube-proxy flanneld mk-docker-opts.sh; do
    ln -sf "$2" "/root/local/bin/$name"
done
touch "$1/prepared"
exec sleep infinity
"#;

/// A machine as the seed has it.
pub struct Node {
    network: PathBuf,
    holder: Process,
    ended: bool,
}

impl Node {
    /// Makes the file system of this host of the site.
    #[track_caller]
    pub fn new(site: &Site, host: usize) -> Self {
        let scratch = site.scratch.path();
        std::fs::create_dir_all(scratch.join("own")).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", PREPARE, "sh"])
            .arg(scratch)
            .arg(binary().canonicalize().unwrap());
        let holder = Process::spawn("file system", command);
        wait_until("the node's file system", BOUND, || {
            scratch
                .join("prepared")
                .exists()
                .then_some(())
                .ok_or_else(|| holder.output())
        });
        Self {
            network: site.hosts[host].path(),
            holder,
            ended: false,
        }
    }

    /// Brings what the seed copies to its node, and the image.
    pub fn bring(&self, site: &Site) {
        for name in ["ca.pem", "kubernetes.pem", "kubernetes-key.pem"] {
            let from = site.scratch.join("ssl").join(name);
            std::fs::copy(from, self.path("/etc/kubernetes/ssl").join(name)).unwrap();
        }
        for name in ["bootstrap.kubeconfig", "kube-proxy.kubeconfig", "token.csv"] {
            std::fs::copy(site.scratch.join(name), self.path("/etc/kubernetes").join(name)).unwrap();
        }
        let archive = self.path("/var/lib/knode/images").join("nginx.tar");
        image::nginx().name("nginx:1.7.9").build().write_oci(&archive);
    }

    /// A path of the node as others see it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.id()))
    }

    /// A file's text.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Where a link leads.
    #[track_caller]
    pub fn read_link(&self, path: &str) -> String {
        let target = std::fs::read_link(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        target.display().to_string()
    }

    /// A command on the node.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.network.display()))
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()))
            .arg("--")
            .arg(program.as_ref())
            .env_remove("NOTIFY_SOCKET");
        command
    }

    /// A command line on the node.
    pub fn command_of(&self, words: &[String]) -> Command {
        let mut command = self.command(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// Starts a service's program.
    #[track_caller]
    pub fn start(&self, name: &str, words: &[String], manager: &ServiceManager) -> Process {
        let mut command = self.command_of(words);
        command
            .env("NOTIFY_SOCKET", &manager.path)
            .env("WATCHDOG_USEC", "2000000");
        Process::spawn(name, command)
    }

    /// What a service's program speaks to.
    #[track_caller]
    pub fn service_manager(&self, site: &Site, name: &str) -> ServiceManager {
        let path = site.scratch.join(format!("{name}.notify"));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        ServiceManager { path, socket }
    }

    /// Ends the pods and everything else that is left on the node.
    #[track_caller]
    pub fn end(&mut self) {
        self.ended = true;
        Output::of(self.command(binary()).args(["down", "--purge"])).ok();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.ended {
            let down = Output::of(self.command(binary()).args(["down", "--purge"]));
            eprintln!("-- {down}");
        }
    }
}

/// The other end of `NOTIFY_SOCKET`.
pub struct ServiceManager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl ServiceManager {
    /// Waits until a message has this line.
    #[track_caller]
    pub fn wait_for(&self, line: &str, process: &Process) {
        let mut buffer = [0; 4096];
        wait_until(line, BOUND, || match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                text.lines().any(|one| one == line).then_some(()).ok_or(text)
            }
            Err(error) => Err(format!("{error}\n{}", process.output())),
        });
    }
}
