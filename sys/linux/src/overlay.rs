//! Overlayfs mounts with layers named relative to a base directory.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// What to mount: every path but `target` is relative to `base`, so that a hundred layers fit the one page of
/// options that `mount(2)` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayMount {
    /// The directory the other paths start from.
    pub base: PathBuf,
    /// Lower layers, the topmost first; at least one.
    pub lower: Vec<PathBuf>,
    /// The writable layer, and the work directory on the same file system; `None` mounts read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// The SELinux context of everything in it, `None` for the files' own.
    pub context: Option<String>,
    /// Where to mount, absolute.
    pub target: PathBuf,
}

impl OverlayMount {
    /// The option string of `mount(2)`.
    ///
    /// # Errors
    /// `InvalidInput` for a path that overlayfs cannot be told (`:`, `,` or `\` in it), or options over a page.
    pub fn options(&self) -> io::Result<Vec<u8>> {
        let mut options = b"index=off,lowerdir=".to_vec();
        for (position, layer) in self.lower.iter().enumerate() {
            if position > 0 {
                options.push(b':');
            }
            options.extend_from_slice(plain(layer)?);
        }
        if let Some((upper, work)) = &self.upper {
            options.extend_from_slice(b",upperdir=");
            options.extend_from_slice(plain(upper)?);
            options.extend_from_slice(b",workdir=");
            options.extend_from_slice(plain(work)?);
        }
        if let Some(context) = &self.context {
            // Quoted, for there are commas in it.
            options.extend_from_slice(format!(",context=\"{context}\"").as_bytes());
        }
        let limit = rustix::param::page_size() - 1;
        if options.len() > limit {
            let text = format!(
                "{} layers need more than {limit} bytes of mount options",
                self.lower.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(options)
    }

    /// Mounts it. A thread of its own changes to `base`, so the caller's working directory stays.
    ///
    /// # Errors
    /// Those of `mount(2)` and of [`OverlayMount::options`].
    pub fn mount(&self) -> io::Result<()> {
        let options = CString::new(self.options()?)?;
        let flags = if self.upper.is_some() {
            MountFlags::empty()
        } else {
            MountFlags::RDONLY
        };
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| -> io::Result<()> {
                // The thread, which ends below, gets a working directory of its own.
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
                rustix::process::chdir(&self.base)?;
                mount(
                    "overlay",
                    &self.target,
                    "overlay",
                    flags,
                    Some(options.as_c_str()),
                )?;
                Ok(())
            });
            worker
                .join()
                .map_err(|_| io::Error::other("the mounting thread panicked"))?
        })
    }
}

/// A path as bytes that need no escaping in the options.
fn plain(path: &Path) -> io::Result<&[u8]> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.iter().any(|byte| matches!(byte, b':' | b',' | b'\\')) {
        let text = format!(
            "{} has a character that overlayfs options cannot carry",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(bytes)
}

/// Unmounts everything stacked at `target`, lazily so that a busy file does not keep it.
/// What is not mounted is no error.
///
/// # Errors
/// Those of `umount2(2)` but `EINVAL` and `ENOENT`.
pub fn unmount_all(target: &Path) -> io::Result<()> {
    loop {
        match unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The mount points at or below `root` in this mount namespace, in mounting order, as paths that begin with `root`,
/// whose parents may be links.
///
/// # Errors
/// When `/proc/self/mountinfo` cannot be read.
pub fn mount_points_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let real = real_place(root);
    let table = std::fs::read("/proc/self/mountinfo")?;
    let points = table.split(|byte| *byte == b'\n').filter_map(mount_point);
    let below = |point: PathBuf| {
        Some(match point.strip_prefix(&real).ok()? {
            rest if rest.as_os_str().is_empty() => root.to_owned(),
            rest => root.join(rest),
        })
    };
    Ok(points.filter_map(below).collect())
}

/// The path without links on the way to its last part, which is not looked at: a mount whose server is gone answers
/// nobody.
fn real_place(path: &Path) -> PathBuf {
    let parts = path.parent().zip(path.file_name());
    let real = parts.and_then(|(parent, name)| Some(parent.canonicalize().ok()?.join(name)));
    real.unwrap_or_else(|| path.to_owned())
}

/// Whether something is mounted on `path` itself; what is not there is no mount point. Its last part is not followed
/// as a link.
///
/// # Errors
/// Those of `statx(2)`, and where the kernel cannot tell (before 5.8) of reading `/proc/self/mountinfo`.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let seen = match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(seen) => seen,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    };
    if seen.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    let real = std::fs::canonicalize(path)?;
    Ok(mount_points_below(&real)?.contains(&real))
}

/// The fifth field of a mountinfo line with its octal escapes undone.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\' && tail.len() >= 3).then(|| &tail[..3]);
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(value.unwrap_or(*first));
        rest = if value.is_some() { &tail[3..] } else { tail };
    }
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(&path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lower: &[&str]) -> OverlayMount {
        OverlayMount {
            base: "/base".into(),
            lower: lower.iter().map(PathBuf::from).collect(),
            upper: Some(("s/1/u".into(), "s/1/w".into())),
            context: None,
            target: "/base/s/1/r".into(),
        }
    }

    #[test]
    fn options_name_layers_from_the_top() {
        let options = of(&["l/2", "l/1"]).options().unwrap();
        assert_eq!(
            options,
            b"index=off,lowerdir=l/2:l/1,upperdir=s/1/u,workdir=s/1/w"
        );
    }

    #[test]
    fn a_context_is_quoted() {
        let labelled = OverlayMount {
            context: Some("u:o:t:s0:c1,c2".into()),
            upper: None,
            ..of(&["l/2", "l/1"])
        };
        let options = labelled.options().unwrap();
        assert_eq!(options, b"index=off,lowerdir=l/2:l/1,context=\"u:o:t:s0:c1,c2\"");
    }

    #[test]
    fn a_path_that_would_need_escaping_is_refused() {
        assert_eq!(
            of(&["l:2"]).options().unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn mountinfo_escapes_are_undone() {
        let line = br"36 35 98:0 / /mnt/a\040b rw - ext4 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from("/mnt/a b")));
    }

    #[test]
    fn a_mount_point_is_told_from_what_is_in_it() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self/status")).unwrap());
        assert!(!is_mount_point(Path::new("/no/such/path")).unwrap());
    }
}
