//! Where a container's control group goes, by the parent that its pod names. Pure.
//!
//! A slice's name, and its path as the kubelet's `--cgroup-driver=systemd` gives it, are a unit of systemd's; anything
//! else is a path (cgroupfs). Names follow systemd.slice(5): `a-b.slice` lies in `a.slice`.

use std::path::{Component, Path, PathBuf};

use super::SpecError;

/// Parent of containers whose pod names none.
pub const DEFAULT_PARENT: &str = "/knode";

/// Longest parent that is taken, in bytes: a path of the kernel less room for the rest.
const MAX_PARENT: usize = 2048;

/// A pod's place among the control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// A group by its absolute path.
    Path(PathBuf),
    /// A slice of systemd's.
    Slice {
        /// Name of the unit.
        unit: String,
        /// Its group, all slices above it named.
        path: PathBuf,
    },
}

impl Parent {
    /// The group itself.
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) | Self::Slice { path, .. } => path,
        }
    }

    /// The group of the container `id` below it; with systemd a scope as every runtime names it.
    pub fn container(&self, id: &str) -> PathBuf {
        match self {
            Self::Path(path) => path.join(id),
            Self::Slice { path, .. } => path.join(scope(id)),
        }
    }
}

/// What names of containers' scopes begin with.
const SCOPE: &str = "knode-";

/// Name of a container's scope.
pub fn scope(id: &str) -> String {
    format!("{SCOPE}{id}.scope")
}

/// The scope whose group this is, if it is a container's.
pub fn scope_of(group: &Path) -> Option<&str> {
    let name = group.file_name()?.to_str()?;
    (name.starts_with(SCOPE) && name.ends_with(".scope")).then_some(name)
}

/// What runtimes with `--systemd-cgroup` are told instead of a path.
pub fn of_runtime(slice: &str, id: &str) -> PathBuf {
    format!("{slice}:{}:{id}", SCOPE.trim_end_matches('-')).into()
}

/// Reads `LinuxPodSandboxConfig.cgroup_parent`.
///
/// # Errors
/// [`SpecError::CgroupParent`] for what is neither a plain path nor a valid slice.
pub fn parent(given: &str) -> Result<Parent, SpecError> {
    let refuse = |problem| {
        Err(SpecError::CgroupParent {
            parent: given.chars().take(200).collect(),
            problem,
        })
    };
    if given.is_empty() {
        return Ok(Parent::Path(DEFAULT_PARENT.into()));
    }
    if given.len() > MAX_PARENT {
        return refuse("is too long");
    }
    if given.contains(|c: char| c.is_control()) {
        return refuse("has a control character");
    }
    let unit = given.rsplit('/').next().unwrap_or(given);
    match slice_path(unit) {
        Some(path) if unit == given || path == Path::new(given) => {
            return Ok(Parent::Slice {
                unit: unit.into(),
                path,
            });
        }
        None if unit == given && unit.ends_with(".slice") => return refuse("is no slice"),
        _ => {}
    }
    let mut path = PathBuf::from("/");
    for component in Path::new(given).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return refuse("leads upwards"),
        }
    }
    if path == Path::new("/") {
        return refuse("is the root");
    }
    Ok(Parent::Path(path))
}

/// The group of a slice: `a-b.slice` is `/a.slice/a-b.slice`.
fn slice_path(unit: &str) -> Option<PathBuf> {
    let name = unit.strip_suffix(".slice")?;
    if name == "-" {
        return Some(PathBuf::from("/"));
    }
    let mut path = PathBuf::from("/");
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push(format!("{so_far}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_parents_are_absolute_whatever_they_look_like() {
        for given in ["/kubepods/pod1", "kubepods/pod1", "//kubepods/./pod1/"] {
            assert_eq!(
                parent(given).unwrap().path(),
                Path::new("/kubepods/pod1"),
                "{given}"
            );
        }
        assert_eq!(parent("").unwrap().path(), Path::new("/knode"));
        assert_eq!(parent("/a").unwrap().container("c1"), Path::new("/a/c1"));
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let long = "a/".repeat(4000);
        for given in [
            "/",
            "/a/../../b",
            "..",
            "a\0b",
            "-a.slice",
            "a--b.slice",
            ".slice",
            &long,
        ] {
            assert!(parent(given).is_err(), "{given:?}");
        }
    }

    #[test]
    fn slices_lie_in_one_another() {
        let pod = parent("kubepods-burstable-pod1_2.slice").unwrap();
        assert_eq!(
            pod.path(),
            Path::new("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice")
        );
        assert!(matches!(&pod, Parent::Slice { unit, .. } if unit == "kubepods-burstable-pod1_2.slice"));
        assert!(pod.container("c1").ends_with("knode-c1.scope"));
        assert_eq!(scope_of(&pod.container("c1")), Some("knode-c1.scope"));
        assert_eq!(scope_of(&parent("/a").unwrap().container("c1")), None);
        assert_eq!(of_runtime("a.slice", "c1"), Path::new("a.slice:knode:c1"));
        // As the kubelet hands it over.
        let whole = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
        assert_eq!(parent(whole).unwrap(), pod);
        for path in ["/system.slice/x", "/x/system.slice", "/a.slice/b.slice"] {
            assert!(matches!(parent(path).unwrap(), Parent::Path(_)), "{path}");
        }
    }
}
