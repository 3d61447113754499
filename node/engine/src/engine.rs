//! The engine: its sandboxes and containers, and what keeps them together.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use knode_linux::cgroup::Cgroups;
use rand::Rng;
use tokio::sync::mpsc;

use crate::config::EngineConfig;
use crate::container::Container;
use crate::error::{EngineError, Result};
use crate::events::Events;
use crate::link::ShimEvent;
use crate::sandbox::Sandbox;
use crate::secluded::SecludedMounts;
use crate::selinux::Selinux;
use crate::spec::Machine;
use crate::spec::selinux::Labels;
use crate::state::{Layout, boot_id};
use crate::streaming::Streaming;

/// A CRI v1 container engine in this process. Containers and their shims outlive it.
pub struct Engine {
    pub(crate) core: Arc<Core>,
}

/// What the engine and its tasks share.
pub(crate) struct Core {
    pub(crate) config: EngineConfig,
    pub(crate) layout: Layout,
    /// Directories whose mounts of other pods no container is made with.
    pub(crate) secluded: SecludedMounts,
    pub(crate) cgroups: Cgroups,
    pub(crate) boot_id: String,
    pub(crate) capabilities: u64,
    pub(crate) machine: Machine,
    /// `None` where nothing is labelled.
    pub(crate) selinux: Option<Selinux>,
    pub(crate) events: Events,
    pub(crate) streaming: Streaming,
    pub(crate) shim_events: mpsc::UnboundedSender<ShimEvent>,
    objects: Mutex<Objects>,
    pub(crate) oom_score_noted: std::sync::Once,
    /// What `self_exe` leads to.
    _sealed_exe: Option<OwnedFd>,
}

#[derive(Default)]
struct Objects {
    sandboxes: HashMap<String, Arc<Sandbox>>,
    containers: HashMap<String, Arc<Container>>,
    /// Names that are taken, and by which id.
    names: HashMap<String, String>,
}

impl Engine {
    /// Opens the engine and takes up what runs already.
    ///
    /// # Errors
    /// Without control groups, when a directory cannot be made or listed, or when the streaming server
    /// is to listen elsewhere than on loopback. Sandboxes and containers that cannot be taken up are no error: they are shown as
    /// ended.
    pub async fn open(mut config: EngineConfig) -> Result<Arc<Self>> {
        let cgroups = Cgroups::detect(&config.cgroup_root).map_err(EngineError::Cgroups)?;
        let layout = Layout::new(&config.data_dir, &config.run_dir);
        crate::recovery::make_directories(&layout)?;
        let secluded = SecludedMounts::establish(&layout, &config.images.snapshots().directory());
        let sealed_exe = seal(&mut config.self_exe);
        let (shim_events, receiver) = mpsc::unbounded_channel();
        let streaming = Streaming::new(config.streaming)?;
        let core = Arc::new(Core {
            layout,
            machine: crate::container::machine(&cgroups),
            cgroups,
            boot_id: boot_id(),
            capabilities: crate::container::own_capabilities(),
            selinux: Selinux::find(config.selinux),
            events: Events::default(),
            streaming,
            shim_events,
            objects: Mutex::default(),
            oom_score_noted: std::sync::Once::new(),
            secluded,
            _sealed_exe: sealed_exe,
            config,
        });
        crate::recovery::recover(&core).await?;
        tokio::spawn(hear_shims(Arc::downgrade(&core), receiver));
        Ok(Arc::new(Self { core }))
    }
}

/// Has shims, and with them what enters containers, run the program where nobody can write to it. Without that a
/// program that runs protects itself.
fn seal(program: &mut PathBuf) -> Option<OwnedFd> {
    match knode_linux::process::sealed(program) {
        Ok(sealed) => {
            *program = format!("/proc/self/fd/{}", sealed.as_raw_fd()).into();
            Some(sealed)
        }
        Err(error) => {
            tracing::warn!(%error, "containers are entered by a program that is not sealed");
            None
        }
    }
}

impl Core {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        // Every change is one insertion or removal, so a panic elsewhere leaves it usable.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sandbox whose id is `id`, or the only one whose id starts so.
    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        find(&self.objects().sandboxes, id).ok_or_else(|| EngineError::SandboxNotFound(id.to_string()))
    }

    /// The container whose id is `id`, or the only one whose id starts so.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        find(&self.objects().containers, id).ok_or_else(|| EngineError::ContainerNotFound(id.to_string()))
    }

    /// All sandboxes.
    pub(crate) fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.objects().sandboxes.values().cloned().collect()
    }

    /// All containers.
    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.objects().containers.values().cloned().collect()
    }

    /// The containers of one sandbox.
    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        self.containers()
            .into_iter()
            .filter(|container| container.sandbox_id == sandbox)
            .collect()
    }

    pub(crate) fn insert_sandbox(&self, sandbox: Arc<Sandbox>) {
        self.objects().sandboxes.insert(sandbox.id.clone(), sandbox);
    }

    pub(crate) fn insert_container(&self, container: Arc<Container>) {
        self.objects().containers.insert(container.id.clone(), container);
    }

    pub(crate) fn forget_sandbox(&self, id: &str) {
        self.objects().sandboxes.remove(id);
        self.free_names(id);
    }

    pub(crate) fn forget_container(&self, id: &str) {
        self.objects().containers.remove(id);
        self.free_names(id);
    }

    /// Takes up the SELinux labels of what an earlier run has made.
    pub(crate) fn hold_labels(&self, id: &str, labels: Option<&Labels>) {
        if let Some(selinux) = &self.selinux {
            selinux.hold(id, labels);
        }
    }

    /// Reserves a name for `id`; freed with the object, or by [`Engine::free_names`].
    pub(crate) fn reserve_name(&self, name: &str, id: &str) -> Result<()> {
        let mut objects = self.objects();
        match objects.names.get(name) {
            Some(holder) if holder != id => Err(EngineError::NameTaken {
                name: name.to_string(),
                holder: holder.clone(),
            }),
            _ => {
                objects.names.insert(name.to_string(), id.to_string());
                Ok(())
            }
        }
    }

    /// Frees what `id` had reserved: names, and its SELinux level.
    pub(crate) fn free_names(&self, id: &str) {
        self.objects().names.retain(|_, holder| holder != id);
        if let Some(selinux) = &self.selinux {
            selinux.free(id);
        }
    }
}

fn find<T>(objects: &HashMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(object) = objects.get(id) {
        return Some(object.clone());
    }
    let mut matching = objects
        .iter()
        .filter(|(other, _)| !id.is_empty() && other.starts_with(id));
    let first = matching.next()?.1.clone();
    matching.next().is_none().then_some(first)
}

/// A new id: 64 hexadecimal digits.
pub(crate) fn new_id() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nanoseconds since the epoch.
pub(crate) fn now_nanos() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Follows what shims tell, as long as the engine is there.
async fn hear_shims(engine: Weak<Core>, mut events: mpsc::UnboundedReceiver<ShimEvent>) {
    while let Some(event) = events.recv().await {
        let Some(engine) = engine.upgrade() else { return };
        // Each in a task of its own: one container that is busy must not hold up the others.
        match event {
            ShimEvent::Exited { container, exit } => {
                tokio::spawn(async move { engine.container_exited(&container, exit.into()).await });
            }
            ShimEvent::Lost { sandbox } => {
                tokio::spawn(async move { engine.shim_lost(&sandbox).await });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_a_prefix_that_only_one_has() {
        let objects: HashMap<String, Arc<u8>> = [("abc", 1), ("abd", 2), ("x", 3)]
            .into_iter()
            .map(|(id, value)| (id.into(), Arc::new(value)))
            .collect();
        let of = |id| find(&objects, id).map(|value| *value);
        assert_eq!(of("abc"), Some(1));
        assert_eq!(of("ab"), None);
        assert_eq!(of("x"), Some(3));
        assert_eq!(of(""), None);
    }

    #[test]
    fn ids_are_long_and_differ() {
        let (one, other) = (new_id(), new_id());
        assert_eq!(one.len(), 64);
        assert_ne!(one, other);
    }
}
