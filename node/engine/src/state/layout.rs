//! Where things are.

use std::path::{Path, PathBuf};

/// Paths below the data and the runtime directory.
#[derive(Debug, Clone)]
pub struct Layout {
    data: PathBuf,
    run: PathBuf,
}

impl Layout {
    /// The layout below these two directories.
    pub fn new(data: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            run: run.into(),
        }
    }

    /// Directories of sandboxes.
    pub fn sandboxes(&self) -> PathBuf {
        self.data.join("sandboxes")
    }

    /// Records and files of one sandbox.
    pub fn sandbox(&self, id: &str) -> PathBuf {
        self.sandboxes().join(id)
    }

    /// Directories of containers.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// Record and bundle of one container.
    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    /// Where the shim records how a container ended.
    pub fn exit_file(&self, id: &str) -> PathBuf {
        self.container(id).join("exit.json")
    }

    /// Sockets of shims.
    pub fn shims(&self) -> PathBuf {
        self.run.join("shims")
    }

    /// Socket of one shim. A socket's name is short, so only the start of the id is in it.
    pub fn shim_socket(&self, id: &str) -> PathBuf {
        let short = id.get(..24).unwrap_or(id);
        self.shims().join(format!("{short}.sock"))
    }

    /// Pinned namespaces of sandboxes.
    pub fn all_namespaces(&self) -> PathBuf {
        self.run.join("ns")
    }

    /// Pinned namespaces of one sandbox.
    pub fn namespaces(&self, id: &str) -> PathBuf {
        self.all_namespaces().join(id)
    }

    /// Shared memory of sandboxes.
    pub fn all_shm(&self) -> PathBuf {
        self.run.join("shm")
    }

    /// Shared memory of one sandbox.
    pub fn shm(&self, id: &str) -> PathBuf {
        self.all_shm().join(id)
    }

    /// Directories with mounts of all sandboxes, each sandbox's below its id.
    pub fn secluded(&self) -> [PathBuf; 2] {
        [self.all_namespaces(), self.all_shm()]
    }

    /// State of libcontainer.
    pub fn runtime_root(&self) -> PathBuf {
        self.run.join("oci")
    }

    /// Processes that are being executed.
    pub fn execs(&self) -> PathBuf {
        self.run.join("exec")
    }

    /// The runtime directory itself.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Every directory that must be there.
    pub fn all(&self) -> Vec<PathBuf> {
        vec![
            self.sandboxes(),
            self.containers(),
            self.shims(),
            self.all_namespaces(),
            self.all_shm(),
            self.runtime_root(),
            self.execs(),
        ]
    }
}
