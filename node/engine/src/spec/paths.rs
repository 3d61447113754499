//! Paths and texts of a configuration, checked before anything is done with them.

use std::path::{Component, Path, PathBuf};

use knode_cri::ContainerConfig;

use super::{SpecError, security_context};

/// An absolute path without `.` and `..`, as if the container's root were the only one there is.
pub fn normal(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// The whole path of a log file, empty without one. It lies in the pod's directory.
///
/// # Errors
/// [`SpecError::LogPath`] for one that leads out of it, or that has no directory.
pub fn log_path(directory: &str, path: &str) -> Result<PathBuf, SpecError> {
    if path.is_empty() {
        return Ok(PathBuf::new());
    }
    let refuse = |problem| {
        Err(SpecError::LogPath {
            path: path.chars().take(200).collect(),
            problem,
        })
    };
    let up = |path: &str| {
        Path::new(path)
            .components()
            .any(|part| part == Component::ParentDir)
    };
    if directory.is_empty() {
        return refuse("the pod has no log directory");
    }
    if up(path) || up(directory) {
        return refuse("it leads out of the pod's log directory");
    }
    let relative = path.trim_start_matches('/');
    if relative.is_empty() {
        return refuse("it names no file");
    }
    Ok(Path::new(directory).join(relative))
}

/// The kernel takes none of these with a NUL in it, and some of libcontainer's calls would end its process.
pub(super) fn check_texts(config: &ContainerConfig) -> Result<(), SpecError> {
    let context = security_context(config);
    let pairs = config.envs.iter().flat_map(|pair| [&pair.key, &pair.value]);
    let mounts = config
        .mounts
        .iter()
        .flat_map(|mount| [&mount.container_path, &mount.host_path]);
    let devices = config
        .devices
        .iter()
        .flat_map(|device| [&device.container_path, &device.host_path, &device.permissions]);
    let groups: [(&'static str, Vec<&String>); 7] = [
        ("command", config.command.iter().chain(&config.args).collect()),
        ("envs", pairs.collect()),
        ("mounts", mounts.collect()),
        ("devices", devices.collect()),
        ("working_dir", vec![&config.working_dir]),
        ("log_path", vec![&config.log_path]),
        (
            "masked_paths and readonly_paths",
            context
                .masked_paths
                .iter()
                .chain(&context.readonly_paths)
                .collect(),
        ),
    ];
    match groups
        .iter()
        .find(|(_, texts)| texts.iter().any(|text| text.contains('\0')))
    {
        Some((field, _)) => Err(SpecError::Nul(field)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(normal("/a/../../b/./c/"), Path::new("/b/c"));
        assert_eq!(normal("x"), Path::new("/x"));
        assert_eq!(normal("/../.."), Path::new("/"));
    }

    #[test]
    fn logs_stay_in_the_pods_directory() {
        assert_eq!(log_path("/l", "c/0.log").unwrap(), Path::new("/l/c/0.log"));
        assert_eq!(log_path("/l", "/c/0.log").unwrap(), Path::new("/l/c/0.log"));
        assert_eq!(log_path("/l", "").unwrap(), Path::new(""));
        for (directory, path) in [
            ("/l", "../x"),
            ("/l", "a/../../x"),
            ("", "x"),
            ("/l/../m", "x"),
            ("/l", "/"),
        ] {
            assert!(log_path(directory, path).is_err(), "{directory} {path}");
        }
    }

    #[test]
    fn a_nul_is_found_wherever_it_is() {
        let mut config = ContainerConfig::default();
        check_texts(&config).unwrap();
        config.args = vec!["a\0".into()];
        assert!(matches!(check_texts(&config), Err(SpecError::Nul("command"))));
    }
}
