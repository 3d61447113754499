//! Debian's containerd, with Debian's runc, as the runtime of a machine's pods.

use std::path::{Path, PathBuf};
use std::time::Duration;

use knode_cri::{ImageService, ImageSpec, ImageStatusRequest, RuntimeService, StatusRequest};
use knode_testkit::{Host, Process, Scratch, Systemd, containerd, image, wait_until_async};

/// The image of pods' sandboxes.
const PAUSE: &str = "localhost/test/pause:1";
/// How long containerd may take for a step.
const BOUND: Duration = Duration::from_secs(30);

/// A containerd of the test's own, below a directory. What it started goes with it.
pub struct Containerd {
    directory: PathBuf,
    process: Option<Process>,
    /// Words before those that start it.
    prefix: Vec<String>,
}

impl Containerd {
    /// Starts one on a machine; returns when it answers and has the image of sandboxes. A systemd makes its control
    /// groups, if there is one; it goes with that.
    ///
    /// # Panics
    /// With its output, when it doesn't come up.
    #[track_caller]
    pub fn start(host: &Host, scratch: &Scratch, systemd: Option<&Systemd>) -> Self {
        let directory = scratch.join("containerd");
        let mut made = Self {
            directory,
            process: None,
            prefix: systemd.map(Systemd::prefix).unwrap_or_default(),
        };
        for name in ["", "bin", "net.d"] {
            let path = made.directory.join(name);
            std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
        let file = made.directory.join("config.toml");
        let mut text = containerd::config(&made.directory, PAUSE) + &made.crun(scratch);
        if systemd.is_some() {
            text = containerd::by_systemd(&text);
        }
        std::fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        made.run(host);
        let archive = made.directory.join("pause.tar");
        let pause = image::busybox().name(PAUSE).cmd(&["sleep", "86400"]);
        pause.build().write_oci(&archive);
        made.import(host, &archive);
        made
    }

    /// A handler for tests that put an OCI runtime at `crun` in the scratch directory.
    fn crun(&self, scratch: &Scratch) -> String {
        let section = r#"  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun"#;
        format!(
            "{section}]\n    runtime_type = \"io.containerd.runc.v2\"\n{section}.options]\n    BinaryName = \"{}\"\n    Root = \"{}\"\n",
            scratch.join("crun").display(),
            self.directory.join("crun").display(),
        )
    }

    /// Starts the daemon, for the first time or after [`Containerd::stop`]; returns when it answers.
    ///
    /// # Panics
    /// With its output, when it doesn't come up.
    #[track_caller]
    pub fn run(&mut self, host: &Host) {
        let file = self.directory.join("config.toml").display().to_string();
        let words: Vec<&str> = self.prefix.iter().map(String::as_str).collect();
        let words = [&words, &["containerd", "-c", &file][..]].concat();
        self.process = Some(host.spawn("containerd", words[0], &words[1..]));
        host.block_on(async || {
            let answers = || async {
                let cri = knode_cri::client::connect(self.socket()).await;
                let cri = cri.map_err(|e| format!("{e}: {}", self.output()))?;
                cri.status(StatusRequest::default())
                    .await
                    .map_err(|e| e.to_string())
            };
            wait_until_async("containerd", BOUND, answers).await;
        });
    }

    /// Ends the daemon alone: containers run on.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Its CRI socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("c.sock")
    }

    /// Its socket as the kubelet is told it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What it printed.
    pub fn output(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    fn ctr(&self, host: &Host, words: &[&str]) -> String {
        let socket = self.socket().display().to_string();
        let own = ["-a", &socket, "-n", "k8s.io", "images"];
        host.run("ctr", &[&own, words].concat())
    }

    /// Imports an archive; its images have their full names then.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn import(&self, host: &Host, archive: &Path) -> String {
        let told = self.ctr(host, &["import", &archive.display().to_string()]);
        let names = told.lines().filter_map(|line| line.strip_prefix("unpacking "));
        let names: Vec<&str> = names.filter_map(|rest| rest.split_whitespace().next()).collect();
        assert!(!names.is_empty(), "no image in {}: {told}", archive.display());
        for name in names {
            let full = full_name(name);
            if full != name {
                self.ctr(host, &["tag", "--force", name, &full]);
                // CRI doesn't know this name, which would keep the layers of an image that it removes.
                self.ctr(host, &["rm", name]);
            }
            host.block_on(async || self.known(&full).await);
        }
        told
    }

    /// The CRI part hears of new images a little later.
    async fn known(&self, name: &str) {
        let spec = ImageSpec {
            image: name.to_owned(),
            ..ImageSpec::default()
        };
        let ask = || async {
            let request = ImageStatusRequest {
                image: Some(spec.clone()),
                ..ImageStatusRequest::default()
            };
            let cri = knode_cri::client::connect(self.socket())
                .await
                .map_err(|e| e.to_string())?;
            let status = cri.image_status(request).await.map_err(|e| e.to_string())?;
            status.image.ok_or_else(|| "no image".to_owned())
        };
        wait_until_async(&format!("image {name}"), BOUND, ask).await;
    }
}

/// An image's name as registries know it.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process = None;
        containerd::end_shims(&self.directory);
        let mounts = knode_linux::overlay::mount_points_below(&self.directory).unwrap_or_default();
        for mount in mounts.iter().rev() {
            if let Err(error) = knode_linux::overlay::unmount_all(mount) {
                eprintln!("{}: {error}", mount.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_registries() {
        assert_eq!(full_name("busybox:test"), "docker.io/library/busybox:test");
        assert_eq!(full_name("a/b:1"), "docker.io/a/b:1");
        assert_eq!(full_name("localhost/a:1"), "localhost/a:1");
        assert_eq!(full_name("r.example:5000/a:1"), "r.example:5000/a:1");
    }
}
