//! Reading and preparing a container's root file system from outside, never following it out.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use knode_linux::openat::RootDir;
use rustix::fs::{Mode, OFlags, mkdirat};

use crate::spec::SpecError;
use crate::spec::user::{Accounts, ResolvedUser, resolve};

/// Largest user file that is read, in bytes.
const MAX_ACCOUNTS: u64 = 10 * 1024 * 1024;

/// Looks up who a container runs as.
///
/// # Errors
/// [`SpecError`]; files that are missing count as empty.
pub(super) fn user(
    rootfs: &RootDir,
    context: &knode_cri::LinuxContainerSecurityContext,
    image_user: &str,
) -> Result<ResolvedUser, SpecError> {
    let passwd = read(rootfs, "etc/passwd").unwrap_or_default();
    let group = read(rootfs, "etc/group").unwrap_or_default();
    resolve(
        context,
        image_user,
        Accounts {
            passwd: &passwd,
            group: &group,
        },
    )
}

fn read(rootfs: &RootDir, path: &str) -> io::Result<String> {
    // A pipe in its place must not hold us up.
    let file = rootfs.open_with(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
    let mut bytes = Vec::new();
    File::from(file).take(MAX_ACCOUNTS).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Makes a directory with its parents.
///
/// # Errors
/// Those of `mkdirat(2)`, and when something else is in the way.
pub(super) fn make_directory(rootfs: &RootDir, path: &str) -> io::Result<()> {
    let mut parent = PathBuf::new();
    for component in Path::new(path).components() {
        let Component::Normal(name) = component else {
            continue;
        };
        make_one(rootfs, &parent, name)?;
        parent.push(name);
    }
    Ok(())
}

fn make_one(rootfs: &RootDir, parent: &Path, name: &OsStr) -> io::Result<()> {
    let directory = rootfs.open_dir(parent)?;
    match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_inside_even_through_links() {
        let base = std::env::temp_dir().join(format!("knode-engine-rootfs-{}", std::process::id()));
        let root = base.join("root");
        std::fs::create_dir_all(&root).unwrap();
        std::os::unix::fs::symlink("/real", root.join("link")).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        let rootfs = RootDir::open(&root).unwrap();
        make_directory(&rootfs, "/link/a/b").unwrap();
        make_directory(&rootfs, "/link/a/b").expect("twice is no error");
        assert!(root.join("real/a/b").is_dir());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
