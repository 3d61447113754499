//! A node whose pods run in another container runtime: what that one needs to find the pod network, and how its pods
//! end with the node.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use async_trait::async_trait;
use knode_cri::client::connect;
use knode_cri::{
    ListPodSandboxRequest, RemovePodSandboxRequest, RuntimeService, StatusRequest, StopPodSandboxRequest,
};
use knode_podnet::Subnet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::CniDirs;
use super::runtime::Endpoint;
use crate::control::{Answer, Commands};
use crate::layout::Layout;

/// The plugin that this binary is.
const PLUGIN: &str = "knode";
/// The configuration that is put where there is none, beside which another one of flannel's name comes first.
const CONFLIST: &str = "10-knode.conflist";
const POD_UID: &str = "io.kubernetes.pod.uid";

/// What was put somewhere for another runtime, for `knode down`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The runtime's socket.
    endpoint: PathBuf,
    /// Files and links.
    files: Vec<PathBuf>,
}

impl Record {
    fn path(layout: &Layout) -> PathBuf {
        layout.data_dir().join("runtime.json")
    }

    /// What was put there, if pods run in another runtime.
    fn load(layout: &Layout) -> anyhow::Result<Option<Self>> {
        let path = Self::path(layout);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        let path = Self::path(layout);
        let text = serde_json::to_vec_pretty(self).context("write down what the runtime got")?;
        knode_pki::files::write_atomic(&path, &text, knode_pki::files::PRIVATE)?;
        Ok(())
    }
}

/// Remembers the runtime before anything of the node runs in it.
pub fn remember(layout: &Layout, endpoint: &Endpoint) -> anyhow::Result<()> {
    let record = Record {
        endpoint: endpoint.path().to_owned(),
        ..Record::load(layout)?.unwrap_or_default()
    };
    record.save(layout)
}

/// Where the runtime looks for network configurations and plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Directories {
    conf: PathBuf,
    bin: PathBuf,
}

/// The runtime's own directories, as containerd tells them in its verbose status; otherwise those of this node's
/// options. None if no configurations are wanted at all.
async fn directories(runtime: &dyn RuntimeService, options: &CniDirs) -> anyhow::Result<Option<Directories>> {
    let Some(conf) = &options.conf else {
        return Ok(None);
    };
    let status = runtime.status(StatusRequest { verbose: true }).await;
    let info = status.context("ask the runtime for its directories")?.info;
    let told = info.get("config").and_then(|text| told(text));
    let own = || Directories {
        conf: conf.clone(),
        bin: options.bin.first().cloned().unwrap_or_default(),
    };
    Ok(Some(told.unwrap_or_else(own)))
}

/// The directories in containerd's configuration.
fn told(config: &str) -> Option<Directories> {
    let config: Value = serde_json::from_str(config).ok()?;
    let cni = config.get("cni")?;
    let path = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(PathBuf::from);
    let bin = path(&cni["binDir"]).or_else(|| path(&cni["binDirs"][0]));
    Some(Directories {
        conf: path(&cni["confDir"])?,
        bin: bin?,
    })
}

/// The configuration by which a runtime connects pods with our pod network.
fn conflist(layout: &Layout) -> String {
    let list = json!({
        "cniVersion": "1.0.0",
        "name": "knode",
        "plugins": [{
            "type": PLUGIN,
            "dataDir": layout.podnet_dir(),
            "subnetFile": layout.subnet_file(),
            "capabilities": {"portMappings": true, "bandwidth": true},
        }],
    });
    format!("{list:#}\n")
}

/// Waits for the node's subnet, then lets the runtime find the pod network: from then on it can connect pods. Ends only
/// when that fails, or the overlay ends.
pub async fn offer_network(
    layout: Layout,
    options: CniDirs,
    runtime: std::sync::Arc<dyn RuntimeService>,
    mut subnet: watch::Receiver<Option<Subnet>>,
) -> String {
    let offered = async {
        if subnet.wait_for(Option::is_some).await.is_err() {
            return Ok(());
        }
        match directories(runtime.as_ref(), &options).await? {
            Some(directories) => put(&layout, &directories),
            None => Ok(()),
        }
    };
    if let Err(error) = offered.await {
        return format!("the runtime cannot be given the pod network: {error:#}");
    }
    while subnet.changed().await.is_ok() {}
    "the pod network ended".into()
}

/// Puts the configuration and the plugin where the runtime looks, if it has no configuration yet, or ours.
fn put(layout: &Layout, directories: &Directories) -> anyhow::Result<()> {
    let Directories { conf, bin } = directories;
    let file = conf.join(CONFLIST);
    if let Some(other) = configured(conf)?.filter(|other| *other != file) {
        tracing::info!(file = %other.display(), "the runtime has a network configuration: pods get that network");
        return Ok(());
    }
    let mut record = Record::load(layout)?.unwrap_or_default();
    let mut remember = |path: &Path| {
        if !record.files.iter().any(|known| known == path) {
            record.files.push(path.to_owned());
        }
        record.save(layout)
    };
    std::fs::create_dir_all(bin).with_context(|| format!("make {}", bin.display()))?;
    std::fs::create_dir_all(conf).with_context(|| format!("make {}", conf.display()))?;
    // containerd before 2.0 calls a plugin of the second name too.
    for name in [PLUGIN, "loopback"] {
        let plugin = bin.join(name);
        if name == PLUGIN || !plugin.exists() {
            remember(&plugin)?;
            link(&plugin)?;
        }
    }
    remember(&file)?;
    write(&file, &conflist(layout)).with_context(|| format!("write {}", file.display()))?;
    tracing::info!(file = %file.display(), plugins = %bin.display(), "the runtime's pods get the built-in network");
    Ok(())
}

/// The first configuration in a directory, in the order in which runtimes look.
fn configured(conf: &Path) -> anyhow::Result<Option<PathBuf>> {
    let entries = match std::fs::read_dir(conf) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("read {}", conf.display()))?,
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let is_configuration = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str());
        matches!(extension, Some("conf" | "conflist" | "json"))
    };
    files.retain(is_configuration);
    files.sort();
    Ok(files.into_iter().next())
}

/// A link to this program, made anew where there is one.
fn link(plugin: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let make = || {
        match std::fs::remove_file(plugin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(&program, plugin)
    };
    make().with_context(|| format!("put the plugin at {}", plugin.display()))
}

/// Whole or not at all; the runtime watches the directory.
fn write(file: &Path, text: &str) -> io::Result<()> {
    if std::fs::read_to_string(file).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let temporary = file.with_extension("tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, file)
}

/// Ends the node's pods in the other runtime, and takes back what that one was given. Goes on after errors and returns
/// them all; nothing to do if the pods run in the engine.
pub async fn teardown(layout: &Layout) -> Vec<String> {
    let record = match Record::load(layout) {
        Ok(Some(record)) => record,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![format!("{error:#}")],
    };
    let mut errors = end_pods(layout, &record.endpoint).await;
    for file in &record.files {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                errors.push(format!("remove {}: {error}", file.display()));
            }
            _ => {}
        }
    }
    if errors.is_empty()
        && let Err(error) = std::fs::remove_file(Record::path(layout))
    {
        errors.push(format!("remove {}: {error}", Record::path(layout).display()));
    }
    errors
}

/// The sandboxes of pods that this node's kubelet has directories of: a runtime may serve others too.
async fn end_pods(layout: &Layout, endpoint: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(layout.kubelet_dir().join("pods"));
    let names = entries.into_iter().flatten().flatten();
    let ours: HashSet<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if ours.is_empty() {
        return Vec::new();
    }
    let listed = async {
        let cri = connect(endpoint).await?;
        let listed = cri.list_pod_sandbox(ListPodSandboxRequest::default()).await?;
        Ok::<_, knode_cri::CriError>((cri, listed.items))
    };
    let (cri, sandboxes) = match listed.await {
        Ok(both) => both,
        Err(error) => {
            let at = endpoint.display();
            return vec![format!(
                "the pods of the runtime at {at} cannot be ended: {error}"
            )];
        }
    };
    let mut errors = Vec::new();
    for sandbox in sandboxes {
        if !sandbox.labels.get(POD_UID).is_some_and(|uid| ours.contains(uid)) {
            continue;
        }
        let stop = StopPodSandboxRequest {
            pod_sandbox_id: sandbox.id.clone(),
        };
        let remove = RemovePodSandboxRequest {
            pod_sandbox_id: sandbox.id.clone(),
        };
        let stopped = cri.stop_pod_sandbox(stop).await.map(drop);
        let ended = match stopped {
            Ok(()) => cri.remove_pod_sandbox(remove).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            errors.push(format!("end sandbox {}: {error}", sandbox.id));
        }
    }
    errors
}

/// What can be asked of this daemon when the images are another's.
pub struct Foreign(pub Endpoint);

impl Foreign {
    fn refused(&self) -> Answer {
        Err(format!(
            "unsupported: images are those of the runtime at {}; use its own tools",
            self.0
        ))
    }
}

#[async_trait]
impl Commands for Foreign {
    async fn import(&self, _: &Path) -> Answer {
        self.refused()
    }

    async fn images(&self) -> Answer {
        self.refused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_tells_its_directories() {
        let of = |conf: &str, bin: &str| {
            Some(Directories {
                conf: conf.into(),
                bin: bin.into(),
            })
        };
        let old = r#"{"cni":{"binDir":"/usr/lib/cni","confDir":"/etc/cni/net.d","maxConfNum":1}}"#;
        assert_eq!(told(old), of("/etc/cni/net.d", "/usr/lib/cni"));
        let new = r#"{"cni":{"binDir":"","binDirs":["/opt/cni/bin"],"confDir":"/etc/cni/net.d"}}"#;
        assert_eq!(told(new), of("/etc/cni/net.d", "/opt/cni/bin"));
        assert_eq!(told("{}"), None);
        assert_eq!(told("no JSON"), None);
    }

    #[test]
    fn only_a_directory_without_configuration_gets_ours() {
        let root = std::env::temp_dir().join(format!("knode-remote-{}", std::process::id()));
        let layout = Layout::new(&root.join("data"));
        std::fs::create_dir_all(layout.data_dir()).unwrap();
        let directories = Directories {
            conf: root.join("net.d"),
            bin: root.join("bin"),
        };
        put(&layout, &directories).unwrap();
        put(&layout, &directories).unwrap();
        let file = directories.conf.join(CONFLIST);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.contains("subnet.env") && text.contains("\"knode\""),
            "{text}"
        );
        assert!(directories.bin.join("knode").is_symlink());
        let record = Record::load(&layout).unwrap().unwrap();
        assert_eq!(record.files.len(), 3, "{record:?}");

        std::fs::remove_file(&file).unwrap();
        std::fs::write(directories.conf.join("05-other.conf"), "{}").unwrap();
        put(&layout, &directories).unwrap();
        assert!(!file.exists(), "somebody else's network is meant");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
