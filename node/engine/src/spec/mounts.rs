//! Mounts of a container, in the order in which they are made.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use knode_cri::{Mount as CriMount, MountPropagation};
use oci_spec::runtime::{Mount, MountBuilder};

use super::{Input, SpecError, security_context};

/// The mounts, and how the container's root takes part in the host's.
pub(super) struct Mounts {
    pub(super) list: Vec<Mount>,
    /// What libcontainer makes of the new mount namespace before anything is mounted; mounts taken from the
    /// host keep it. So one mount that asks for more than the others decides for all.
    pub(super) root_propagation: &'static str,
}

pub(super) fn mounts(input: &Input<'_>) -> Result<Mounts, SpecError> {
    let context = security_context(input.config);
    let asked: HashSet<&str> = input
        .config
        .mounts
        .iter()
        .map(|mount| clean(&mount.container_path))
        .collect();
    let mut list = Vec::new();
    let files = files(input, context.readonly_rootfs);
    for mount in defaults(context.privileged)?.into_iter().chain(files) {
        let covered = mount
            .destination()
            .to_str()
            .is_some_and(|path| asked.contains(path));
        if !covered {
            list.push(mount);
        }
    }
    list.extend(configured(input)?);
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

fn clean(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed }
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
fn files(input: &Input<'_>, readonly: bool) -> Vec<Mount> {
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
    with_source
        .filter_map(|(target, source, access)| bind(target, source, &["rbind", "rprivate", access]).ok())
        .collect()
}

fn bind(target: &str, source: &Path, options: &[&str]) -> Result<Mount, SpecError> {
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
        check(given)?;
        let source = match &given.image {
            Some(_) => image_sources.next().cloned().unwrap_or_default(),
            None => PathBuf::from(&given.host_path),
        };
        list.push((
            depth(&given.container_path),
            bind(clean(&given.container_path), &source, &options(given))?,
        ));
    }
    list.sort_by_key(|(depth, _)| *depth);
    Ok(list.into_iter().map(|(_, mount)| mount).collect())
}

fn depth(path: &str) -> usize {
    Path::new(path).components().count()
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

fn check(given: &CriMount) -> Result<(), SpecError> {
    let refuse = |problem| {
        Err(SpecError::Mount {
            path: given.container_path.clone(),
            problem,
        })
    };
    if given.container_path.is_empty() {
        return refuse("the path in the container is empty");
    }
    if !given.uid_mappings.is_empty() || !given.gid_mappings.is_empty() {
        return Err(SpecError::Unsupported(format!(
            "id mapping of mount {:?}",
            given.container_path
        )));
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
