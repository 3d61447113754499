use std::path::{Component, Path, PathBuf};

/// `name` as seen from the directory `base`, both relative to a root: dots resolved, and never above that root.
pub(crate) fn within_root(base: &Path, name: &Path) -> PathBuf {
    let mut path = if name.is_absolute() {
        PathBuf::new()
    } else {
        base.to_owned()
    };
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path
}
