use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, Result};

/// One file per leased address, named by it; its content is the sandbox's id and a newline. The newline tells
/// a whole file from one that a crash cut short.
#[derive(Debug)]
pub(super) struct LeaseFiles {
    leases: PathBuf,
    /// Hints where the rounds go on, IPv4's first.
    last: [PathBuf; 2],
    /// For syncing names.
    directory: File,
    _lock: Flock<File>,
}

impl LeaseFiles {
    /// Opens the directory for this process alone.
    pub fn open(directory: &Path) -> Result<Self> {
        let leases = directory.join("leases");
        fs::create_dir_all(&leases).map_err(failed("create", &leases))?;
        let path = directory.join("lock");
        let options = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = options.map_err(failed("open", &path))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => Error::Locked(directory.to_path_buf()),
            errno => failed("lock", &path)(errno.into()),
        })?;
        let handle = File::open(&leases).map_err(failed("open", &leases))?;
        Ok(Self {
            leases,
            last: ["last", "last6"].map(|name| directory.join(name)),
            directory: handle,
            _lock: lock,
        })
    }

    /// All leases. A file without its newline was never acted upon (the lease comes before the link): removed.
    pub fn load(&self) -> Result<BTreeMap<IpAddr, String>> {
        let mut taken = BTreeMap::new();
        for entry in fs::read_dir(&self.leases).map_err(failed("read", &self.leases))? {
            let path = entry.map_err(failed("read", &self.leases))?.path();
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .and_then(|n| n.parse().ok());
            let Some(ip) = name else {
                tracing::warn!(path = %path.display(), "a file that is no lease lies among the leases");
                continue;
            };
            let content = fs::read_to_string(&path).map_err(failed("read", &path))?;
            match content.strip_suffix('\n').filter(|owner| !owner.is_empty()) {
                Some(owner) => drop(taken.insert(ip, owner.to_owned())),
                None => {
                    tracing::info!(%ip, "a lease that a crash cut short is removed");
                    fs::remove_file(&path).map_err(failed("remove", &path))?;
                }
            }
        }
        Ok(taken)
    }

    /// Records a lease durably; `false` when the address has one already.
    pub fn create(&self, ip: IpAddr, sandbox: &str) -> Result<bool> {
        let path = self.path(ip);
        let mut file = match OpenOptions::new().create_new(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(e) => return Err(failed("create", &path)(e)),
        };
        let written = file
            .write_all(format!("{sandbox}\n").as_bytes())
            .and_then(|()| file.sync_data())
            .and_then(|()| self.directory.sync_all());
        if let Err(error) = written {
            // Should the removal fail too, the file stays: the address is lost until a new start, not given twice.
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            return Err(failed("write", &path)(error));
        }
        Ok(true)
    }

    /// Removes a lease; none is no error. A removal that power loss undoes is made good by the next collection.
    pub fn remove(&self, ip: IpAddr) -> Result<()> {
        let path = self.path(ip);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    /// Where each family's round goes on.
    pub fn last(&self) -> [Option<IpAddr>; 2] {
        self.last
            .each_ref()
            .map(|path| fs::read_to_string(path).ok()?.trim().parse().ok())
    }

    /// Remembers where the round of the address's family goes on; only a hint.
    pub fn remember_last(&self, ip: IpAddr) {
        let path = &self.last[usize::from(ip.is_ipv6())];
        if let Err(error) = fs::write(path, format!("{ip}\n")) {
            tracing::debug!(%error, "the last address is not remembered; the round starts over after a restart");
        }
    }

    fn path(&self, ip: IpAddr) -> PathBuf {
        self.leases.join(ip.to_string())
    }
}

fn failed(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::LeaseFile { op, path, source }
}
