//! Mounts of a container, in the order in which they are made.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use knode_cri::{Mount as CriMount, MountPropagation};
use oci_spec::runtime::{Mount, MountBuilder};

use super::paths::normal;
use super::{Input, SpecError, cdi, idmap, security_context};

/// The mounts, and how the container's root takes part in the host's.
pub(super) struct Mounts {
    pub(super) list: Vec<Mount>,
    /// What libcontainer makes of the new mount namespace before anything is mounted; mounts taken from the
    /// host keep it. So one mount that asks for more than the others decides for all.
    pub(super) root_propagation: &'static str,
}

pub(super) fn mounts(input: &Input<'_>) -> Result<Mounts, SpecError> {
    let context = security_context(input.config);
    let asked: HashSet<PathBuf> = input
        .config
        .mounts
        .iter()
        .map(|mount| normal(&mount.container_path))
        .collect();
    let mut list = Vec::new();
    let files = files(input, context.readonly_rootfs)?;
    for mount in defaults(context.privileged)?.into_iter().chain(files) {
        if !asked.contains(mount.destination()) {
            list.push(mount);
        }
    }
    if let Some(labels) = input.labels.filter(|_| !input.by_program) {
        list.iter_mut().for_each(|mount| label(mount, &labels.file));
    }
    list.extend(configured(input)?);
    list.extend(cdi::mounts(input.cdi)?);
    let strongest = input
        .config
        .mounts
        .iter()
        .map(|mount| mount.propagation())
        .max_by_key(|mode| *mode as i32);
    let root_propagation = match strongest {
        None | Some(MountPropagation::PropagationPrivate) => "private",
        Some(MountPropagation::PropagationHostToContainer) => "slave",
        Some(MountPropagation::PropagationBidirectional) => "shared",
    };
    Ok(Mounts {
        list,
        root_propagation,
    })
}

/// Has everything in a new file system labelled so.
fn label(mount: &mut Mount, label: &str) {
    if matches!(mount.typ().as_deref(), Some("tmpfs" | "devpts")) {
        let mut options = mount.options().clone().unwrap_or_default();
        options.push(format!("context={label}"));
        mount.set_options(Some(options));
    }
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Result<Mount, SpecError> {
    let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
    Ok(MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(source)
        .options(options)
        .build()?)
}

fn defaults(privileged: bool) -> Result<Vec<Mount>, SpecError> {
    let access = if privileged { "rw" } else { "ro" };
    Ok(vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        )?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        )?,
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access])?,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        )?,
    ])
}

/// The sandbox's files.
fn files(input: &Input<'_>, readonly: bool) -> Result<Vec<Mount>, SpecError> {
    let access = if readonly { "ro" } else { "rw" };
    let files = input.files;
    let targets = [
        ("/dev/shm", &files.shm, "rw"),
        ("/etc/hostname", &files.hostname, access),
        ("/etc/hosts", &files.hosts, access),
        ("/etc/resolv.conf", &files.resolv_conf, access),
    ];
    let with_source = targets
        .into_iter()
        .filter(|(_, source, _)| !source.as_os_str().is_empty());
    let mut list = Vec::new();
    for (target, source, access) in with_source {
        let mut mount = bind(Path::new(target), source, &["rbind", "rprivate", access])?;
        map(&mut mount, input.users)?;
        list.push(mount);
    }
    Ok(list)
}

/// Marks a mount whose numbers are to be those of the pod's users.
fn map(mount: &mut Mount, users: Option<idmap::IdMaps>) -> Result<(), SpecError> {
    if let Some(users) = users {
        mount.set_uid_mappings(Some(vec![users.uids.oci()?]));
        mount.set_gid_mappings(Some(vec![users.gids.oci()?]));
    }
    Ok(())
}

fn bind(target: &Path, source: &Path, options: &[&str]) -> Result<Mount, SpecError> {
    let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
    Ok(MountBuilder::default()
        .destination(target)
        .typ("bind")
        .source(source)
        .options(options)
        .build()?)
}

/// Mounts of the configuration; those nearer to the root come first, so that none hides another.
fn configured(input: &Input<'_>) -> Result<Vec<Mount>, SpecError> {
    let mut image_sources = input.image_mounts.iter();
    let mut list = Vec::new();
    for given in &input.config.mounts {
        check(given, input.users)?;
        let target = normal(&given.container_path);
        let source = match &given.image {
            Some(_) => image_sources.next().cloned().unwrap_or_default(),
            None => PathBuf::from(&given.host_path),
        };
        let depth = target.components().count();
        let mut mount = bind(&target, &source, &options(given))?;
        if !given.uid_mappings.is_empty() {
            map(&mut mount, input.users)?;
        }
        list.push((depth, mount));
    }
    list.sort_by_key(|(depth, _)| *depth);
    Ok(list.into_iter().map(|(_, mount)| mount).collect())
}

fn options(given: &CriMount) -> Vec<&'static str> {
    let propagation = match given.propagation() {
        MountPropagation::PropagationPrivate => "rprivate",
        MountPropagation::PropagationHostToContainer => "rslave",
        MountPropagation::PropagationBidirectional => "rshared",
    };
    let mut options = vec!["rbind", propagation];
    if given.readonly || given.image.is_some() {
        options.push("ro");
        if given.recursive_read_only {
            options.push("rro");
        }
    } else {
        options.push("rw");
    }
    options
}

fn check(given: &CriMount, users: Option<idmap::IdMaps>) -> Result<(), SpecError> {
    let refuse = |problem| {
        Err(SpecError::Mount {
            path: given.container_path.clone(),
            problem,
        })
    };
    if given.container_path.is_empty() {
        return refuse("the path in the container is empty");
    }
    if normal(&given.container_path) == Path::new("/") {
        return refuse("the container's root is no place for a mount");
    }
    if given.image.is_none() && !given.host_path.starts_with('/') {
        return refuse("the path on the host is not absolute");
    }
    if given.image.is_some() && !given.readonly {
        return refuse("an image can only be mounted read-only");
    }
    if !given.uid_mappings.is_empty() || !given.gid_mappings.is_empty() {
        let wanted = idmap::IdMaps {
            uids: idmap::range(&given.uid_mappings)?,
            gids: idmap::range(&given.gid_mappings)?,
        };
        if users != Some(wanted) {
            return Err(SpecError::Unsupported(format!(
                "an id mapping of mount {:?} that is not the pod's",
                given.container_path
            )));
        }
    }
    if given.recursive_read_only {
        if !given.readonly {
            return refuse("recursive read-only needs read-only");
        }
        if given.propagation() != MountPropagation::PropagationPrivate {
            return refuse("recursive read-only needs private propagation");
        }
    }
    Ok(())
}
