//! The exchange of a program on disk: at every moment there is one, and the old one is kept.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why the program was not exchanged.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    #[error("keep the old program as {path}")]
    Keep { path: PathBuf, source: io::Error },
    #[error("put the new program to {path}")]
    Put { path: PathBuf, source: io::Error },
    #[error("put the old program back to {path}")]
    Back { path: PathBuf, source: io::Error },
}

/// A program that has been exchanged; the old one lies beside it.
#[derive(Debug)]
pub struct Swap {
    target: PathBuf,
}

/// Where the old program is kept.
pub fn previous(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".previous");
    name.into()
}

impl Swap {
    /// Puts a copy of `new` in the place of `target`.
    pub fn make(new: &Path, target: &Path) -> Result<Self, SwapError> {
        let kept = previous(target);
        let keep = || {
            match fs::remove_file(&kept) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            fs::hard_link(target, &kept)
        };
        keep().map_err(|source| SwapError::Keep {
            path: kept.clone(),
            source,
        })?;
        put(new, target).map_err(|source| SwapError::Put {
            path: target.to_owned(),
            source,
        })?;
        Ok(Self {
            target: target.to_owned(),
        })
    }

    /// Puts the old program back.
    pub fn back(self) -> Result<(), SwapError> {
        fs::rename(previous(&self.target), &self.target).map_err(|source| SwapError::Back {
            path: self.target,
            source,
        })
    }
}

/// A rename within a directory exchanges the file at once; the copy is on the disk before.
fn put(new: &Path, target: &Path) -> io::Result<()> {
    let mut name = target.as_os_str().to_owned();
    name.push(".new");
    let copy = PathBuf::from(name);
    let made = fs::copy(new, &copy)
        .and_then(|_| fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)))
        .and_then(|()| File::open(&copy)?.sync_all())
        .and_then(|()| fs::rename(&copy, target));
    if made.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&copy);
    }
    made?;
    match target.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_program_comes_back_as_it_was() {
        let directory = std::env::temp_dir().join(format!("knode-swap-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (target, new) = (directory.join("knode"), directory.join("download"));
        fs::write(&target, "old").unwrap();
        fs::write(&new, "new").unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        // Twice, so that an earlier upgrade's copy is in the way.
        drop(Swap::make(&new, &target).unwrap());
        assert_eq!(
            (read(&target), read(&previous(&target))),
            ("new".into(), "old".into())
        );
        fs::write(&new, "newer").unwrap();
        let swap = Swap::make(&new, &target).unwrap();
        assert_eq!(read(&previous(&target)), "new");
        swap.back().unwrap();
        assert_eq!(read(&target), "new");
        assert!(!previous(&target).exists());
        let refused = Swap::make(&directory.join("missing"), &target).unwrap_err();
        assert!(matches!(refused, SwapError::Put { .. }), "{refused}");
        assert_eq!(read(&target), "new");
        fs::remove_dir_all(directory).unwrap();
    }
}
