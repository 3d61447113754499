//! Makes the parts of an installation, all or none.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use knode_pki::files::{symlink_atomic, write_atomic};

use super::manifest::Manifest;
use super::plan::{Item, Kind, Seen, Verdict};

/// Beside a file while it is being replaced.
const OLD: &str = ".knode-undo";

/// Why an installation was not made. What was made before is undone.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("{path} is not knode's; remove it, leave it out, or replace it with --force")]
    Foreign { path: PathBuf },
    #[error("{path} is not a directory")]
    NotADirectory { path: PathBuf },
    #[error("look at {path}")]
    Look { path: PathBuf, source: io::Error },
    #[error("make {path}")]
    Make { path: PathBuf, source: io::Error },
    #[error("write a file")]
    Write(#[from] knode_pki::Error),
}

/// How one step is taken back.
#[derive(Debug)]
enum Undo {
    RemoveFile(PathBuf),
    RemoveDirectory(PathBuf),
    /// Puts the old file, kept beside the new one, back.
    PutBack(PathBuf),
}

/// A path of the installed machine below the root.
pub fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// What was done, a line an item that changed.
#[derive(Debug, Default)]
pub struct Done {
    pub lines: Vec<String>,
    undo: Vec<Undo>,
}

impl Done {
    /// Makes the items below `root` and adds to the manifest what is new.
    ///
    /// # Errors
    /// The first failure, after everything is as it was before.
    pub fn apply(
        root: &Path,
        items: &[Item],
        manifest: &mut Manifest,
        force: bool,
    ) -> Result<Self, ApplyError> {
        let verdicts = judge_all(root, items, manifest, force)?;
        let mut done = Self::default();
        for (item, verdict) in items.iter().zip(verdicts) {
            if let Err(error) = done.one(root, item, verdict, manifest) {
                done.undo();
                return Err(error);
            }
        }
        Ok(done)
    }

    /// Keeps it: what stood there before is removed.
    pub fn commit(self) -> Vec<String> {
        for undo in &self.undo {
            if let Undo::PutBack(path) = undo {
                // Nothing depends on a copy that stays; the next run puts it away.
                let _ = fs::remove_file(old(path));
            }
        }
        self.lines
    }

    /// Takes everything back, last step first; what can't be taken back is logged.
    pub fn undo(self) {
        for undo in self.undo.into_iter().rev() {
            let (path, taken_back) = match &undo {
                Undo::RemoveFile(path) => (path, fs::remove_file(path)),
                Undo::RemoveDirectory(path) => (path, fs::remove_dir(path)),
                Undo::PutBack(path) => (path, fs::rename(old(path), path)),
            };
            if let Err(error) = taken_back {
                tracing::error!(path = %path.display(), %error, "cannot be put back as it was");
            }
        }
    }

    fn one(
        &mut self,
        root: &Path,
        item: &Item,
        verdict: Verdict,
        manifest: &mut Manifest,
    ) -> Result<(), ApplyError> {
        let path = below(root, &item.path);
        let word = match verdict {
            Verdict::Keep | Verdict::Refuse => return Ok(()),
            Verdict::Make => {
                self.parents(root, &path, manifest)?;
                "made"
            }
            Verdict::Replace => {
                self.set_aside(&path)?;
                "replaced"
            }
        };
        let directory = matches!(item.kind, Kind::Directory(_));
        self.make(item, &path)?;
        if verdict == Verdict::Make {
            self.undo.push(if directory {
                Undo::RemoveDirectory(path)
            } else {
                Undo::RemoveFile(path)
            });
        }
        manifest.add(&item.path, directory);
        self.lines.push(format!("{word} {}", item.path.display()));
        Ok(())
    }

    fn parents(&mut self, root: &Path, path: &Path, manifest: &mut Manifest) -> Result<(), ApplyError> {
        let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|p| !p.exists()).collect();
        for directory in missing.into_iter().rev() {
            fs::create_dir(directory).map_err(|source| ApplyError::Make {
                path: directory.to_owned(),
                source,
            })?;
            self.undo.push(Undo::RemoveDirectory(directory.to_owned()));
            if let Ok(own) = directory.strip_prefix(root) {
                manifest.add(&Path::new("/").join(own), true);
            }
        }
        Ok(())
    }

    /// Keeps what stands at a path under another name; the path itself is never without a file.
    fn set_aside(&mut self, path: &Path) -> Result<(), ApplyError> {
        let keep = || match fs::symlink_metadata(path)?.is_symlink() {
            true => std::os::unix::fs::symlink(fs::read_link(path)?, old(path)),
            false => fs::hard_link(path, old(path)),
        };
        keep().map_err(|source| ApplyError::Make {
            path: old(path),
            source,
        })?;
        self.undo.push(Undo::PutBack(path.to_owned()));
        Ok(())
    }

    fn make(&self, item: &Item, path: &Path) -> Result<(), ApplyError> {
        match &item.kind {
            Kind::Directory(mode) => fs::create_dir(path)
                .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(*mode)))
                .map_err(|source| ApplyError::Make {
                    path: path.to_owned(),
                    source,
                }),
            Kind::File { text, mode } | Kind::Default { text, mode } => {
                Ok(write_atomic(path, text.as_bytes(), *mode)?)
            }
            Kind::Program(source) => {
                let bytes = fs::read(source).map_err(|error| ApplyError::Look {
                    path: source.clone(),
                    source: error,
                })?;
                Ok(write_atomic(path, &bytes, 0o755)?)
            }
            Kind::Link(target) => Ok(symlink_atomic(target, path)?),
        }
    }
}

fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(OLD);
    name.into()
}

/// Judges every item before the first is touched.
fn judge_all(
    root: &Path,
    items: &[Item],
    manifest: &Manifest,
    force: bool,
) -> Result<Vec<Verdict>, ApplyError> {
    let judge = |item: &Item| {
        let path = below(root, &item.path);
        heal(&path)?;
        let seen = look(item, &path).map_err(|source| ApplyError::Look {
            path: path.clone(),
            source,
        })?;
        match item.judge(seen, manifest.has(&item.path), force) {
            Verdict::Refuse if matches!(item.kind, Kind::Directory(_)) => {
                Err(ApplyError::NotADirectory { path })
            }
            Verdict::Refuse => Err(ApplyError::Foreign { path }),
            verdict => Ok(verdict),
        }
    };
    items.iter().map(judge).collect()
}

/// An installation that was killed in the middle has left the old file beside the new one: it is taken back.
fn heal(path: &Path) -> Result<(), ApplyError> {
    match fs::rename(old(path), path) {
        Err(source)
            if source.kind() != io::ErrorKind::NotFound && source.kind() != io::ErrorKind::NotADirectory =>
        {
            Err(ApplyError::Make {
                path: path.to_owned(),
                source,
            })
        }
        _ => Ok(()),
    }
}

fn look(item: &Item, path: &Path) -> io::Result<Seen> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Seen::Nothing),
        Err(e) => return Err(e),
    };
    let same_file = |bytes: &[u8], mode: u32| {
        let same = there.is_file()
            && there.len() == bytes.len() as u64
            && there.permissions().mode() & 0o777 == mode
            && fs::read(path)? == bytes;
        io::Result::Ok(same)
    };
    let same = match &item.kind {
        Kind::Directory(_) => fs::metadata(path)?.is_dir(),
        Kind::File { text, mode } | Kind::Default { text, mode } => same_file(text.as_bytes(), *mode)?,
        Kind::Program(source) => is_same_file(source, path) || same_file(&fs::read(source)?, 0o755)?,
        Kind::Link(target) => there.is_symlink() && fs::read_link(path)? == *target,
    };
    Ok(if same { Seen::Same } else { Seen::Other })
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    real(a).is_some() && real(a) == real(b)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("knode-apply-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// Every path with its content.
        fn tree(&self) -> BTreeMap<PathBuf, String> {
            let (mut all, mut open) = (BTreeMap::new(), vec![self.0.clone()]);
            while let Some(directory) = open.pop() {
                for entry in fs::read_dir(directory).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        open.push(path.clone());
                    }
                    let text = fs::read_to_string(&path).unwrap_or_default();
                    all.insert(path, text);
                }
            }
            all
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn file(path: &str, text: &str) -> Item {
        let (text, mode) = (text.into(), 0o644);
        Item {
            path: path.into(),
            kind: Kind::File { text, mode },
        }
    }

    fn link(path: &str, target: &str) -> Item {
        Item {
            path: path.into(),
            kind: Kind::Link(target.into()),
        }
    }

    #[test]
    fn a_second_time_changes_nothing_and_a_new_text_is_written() {
        let root = Root::new("twice");
        let mut manifest = Manifest::default();
        let items = [file("/etc/a/b", "one"), link("/bin/x", "y")];
        let first = Done::apply(&root.0, &items, &mut manifest, false)
            .unwrap()
            .commit();
        assert_eq!(first, ["made /etc/a/b", "made /bin/x"]);
        let again = Done::apply(&root.0, &items, &mut manifest, false)
            .unwrap()
            .commit();
        assert!(again.is_empty(), "{again:?}");
        let other = [file("/etc/a/b", "two"), link("/bin/x", "z")];
        let changed = Done::apply(&root.0, &other, &mut manifest, false)
            .unwrap()
            .commit();
        assert_eq!(changed, ["replaced /etc/a/b", "replaced /bin/x"]);
        assert_eq!(fs::read_to_string(root.0.join("etc/a/b")).unwrap(), "two");
        assert!(
            root.tree().keys().all(|p| !p.display().to_string().contains(OLD)),
            "{:?}",
            root.tree()
        );
    }

    #[test]
    fn a_failure_in_the_middle_takes_everything_back() {
        let root = Root::new("undo");
        let mut manifest = Manifest::default();
        Done::apply(&root.0, &[file("/etc/kept", "old")], &mut manifest, false)
            .unwrap()
            .commit();
        let before = root.tree();
        let missing = Item {
            path: "/bin/knode".into(),
            kind: Kind::Program(root.0.join("no-such-program")),
        };
        // Looked at before anything is made.
        let items = [file("/etc/kept", "new"), file("/etc/new/x", "x"), missing];
        Done::apply(&root.0, &items, &mut manifest.clone(), false).unwrap_err();
        assert_eq!(root.tree(), before);
        // And found out in the middle: the second item's parent is the first one, a file.
        let items = [
            file("/etc/kept", "new"),
            file("/etc/new/x", "x"),
            file("/etc/new/x/y", "z"),
        ];
        let error = Done::apply(&root.0, &items, &mut manifest, false).unwrap_err();
        assert!(
            matches!(error, ApplyError::Write(_) | ApplyError::Make { .. }),
            "{error}"
        );
        assert_eq!(root.tree(), before);
    }

    #[test]
    fn others_files_stay_untouched() {
        let root = Root::new("foreign");
        fs::create_dir_all(root.0.join("bin")).unwrap();
        fs::write(root.0.join("bin/kubelet"), "theirs").unwrap();
        let before = root.tree();
        let items = [file("/etc/a", "a"), link("/bin/kubelet", "knode")];
        let error = Done::apply(&root.0, &items, &mut Manifest::default(), false).unwrap_err();
        assert!(
            error.to_string().contains("bin/kubelet is not knode's"),
            "{error}"
        );
        assert_eq!(root.tree(), before);
    }

    #[test]
    fn a_killed_installation_is_taken_back_by_the_next() {
        let root = Root::new("killed");
        let mut manifest = Manifest::default();
        Done::apply(&root.0, &[file("/a", "old")], &mut manifest, false)
            .unwrap()
            .commit();
        let half = Done::apply(&root.0, &[file("/a", "half")], &mut manifest, false).unwrap();
        std::mem::forget(half);
        Done::apply(&root.0, &[file("/a", "new")], &mut manifest, false)
            .unwrap()
            .undo();
        assert_eq!(fs::read_to_string(root.0.join("a")).unwrap(), "old");
    }
}
