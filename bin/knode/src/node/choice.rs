//! Which pod network new pods get: the built-in one, or that of a conflist.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use knode_cni::{Cni, Loaded, Network};
use knode_engine::net::{NetError, NetRequest, NetResult, NetStatus, PodNetwork};
use knode_podnet::{PodNet, Subnet};
use tokio::sync::watch;

use super::conflist::{Conflist, not_ready};
use super::network::BuiltIn;
use crate::layout::Layout;

/// The type of the plugin that is the built-in network itself.
const OWN: &str = "knode";

/// Where network configurations and plugins lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniDirs {
    /// The directory of configurations; none are looked for where there is none.
    pub conf: Option<PathBuf>,
    /// The directories of plugins.
    pub bin: Vec<PathBuf>,
}

impl CniDirs {
    /// Opens the client for other people's plugins.
    pub fn open(&self, layout: &Layout) -> anyhow::Result<Cni> {
        let config = knode_cni::Config::new(self.conf.clone(), self.bin.clone(), layout.cni_cache_dir());
        Cni::open(config).context("read the network configurations")
    }
}

/// The pod network of new pods.
#[derive(Clone, Debug, PartialEq)]
enum Choice {
    /// The built-in one, for this reason.
    BuiltIn(String),
    /// A conflist's.
    Conflist(Network),
    /// None: there are configurations, but no usable one. Whoever put them there does not want the built-in network.
    None,
}

/// Decides by what the directory says.
fn choose(dir: Option<&Path>, loaded: &Loaded) -> Choice {
    match (&loaded.network, dir) {
        (Some(network), _) if network.list.kinds().all(|kind| kind == OWN) => {
            let file = network.file.display();
            Choice::BuiltIn(format!(
                "{file} names the plugin {OWN}, which is the built-in network"
            ))
        }
        (Some(network), _) => Choice::Conflist(network.clone()),
        (None, _) if !loaded.broken.is_empty() => Choice::None,
        (None, Some(dir)) => Choice::BuiltIn(format!("no network configuration in {}", dir.display())),
        (None, None) => Choice::BuiltIn("network configurations are not looked for".into()),
    }
}

/// Both networks. New pods get the chosen one; pods that have one keep it, and give it back to the one they have it of.
#[derive(Clone)]
pub struct Networks {
    built_in: Arc<BuiltIn>,
    conflist: Conflist,
    dir: Option<PathBuf>,
}

impl Networks {
    /// Puts both together. `dir` is the directory that `cni` follows.
    pub fn new(built_in: BuiltIn, cni: Cni, dir: Option<PathBuf>) -> Self {
        Self {
            built_in: Arc::new(built_in),
            conflist: Conflist(cni),
            dir,
        }
    }

    fn choice(&self) -> Choice {
        choose(self.dir.as_deref(), &self.conflist.0.loaded().borrow())
    }
}

#[async_trait]
impl PodNetwork for Networks {
    async fn add(&self, request: &NetRequest) -> Result<NetResult, NetError> {
        match self.choice() {
            Choice::BuiltIn(_) => self.built_in.add(request).await,
            // Where there is no usable one the client says why.
            Choice::Conflist(_) | Choice::None => self.conflist.add(request).await,
        }
    }

    async fn remove(&self, request: &NetRequest) -> Result<(), NetError> {
        if self.conflist.detach(request).await? {
            return Ok(());
        }
        self.built_in.remove(request).await
    }

    async fn status(&self) -> NetStatus {
        match self.choice() {
            Choice::BuiltIn(_) => self.built_in.status().await,
            Choice::Conflist(_) => self.conflist.status().await,
            Choice::None => match self.conflist.0.network() {
                Err(error) => not_ready(&error),
                // It has just become usable.
                Ok(_) => self.conflist.status().await,
            },
        }
    }
}

/// Follows the choice: says which network it is and why, and gives the built-in one its subnet only when it is chosen or
/// has pods still, so that it makes no bridge where another network is to make one of the same name.
pub async fn follow(
    networks: Networks,
    podnet: PodNet,
    mut subnet: watch::Receiver<Option<Subnet>>,
    gate: watch::Sender<Option<Subnet>>,
) -> &'static str {
    let mut loaded = networks.conflist.0.loaded();
    let mut last = None;
    let mut needed = !podnet.leases().is_empty();
    loop {
        let choice = choose(networks.dir.as_deref(), &loaded.borrow_and_update());
        needed |= matches!(choice, Choice::BuiltIn(_));
        if last.as_ref() != Some(&choice) {
            tell(&choice);
            last = Some(choice);
        }
        let now = (*subnet.borrow_and_update()).filter(|_| needed);
        gate.send_if_modified(|given| std::mem::replace(given, now) != now);
        let changed = tokio::select! {
            changed = subnet.changed() => changed,
            changed = loaded.changed() => changed,
        };
        if changed.is_err() {
            return "the pod network ended";
        }
    }
}

fn tell(choice: &Choice) {
    match choice {
        Choice::BuiltIn(why) => tracing::info!("new pods get the built-in network: {why}"),
        Choice::Conflist(network) => {
            let plugins: Vec<_> = network.list.kinds().collect();
            let (file, name, version) = (network.file.display(), &network.list.name, network.list.version);
            tracing::info!(
                "new pods get network {name:?} of {file}: plugins {}, version {version}",
                plugins.join(", ")
            );
        }
        Choice::None => tracing::error!("new pods get no network: no configuration is usable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knode_cni::{ConfFile, Snapshot, load};

    fn chosen(files: &[(&str, &str)]) -> Choice {
        let files = files.iter().map(|(name, text)| ConfFile {
            path: Path::new("/etc/cni/net.d").join(name),
            content: Ok(text.as_bytes().to_vec()),
        });
        let snapshot = Snapshot {
            files: files.collect(),
            inner: Default::default(),
        };
        choose(Some(Path::new("/etc/cni/net.d")), &load(&snapshot))
    }

    const OTHERS: &str = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp"},{"type":"portmap"}]}"#;
    const KNODES: &str = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"knode"}]}"#;
    const MIXED: &str = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"knode"},{"type":"tuning"}]}"#;

    #[test]
    fn other_peoples_plugins_are_executed() {
        let Choice::Conflist(network) = chosen(&[("10-x.conflist", OTHERS)]) else {
            panic!("the conflist is meant");
        };
        assert_eq!(network.file, Path::new("/etc/cni/net.d/10-x.conflist"));
        assert!(matches!(chosen(&[("10-x.conflist", MIXED)]), Choice::Conflist(_)));
        let after_broken = chosen(&[("10-a.conflist", "{"), ("20-b.conflist", OTHERS)]);
        assert!(matches!(after_broken, Choice::Conflist(_)));
    }

    #[test]
    fn the_built_in_network_is_for_those_who_ask_for_nothing_else() {
        let why = |choice| match choice {
            Choice::BuiltIn(why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(chosen(&[])), "no network configuration in /etc/cni/net.d");
        assert!(why(chosen(&[("10-knode.conflist", KNODES)])).contains("10-knode.conflist"));
        assert!(why(choose(None, &Loaded::default())).contains("not looked for"));
    }

    #[test]
    fn a_broken_configuration_is_not_replaced_by_the_built_in_network() {
        assert_eq!(chosen(&[("10-a.conflist", "{")]), Choice::None);
    }
}
