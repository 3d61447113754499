//! Namespaces without a process: made in a thread that ends, held by bind mounts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;

/// A namespace that one thread can leave on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
}

impl Kind {
    /// Name below `/proc/<pid>/ns`, also the name of the pinned file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
        }
    }

    fn flag(self) -> CloneFlags {
        match self {
            Self::Net => CloneFlags::CLONE_NEWNET,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
        }
    }
}

/// Makes new namespaces of `kinds`, runs `inside` in them and pins each as `<directory>/<name>`. The
/// directory must exist. The caller's own namespaces do not change.
///
/// # Errors
/// Those of `unshare(2)`, of `inside` and of the mounts; nothing stays pinned then.
pub fn pin<F>(directory: &Path, kinds: &[Kind], inside: F) -> io::Result<()>
where
    F: FnOnce() -> io::Result<()> + Send,
{
    let result = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new()
            .name("namespaces".into())
            .stack_size(256 * 1024);
        let worker = builder.spawn_scoped(scope, || make(directory, kinds, inside))?;
        worker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
    });
    if result.is_err() {
        for kind in kinds {
            // The first error is the one to report.
            let _ = unpin(&directory.join(kind.name()));
        }
    }
    result
}

fn make<F: FnOnce() -> io::Result<()>>(directory: &Path, kinds: &[Kind], inside: F) -> io::Result<()> {
    let flags = kinds
        .iter()
        .fold(CloneFlags::empty(), |flags, kind| flags | kind.flag());
    nix::sched::unshare(flags)?;
    inside()?;
    for kind in kinds {
        let target = directory.join(kind.name());
        fs::File::create(&target)?;
        let source = PathBuf::from("/proc/thread-self/ns").join(kind.name());
        bind(&source, &target)?;
    }
    Ok(())
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    Ok(nix::mount::mount(
        Some(source),
        target,
        none,
        MsFlags::MS_BIND,
        none,
    )?)
}

/// Lets go of a pinned namespace and removes its file. Nothing there is no error.
///
/// # Errors
/// Those of `umount2(2)` and `unlink(2)`.
pub fn unpin(path: &Path) -> io::Result<()> {
    match nix::mount::umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs `inside` in a thread that has joined the network namespace at `path`.
///
/// # Errors
/// Those of opening and joining it, and of `inside`.
pub fn in_network<T, F>(path: &Path, inside: F) -> io::Result<T>
where
    T: Send,
    F: FnOnce() -> io::Result<T> + Send,
{
    let namespace = fs::File::open(path)?;
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new()
            .name("netns".into())
            .stack_size(256 * 1024);
        let worker = builder.spawn_scoped(scope, || {
            nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            inside()
        })?;
        worker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::fs::MetadataExt;

    fn inode(path: impl AsRef<Path>) -> u64 {
        fs::metadata(path).unwrap().st_ino()
    }

    /// Needs root.
    #[test]
    fn a_pinned_namespace_outlives_its_thread() {
        let directory = std::env::temp_dir().join(format!("knode-linux-ns-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let before = inode("/proc/self/ns/net");
        pin(&directory, &[Kind::Net, Kind::Uts], || {
            nix::unistd::sethostname("inside")?;
            crate::loopback::up()
        })
        .expect("making namespaces needs root");
        assert_eq!(inode("/proc/self/ns/net"), before);
        let pinned = directory.join("net");
        assert_ne!(inode(&pinned), before);
        let seen = in_network(&pinned, || Ok(inode("/proc/thread-self/ns/net"))).unwrap();
        assert_eq!(seen, inode(&pinned));
        in_network(&pinned, || {
            std::net::TcpListener::bind("127.0.0.1:80").map(|_| ())
        })
        .expect("loopback is up inside");
        for name in ["net", "uts"] {
            unpin(&directory.join(name)).unwrap();
            unpin(&directory.join(name)).expect("twice is no error");
        }
        fs::remove_dir(&directory).unwrap();
    }

    #[test]
    fn what_fails_inside_leaves_nothing_pinned() {
        let directory = std::env::temp_dir().join(format!("knode-linux-nsf-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let error = pin(&directory, &[Kind::Ipc], || Err(io::Error::other("no"))).unwrap_err();
        assert_eq!(error.to_string(), "no");
        fs::remove_dir(&directory).expect("the directory is empty");
    }
}
