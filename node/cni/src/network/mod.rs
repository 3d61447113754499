//! The node's network, as the directory of configurations names it.

mod collect;
mod status;

pub use collect::Collected;

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::statfs::{NSFS_MAGIC, statfs};
use tokio::sync::{RwLock, watch};

use crate::attachment::Attachment;
use crate::cache::{Cache, Record, failed};
use crate::chain::Chain;
use crate::config::{Loaded, Network, NetworkList, Snapshot, load};
use crate::directory::{self, Watcher};
use crate::error::{Error, Result, chain};
use crate::exec::Executor;
use crate::result::{self, Attached};

/// As long as upstream's kubelet waits for an engine.
const BOUND: Duration = Duration::from_secs(120);
/// Whoever changes one file often changes the next a moment later.
const SETTLE: Duration = Duration::from_millis(100);
/// Between two tries to watch the directory, such as when too much is watched already.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Configuration of the client.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of network configurations. Without one nothing is attached, but what was attached is detached.
    pub conf_dir: Option<PathBuf>,
    /// Directories of plugins, searched in this order.
    pub bin_dirs: Vec<PathBuf>,
    /// A directory of the client's own, for what is attached.
    pub cache_dir: PathBuf,
    /// How long one call of a plugin may take.
    pub bound: Duration,
}

impl Config {
    /// A configuration with upstream's bound.
    pub fn new(conf_dir: Option<PathBuf>, bin_dirs: Vec<PathBuf>, cache_dir: PathBuf) -> Self {
        Self {
            conf_dir,
            bin_dirs,
            cache_dir,
            bound: BOUND,
        }
    }
}

/// The client. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Cni {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    cache: Cache,
    seen: Mutex<Snapshot>,
    loaded: watch::Sender<Arc<Loaded>>,
    /// Whose plugins were asked for their versions.
    asked: Mutex<Option<Arc<NetworkList>>>,
    /// Attaching and detaching go side by side, garbage collection alone.
    turn: RwLock<()>,
}

impl Cni {
    /// Reads the directory. [`Cni::run`] follows it.
    ///
    /// # Errors
    /// [`Error::Cache`] when the directory is there but cannot be read.
    pub fn open(config: Config) -> Result<Self> {
        let snapshot = match &config.conf_dir {
            Some(dir) => directory::read(dir).map_err(failed("read", dir))?,
            None => Snapshot::default(),
        };
        let loaded = Arc::new(load(&snapshot));
        report(&loaded);
        Ok(Self {
            inner: Arc::new(Inner {
                cache: Cache::new(&config.cache_dir),
                config,
                seen: Mutex::new(snapshot),
                loaded: watch::Sender::new(loaded),
                asked: Mutex::new(None),
                turn: RwLock::new(()),
            }),
        })
    }

    /// What the directory says, now and whenever it changes.
    pub fn loaded(&self) -> watch::Receiver<Arc<Loaded>> {
        self.inner.loaded.subscribe()
    }

    /// Follows the directory; to be cancelled by dropping. Where it cannot be watched it is looked at now and then.
    pub async fn run(&self) -> Infallible {
        let Some(dir) = &self.inner.config.conf_dir else {
            return std::future::pending().await;
        };
        loop {
            let Err(error) = self.follow(dir).await;
            tracing::error!(%error, dir = %dir.display(), "network configurations cannot be watched");
            self.reload(dir);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn follow(&self, dir: &Path) -> io::Result<Infallible> {
        let watcher = Watcher::new(dir)?;
        loop {
            watcher.arm()?;
            self.reload(dir);
            watcher.changed().await?;
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// A few small files, seldom.
    fn reload(&self, dir: &Path) {
        let snapshot = match directory::read(dir) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, dir = %dir.display(), "network configurations cannot be read; nothing is changed");
                return;
            }
        };
        let mut seen = lock(&self.inner.seen);
        if *seen != snapshot {
            let loaded = Arc::new(load(&snapshot));
            *seen = snapshot;
            drop(seen);
            report(&loaded);
            self.inner.loaded.send_replace(loaded);
        }
    }

    /// The network that containers are attached to now.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::Unusable`].
    pub fn network(&self) -> Result<Network> {
        let loaded = self.inner.loaded.borrow().clone();
        loaded.network.clone().ok_or_else(|| match &*loaded.broken {
            [] => Error::NoNetwork(self.inner.config.conf_dir.clone().unwrap_or_default()),
            _ => Error::Unusable(loaded),
        })
    }

    /// Attaches a container to the network. What fails is taken back. Calls for one container must not overlap.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn add(&self, attachment: Attachment) -> Result<Attached> {
        attachment.validate()?;
        let list = self.network()?.list;
        for wish in list.unheard(&attachment.capabilities) {
            let (network, container) = (&list.name, &attachment.container_id);
            tracing::warn!(
                network,
                container,
                "no plugin of the network has the capability {wish}: it is not carried out"
            );
        }
        let _turn = self.inner.turn.read().await;
        let mut record = Record::new(&list, &attachment, &self.inner.config.bin_dirs);
        self.write(&record).await?;
        let executor = self.executor(&record);
        let done = execute(&executor, Chain::add(), &list, &attachment).await;
        let value = match done {
            Ok(value) => value.unwrap_or_default(),
            Err(error) => {
                // What could not be taken back is known as long as its record is there.
                if matches!(&error, Error::Plugin { undo, .. } if undo.is_empty()) {
                    self.inner.cache.remove(&record)?;
                }
                return Err(error);
            }
        };
        record.result = Some(value);
        match self.complete(&record, &list).await {
            Ok(attached) => Ok(attached),
            Err(error) => {
                if let Err(undo) = self.detach(&record).await {
                    tracing::warn!(error = chain(&undo), "a failed attachment was not undone");
                }
                Err(error)
            }
        }
    }

    async fn complete(&self, record: &Record, list: &NetworkList) -> Result<Attached> {
        self.write(record).await?;
        let result = record.result.clone().unwrap_or_default();
        // The result was read once already.
        let ips = result::addresses(&result, &record.interface).unwrap_or_default();
        if ips.is_empty() {
            return Err(Error::NoAddress {
                network: list.name.clone(),
                interface: record.interface.clone(),
            });
        }
        Ok(Attached {
            network: list.name.clone(),
            ips,
        })
    }

    /// Detaches a container from whatever it was attached to; whether it was attached to anything. Its namespace may be
    /// gone.
    ///
    /// # Errors
    /// [`Error::Plugin`], [`Error::Cache`]; may be tried again.
    pub async fn remove(&self, container_id: &str) -> Result<bool> {
        let _turn = self.inner.turn.read().await;
        let records = self.inner.cache.of(container_id)?;
        for record in &records {
            self.detach(record).await?;
        }
        Ok(!records.is_empty())
    }

    async fn detach(&self, record: &Record) -> Result<()> {
        let list = self.list_of(record)?;
        let mut attachment = record.attachment();
        if !is_namespace(&attachment.netns) {
            attachment.netns = PathBuf::new();
        }
        let deleting = Chain::delete(&list, record.result.clone());
        execute(&self.executor(record), deleting, &list, &attachment).await?;
        self.inner.cache.remove(record)
    }

    /// Asks the plugins whether a container is attached as it was. Networks that disable it are not asked.
    ///
    /// # Errors
    /// [`Error::NoCheck`] for networks before 0.4.0, [`Error::Plugin`] when something is not as it was.
    pub async fn check(&self, container_id: &str) -> Result<()> {
        let _turn = self.inner.turn.read().await;
        for record in self.inner.cache.of(container_id)? {
            let list = self.list_of(&record)?;
            if list.version < crate::version::Version::V0_4_0 {
                return Err(Error::NoCheck(list.version));
            }
            let Some(result) = record.result.clone().filter(|_| !list.disable_check) else {
                continue;
            };
            let checking = Chain::check(result);
            execute(&self.executor(&record), checking, &list, &record.attachment()).await?;
        }
        Ok(())
    }

    fn list_of(&self, record: &Record) -> Result<NetworkList> {
        record
            .list()
            .map_err(failed("read", &self.inner.cache.path(record)))
    }

    /// Plugins are looked for where they are now, then where they were when the attachment was made.
    fn executor(&self, record: &Record) -> Executor {
        let mut path = self.inner.config.bin_dirs.clone();
        path.extend(
            record
                .cni_path
                .iter()
                .filter(|dir| !self.inner.config.bin_dirs.contains(dir))
                .cloned(),
        );
        Executor {
            path,
            bound: self.inner.config.bound,
        }
    }

    async fn write(&self, record: &Record) -> Result<()> {
        let (cache, record) = (self.inner.cache.clone(), record.clone());
        let path = cache.path(&record);
        let written = tokio::task::spawn_blocking(move || cache.write(&record)).await;
        written.map_err(|e| failed("write", &path)(io::Error::other(e)))?
    }
}

/// Calls plugin after plugin as the chain says.
async fn execute(
    executor: &Executor,
    mut chain: Chain,
    list: &NetworkList,
    attachment: &Attachment,
) -> Result<Option<serde_json::Value>> {
    while let Some(call) = chain.call(list, attachment) {
        let answer = executor.call(&call).await;
        chain = chain.step(list, answer);
    }
    chain.end()
}

fn report(loaded: &Loaded) {
    for broken in &loaded.broken {
        tracing::error!("a network configuration is not usable: {broken}");
    }
}

/// Whether a path holds a namespace: the file outlives the mount.
fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Each holder leaves the value whole before anything that could panic.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
