//! The PID namespace of somebody else that a container is to be made in.
//!
//! Its specification names it by the number of a process, which may have ended meanwhile and whose number may be
//! another's. So the shim, whose children all of them are, opens it while that process has not been waited for: as long
//! as it is open the kernel gives its identity to no other namespace, and the creator can tell whether it came to the
//! right one.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use super::Shim;
use super::protocol::Joins;

/// What tells namespaces apart: device and inode, as `stat(2)` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamespaceId {
    device: u64,
    inode: u64,
}

impl NamespaceId {
    fn of(namespace: &File) -> io::Result<Self> {
        let metadata = namespace.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// That of the PID namespace of a process, which may have ended.
    fn of_process(pid: i32) -> io::Result<Self> {
        Self::of(&open(pid)?)
    }
}

/// Whether a process is in the PID namespace that it is to be in; without a wish any is right.
pub(crate) fn is_in(wanted: Option<NamespaceId>, pid: i32) -> bool {
    wanted.is_none_or(|wanted| NamespaceId::of_process(pid).is_ok_and(|found| found == wanted))
}

/// A namespace that is being joined.
pub(super) struct Joined {
    whose: Joins,
    /// Keeps the identity.
    _namespace: File,
    pub(super) id: NamespaceId,
}

impl Shim {
    /// Opens the PID namespace to join.
    pub(super) fn join(&self, whose: &Joins) -> io::Result<Joined> {
        let pid = self.first_of(whose).ok_or_else(|| ended(whose))?;
        let namespace = open(pid).map_err(|_| ended(whose))?;
        Ok(Joined {
            whose: whose.clone(),
            id: NamespaceId::of(&namespace)?,
            _namespace: namespace,
        })
    }

    /// Why a container cannot be made any more, if what it was to join has ended meanwhile.
    pub(super) fn lost(&self, joined: &Joined) -> Option<String> {
        match self.first_of(&joined.whose) {
            Some(_) => None,
            None => Some(ended(&joined.whose).to_string()),
        }
    }

    /// The process that the namespace is known by. It has not been waited for.
    fn first_of(&self, whose: &Joins) -> Option<i32> {
        match whose {
            Joins::Pod => self.pod_init.as_ref().map(|init| init.pid),
            Joins::Container(id) => self.containers.all.get(id).map(|container| container.pid),
        }
    }
}

fn open(pid: i32) -> io::Result<File> {
    File::open(format!("/proc/{pid}/ns/pid"))
}

fn ended(whose: &Joins) -> io::Error {
    io::Error::other(match whose {
        Joins::Pod => "the PID namespace of the pod has ended".to_owned(),
        Joins::Container(id) => {
            format!("the container {id:?} whose PID namespace is to be joined does not run")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_told_apart_by_what_the_kernel_calls_them() {
        let own = i32::try_from(std::process::id()).unwrap();
        let id = NamespaceId::of_process(own).unwrap();
        assert_eq!(NamespaceId::of_process(own).unwrap(), id);
        let network = NamespaceId::of(&File::open("/proc/self/ns/net").unwrap()).unwrap();
        assert_ne!(network, id);
        assert!(is_in(Some(id), own) && is_in(None, i32::MAX));
        assert!(!is_in(Some(network), own), "it is in another");
        assert!(!is_in(Some(id), i32::MAX), "it has ended");
    }
}
