//! SELinux at work: what the node's policy has for containers, which levels are taken, and the labels of files.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use knode_cri::SeLinuxOption;
use knode_linux::openat::RootDir;
use knode_linux::xattr;
use rand::RngExt;
use rustix::fs::{Dir, FileType, Mode, OFlags};

use crate::error::{EngineError, FileContext, Result};
use crate::spec::SpecError;
use crate::spec::selinux::{Labels, Policy, setting};

/// Mounted where the kernel has SELinux.
const KERNEL: &str = "/sys/fs/selinux/enforce";
const CONFIG: &str = "/etc/selinux/config";
/// What says it for containers alone, before the policy's own.
const OF_CONTAINERS: &str = "/usr/share/containers/selinux/contexts";
const LABEL: &str = "security.selinux";
/// Categories that levels are made of: two of c0 to c1023.
const CATEGORIES: u32 = 1024;
/// Labelling these for one container would take them from everybody else.
const NEVER: [&str; 24] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// The SELinux of this machine.
#[derive(Debug)]
pub(crate) struct Selinux {
    policy: Policy,
    /// Levels by the sandbox or container that has them.
    levels: Mutex<HashMap<String, String>>,
}

impl Selinux {
    /// What is here, if it is to be used.
    pub(crate) fn find(wanted: bool) -> Option<Self> {
        if !wanted {
            return None;
        }
        if !Path::new(KERNEL).exists() {
            tracing::warn!("this kernel has no SELinux: nothing is labelled");
            return None;
        }
        let Some(policy) = contexts().as_deref().and_then(Policy::parse) else {
            tracing::warn!("the SELinux policy has no contexts for containers: nothing is labelled");
            return None;
        };
        Some(Self {
            policy,
            levels: Mutex::default(),
        })
    }

    /// The labels of a new sandbox or container. The level is its own until it is [freed](Self::free).
    pub(crate) fn label(&self, id: &str, asked: &SeLinuxOption) -> std::result::Result<Labels, SpecError> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = self.policy.labels(asked, || {
            let mut random = std::iter::repeat_with(random_level);
            let free = random.find(|level| !levels.values().any(|other| other == level));
            free.expect("the iterator does not end")
        })?;
        if let Some(level) = labels.level() {
            levels.insert(id.to_owned(), level.to_owned());
        }
        Ok(labels)
    }

    /// Takes up the labels that a sandbox or container has.
    pub(crate) fn hold(&self, id: &str, labels: Option<&Labels>) {
        if let Some(level) = labels.and_then(Labels::level) {
            let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
            levels.insert(id.to_owned(), level.to_owned());
        }
    }

    pub(crate) fn free(&self, id: &str) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.remove(id);
    }
}

fn contexts() -> Option<String> {
    if let Ok(text) = fs::read_to_string(OF_CONTAINERS) {
        return Some(text);
    }
    let config = fs::read_to_string(CONFIG).ok()?;
    let policy = Path::new("/etc/selinux").join(setting(&config, "SELINUXTYPE")?);
    fs::read_to_string(policy.join("contexts/lxc_contexts")).ok()
}

/// Two categories, the lower first.
fn random_level() -> String {
    let mut random = rand::rng();
    let one = random.random_range(0..CATEGORIES);
    let other = (one + random.random_range(1..CATEGORIES)) % CATEGORIES;
    format!("s0:c{},c{}", one.min(other), one.max(other))
}

/// Gives `path` and everything below it this label; links are labelled themselves. What the file system cannot label
/// stays as it is.
///
/// # Errors
/// A directory of the machine's own, which is not labelled for a container, and what the kernel refuses.
pub(crate) fn relabel(path: &Path, label: &str) -> Result<()> {
    let path = path.canonicalize().file("finding", path)?;
    if NEVER.iter().any(|never| Path::new(never) == path) {
        let text = format!("SELinux relabelling of {} is not allowed", path.display());
        return Err(EngineError::Invalid(text));
    }
    if path.is_dir() {
        let root = RootDir::open(&path).file("opening", &path)?;
        below(&root, Path::new(""), label).file("relabelling", &path)?;
    }
    set(&path, label).file("relabelling", &path)
}

/// Labels what is in a directory, its entries after what is in them.
fn below(root: &RootDir, directory: &Path, label: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let opened = match root.open_with(directory, flags, Mode::empty()) {
        // It is gone, or something else is there now.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
            ) =>
        {
            return Ok(());
        }
        other => other?,
    };
    for entry in Dir::read_from(&opened)? {
        let entry = entry?;
        let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
        if name == Path::new(".") || name == Path::new("..") {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            below(root, &directory.join(name), label)?;
        }
        set(&in_open(&opened, name), label)?;
    }
    Ok(())
}

/// The way to a name in an open directory, whatever its path leads to meanwhile.
fn in_open(directory: &impl std::os::fd::AsRawFd, name: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name)
}

fn set(path: &Path, label: &str) -> io::Result<()> {
    let key = OsStr::new(LABEL);
    let ended = format!("{label}\0");
    let gone = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::EOPNOTSUPP)
    };
    match xattr::get(path, key) {
        Ok(Some(old)) if old == ended.as_bytes() || old == label.as_bytes() => return Ok(()),
        Err(error) if gone(&error) => return Ok(()),
        // Whether it can be labelled is for the writing to say.
        Ok(_) | Err(_) => {}
    }
    match xattr::set(path, key, ended.as_bytes()) {
        Err(error) if gone(&error) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selinux() -> Selinux {
        Selinux {
            policy: Policy::parse("process=u:r:t:s0\nfile=u:o:f:s0").unwrap(),
            levels: Mutex::default(),
        }
    }

    #[test]
    fn levels_are_taken_once_and_freed() {
        let selinux = selinux();
        let all: std::collections::HashSet<String> = (0..500)
            .map(|id| selinux.label(&id.to_string(), &SeLinuxOption::default()).unwrap())
            .map(|labels| labels.level().unwrap().to_owned())
            .collect();
        assert_eq!(all.len(), 500);
        selinux.free("7");
        assert_eq!(selinux.levels.lock().unwrap().len(), 499);
    }

    #[test]
    fn levels_of_an_earlier_run_stay_taken() {
        let selinux = selinux();
        let labels = selinux.label("a", &SeLinuxOption::default()).unwrap();
        let later = super::tests::selinux();
        later.hold("a", Some(&labels));
        later.hold("b", None);
        assert_eq!(
            later.levels.lock().unwrap().get("a").map(String::as_str),
            labels.level()
        );
        assert_eq!(later.levels.lock().unwrap().len(), 1);
    }

    #[test]
    fn random_levels_have_two_categories_in_order() {
        for _ in 0..2000 {
            let level = random_level();
            let parts: Vec<u32> = level
                .strip_prefix("s0:")
                .unwrap()
                .split(',')
                .map(|one| one[1..].parse().unwrap())
                .collect();
            assert!(parts[0] < parts[1] && parts[1] < CATEGORIES, "{level}");
        }
    }

    #[test]
    fn the_machines_own_directories_are_not_relabelled() {
        let error = relabel(Path::new("/usr/"), "x").unwrap_err().to_string();
        assert_eq!(error, "SELinux relabelling of /usr is not allowed");
    }
}
