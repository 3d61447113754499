//! What a container with users of its own is mounted from.
//!
//! Its root must be seen with its users' numbers, and its processes may not pass the host's directories. So the
//! creator takes a mount namespace of its own, in which all of that lies in one place: layers and files through
//! id-mapped mounts (`mount_setattr(2)`), the overlay on top of them, binds of whatever else it joins. Nothing of it
//! outlives the container, whatever dies.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use knode_linux::overlay::OverlayMount;
use libcontainer::syscall::Syscall;
use libcontainer::syscall::linux::MountAttr;
use libcontainer::syscall::syscall::SyscallType;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use oci_spec::runtime::{Mount, RootBuilder, Spec};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use serde::{Deserialize, Serialize};

/// `MOUNT_ATTR_IDMAP` of mount_setattr(2).
const IDMAP: u64 = 0x0010_0000;

/// `AT_EMPTY_PATH` and `AT_RECURSIVE`.
const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
const RECURSIVE: u32 = 0x8000;

/// Directories that any user may pass, in one of which everything is put. They are covered for the creator alone.
const PLACES: [&str; 6] = ["/mnt", "/media", "/srv", "/opt", "/dev/shm", "/tmp"];

/// Name of the file in a bundle.
pub(crate) const FILE: &str = "stage.json";

/// What must be prepared before a container can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// The pinned user namespace.
    pub(crate) users: PathBuf,
    /// What the paths of layers start from.
    pub(crate) base: PathBuf,
    /// The overlays: the container's root and the images that it mounts.
    pub(crate) overlays: Vec<Overlay>,
}

/// The layers of one root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Overlay {
    /// Where the specification says that it is.
    pub(crate) path: PathBuf,
    /// Below the base, the topmost first.
    pub(crate) lower: Vec<PathBuf>,
    /// The writable layer below the base; empty for none.
    pub(crate) upper: PathBuf,
    /// Below the base, with the writable layer.
    pub(crate) work: PathBuf,
    /// The SELinux context of all files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<String>,
}

impl Overlay {
    fn writable(&self, base: &Path) -> Option<(PathBuf, PathBuf)> {
        let some = !self.upper.as_os_str().is_empty();
        some.then(|| (base.join(&self.upper), base.join(&self.work)))
    }
}

/// Prepares everything, in a mount namespace of this process's own; gives the bundle to go on with. A bundle that
/// needs none of it is given back.
pub(super) fn prepare(bundle: &Path, runtime_root: &Path) -> io::Result<PathBuf> {
    let text = match fs::read(bundle.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(bundle.to_path_buf()),
        Err(error) => return Err(error),
    };
    let plan: Stage = serde_json::from_slice(&text)?;
    let mut spec = Spec::load(bundle.join("config.json")).map_err(io::Error::other)?;
    let staged = bundle.join("staged");
    fs::create_dir_all(&staged)?;
    let mut needed = vec![
        bundle.to_path_buf(),
        runtime_root.to_path_buf(),
        plan.base.clone(),
    ];
    needed.extend(sources(&spec));
    let place = place(&needed).ok_or_else(|| io::Error::other("no directory to prepare the container in"))?;
    Stager::new(&plan, place)?.prepare(&plan, &mut spec)?;
    spec.save(staged.join("config.json")).map_err(io::Error::other)?;
    Ok(staged)
}

/// The container is made: commands in it read its specification where nothing is prepared, and need its root there.
pub(super) fn settle(bundle: &Path, staged: &Path) -> io::Result<()> {
    if bundle == staged {
        return Ok(());
    }
    let given = Spec::load(bundle.join("config.json")).map_err(io::Error::other)?;
    let path = staged.join("config.json");
    let mut spec = Spec::load(&path).map_err(io::Error::other)?;
    spec.set_root(given.root().clone());
    spec.save(path).map_err(io::Error::other)
}

/// Paths of the host that a specification names.
fn sources(spec: &Spec) -> Vec<PathBuf> {
    let mounts = spec.mounts().iter().flatten();
    let mounts = mounts.filter_map(|mount| mount.source().clone());
    let linux = spec.linux().as_ref();
    let namespaces = linux
        .and_then(|linux| linux.namespaces().as_ref())
        .into_iter()
        .flatten();
    let namespaces = namespaces.filter_map(|namespace| namespace.path().clone());
    mounts
        .chain(namespaces)
        .filter(|path| path.is_absolute())
        .collect()
}

/// The first place that nothing needed lies in.
fn place(needed: &[PathBuf]) -> Option<PathBuf> {
    let free =
        |place: &&&str| !needed.iter().any(|path| path.starts_with(**place)) && Path::new(**place).is_dir();
    PLACES.iter().find(free).map(PathBuf::from)
}

struct Stager {
    place: PathBuf,
    users: File,
    syscall: Box<dyn Syscall>,
    next: u32,
}

impl Stager {
    fn new(plan: &Stage, place: PathBuf) -> io::Result<Self> {
        let users = File::open(&plan.users)?;
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
        mount(
            Some("stage"),
            &place,
            Some("tmpfs"),
            MsFlags::MS_NOSUID,
            Some("mode=755"),
        )?;
        Ok(Self {
            place,
            users,
            syscall: SyscallType::Linux.create_syscall(),
            next: 0,
        })
    }

    fn prepare(&mut self, plan: &Stage, spec: &mut Spec) -> io::Result<()> {
        let base = self.new_path("base");
        self.attach(&self.tree(&plan.base, true, false)?, &base, true)?;
        let mut roots = Vec::new();
        for overlay in &plan.overlays {
            let target = self.new_path("root");
            fs::create_dir(&target)?;
            let overlay_mount = OverlayMount {
                base: base.clone(),
                lower: overlay.lower.clone(),
                upper: overlay.writable(&plan.base),
                context: overlay.context.clone(),
                target: target.clone(),
            };
            overlay_mount.mount()?;
            roots.push((overlay.path.clone(), target));
        }
        self.root(spec, &roots)?;
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        for mount in mounts
            .iter_mut()
            .filter(|mount| mount.typ().as_deref() == Some("bind"))
        {
            self.bind(mount, &roots)?;
        }
        spec.set_mounts(Some(mounts));
        self.namespaces(spec)
    }

    fn root(&self, spec: &mut Spec, roots: &[(PathBuf, PathBuf)]) -> io::Result<()> {
        let given = spec.root().clone().unwrap_or_default();
        let path = moved(given.path(), roots).ok_or_else(|| io::Error::other("the root was not prepared"))?;
        let root = RootBuilder::default()
            .path(path)
            .readonly(given.readonly().unwrap_or_default())
            .build()
            .map_err(io::Error::other)?;
        spec.set_root(Some(root));
        Ok(())
    }

    fn bind(&mut self, mount: &mut Mount, roots: &[(PathBuf, PathBuf)]) -> io::Result<()> {
        let source = mount.source().clone().unwrap_or_default();
        let mapped = mount.uid_mappings().is_some();
        mount.set_uid_mappings(None).set_gid_mappings(None);
        if let Some(path) = moved(&source, roots) {
            mount.set_source(Some(path));
            return Ok(());
        }
        let options = mount.options().clone().unwrap_or_default();
        let recursive = options.iter().any(|option| option == "rbind");
        let target = self.new_path("bind");
        let tree = self.tree(&source, mapped, recursive);
        let tree = tree.map_err(|error| io::Error::other(format!("{}: {error}", source.display())))?;
        self.attach(&tree, &target, source.is_dir())?;
        mount.set_source(Some(target));
        Ok(())
    }

    /// Namespaces but that of users are opened by its root, who cannot pass the directories that they lie in.
    fn namespaces(&mut self, spec: &mut Spec) -> io::Result<()> {
        let Some(linux) = spec.linux_mut() else {
            return Ok(());
        };
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        let none: Option<&str> = None;
        for namespace in &mut namespaces {
            let Some(path) = namespace.path().clone() else {
                continue;
            };
            if path.file_name() == self.users_name() {
                continue;
            }
            let target = self.new_path("ns");
            File::create(&target)?;
            mount(Some(&path), &target, none, MsFlags::MS_BIND, none)?;
            namespace.set_path(Some(target));
        }
        linux.set_namespaces(Some(namespaces));
        Ok(())
    }

    fn users_name(&self) -> Option<&'static std::ffi::OsStr> {
        Some(std::ffi::OsStr::new("user"))
    }

    fn new_path(&mut self, what: &str) -> PathBuf {
        self.next += 1;
        self.place.join(format!("{what}{}", self.next))
    }

    /// A copy of what is mounted at `path`, with the users' numbers if it is to be `mapped`.
    fn tree(&self, path: &Path, mapped: bool, recursive: bool) -> io::Result<OwnedFd> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let tree = open_tree(rustix::fs::CWD, path, flags)?;
        if mapped {
            let attributes = MountAttr {
                attr_set: IDMAP,
                attr_clr: 0,
                propagation: 0,
                userns_fd: u64::try_from(self.users.as_raw_fd()).unwrap_or_default(),
            };
            let flags = EMPTY_PATH | if recursive { RECURSIVE } else { 0 };
            let set = self.syscall.mount_setattr(
                tree.as_fd(),
                Path::new(""),
                flags,
                &attributes,
                size_of::<MountAttr>(),
            );
            set.map_err(|error| io::Error::other(format!("id-mapping: {error}")))?;
        }
        Ok(tree)
    }

    fn attach(&self, tree: &OwnedFd, target: &Path, directory: bool) -> io::Result<()> {
        if directory {
            fs::create_dir(target)?;
        } else {
            File::create(target)?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(tree, "", rustix::fs::CWD, target, flags)?)
    }
}

/// Where a path in one of the overlays is now.
fn moved(path: &Path, roots: &[(PathBuf, PathBuf)]) -> Option<PathBuf> {
    let inside = |(from, to): &(PathBuf, PathBuf)| {
        let rest = path.strip_prefix(from).ok()?;
        Some(if rest.as_os_str().is_empty() {
            to.clone()
        } else {
            to.join(rest)
        })
    };
    roots.iter().find_map(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_overlays_move_with_them() {
        let roots = [("/a/root".into(), "/mnt/root2".into())];
        assert_eq!(moved(Path::new("/a/root"), &roots), Some("/mnt/root2".into()));
        assert_eq!(
            moved(Path::new("/a/root/etc"), &roots),
            Some("/mnt/root2/etc".into())
        );
        assert_eq!(moved(Path::new("/a/rooted"), &roots), None);
    }

    #[test]
    fn nothing_needed_is_covered() {
        let needed: Vec<PathBuf> = PLACES.iter().map(|place| Path::new(place).join("x")).collect();
        assert_eq!(place(&needed), None);
        assert!(place(&["/nowhere".into()]).is_some());
    }
}
