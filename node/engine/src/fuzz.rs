//! Functions that take whatever clients and files say, for fuzzing: none panics, and what must hold they assert.

use std::path::Path;

use knode_cri::{ContainerConfig, LinuxContainerResources, PodSandboxConfig};
use knode_images::ImageConfig;

use crate::sandbox::validate::validate;
use crate::spec::{self, Input, Machine, Namespaces, SandboxFiles, cdi, idmap, paths, signal, user};

/// A pod's configuration.
///
/// # Panics
/// When one is taken without a name.
pub fn sandbox(config: &PodSandboxConfig) {
    if let Ok(metadata) = validate(config) {
        assert!(
            !metadata.name.is_empty() && !metadata.uid.is_empty(),
            "{metadata:?}"
        );
    }
}

/// A container's configuration in a pod's: what is taken has a specification that keeps to its control group and to
/// absolute paths.
///
/// # Panics
/// When it does not.
pub fn container(config: &ContainerConfig, sandbox: &PodSandboxConfig) {
    let users = sandbox.linux.as_ref().and_then(|linux| {
        linux
            .security_context
            .as_ref()?
            .namespace_options
            .as_ref()?
            .userns_options
            .as_ref()
    });
    let users = idmap::of_pod(users).ok().flatten();
    if let Ok(path) = paths::log_path(&sandbox.log_directory, &config.log_path) {
        assert!(
            path.as_os_str().is_empty() || path.starts_with(&sandbox.log_directory),
            "{path:?}"
        );
    }
    drop(signal::stop_signal(config.stop_signal(), "SIGTERM"));
    drop(cdi::wanted(config));
    let context = spec::security_context(config);
    let user = user::resolve(&context, "", user::Accounts::default()).unwrap_or_default();
    for cgroup_v2 in [false, true] {
        let machine = Machine {
            cgroup_v2,
            huge_pages: true,
            user_namespaces: true,
        };
        build(config, sandbox, &user, &machine, users);
    }
}

fn build(
    config: &ContainerConfig,
    sandbox: &PodSandboxConfig,
    user: &user::ResolvedUser,
    machine: &Machine,
    users: Option<idmap::IdMaps>,
) {
    let group = Path::new("/pods/pod/container");
    let images = vec![Path::new("/images/one").to_path_buf(); config.mounts.len()];
    let made = spec::build(&Input {
        config,
        sandbox,
        image: &ImageConfig::default(),
        user,
        rootfs: Path::new("/root"),
        cgroup: group,
        namespaces: &Namespaces::default(),
        files: &SandboxFiles::default(),
        hostname: &sandbox.hostname,
        image_mounts: &images,
        devices: &[],
        available_capabilities: u64::MAX,
        machine,
        apparmor: None,
        labels: None,
        by_program: false,
        cdi: &[],
        users,
    });
    let Ok(made) = made else { return };
    serde_json::to_vec(&made).expect("a specification can be written");
    let linux = made.linux().as_ref().expect("Linux is where containers run");
    assert_eq!(linux.cgroups_path().as_deref(), Some(group));
    for mount in made.mounts().iter().flatten() {
        assert!(mount.destination().is_absolute(), "{mount:?}");
    }
}

/// New limits of a container.
///
/// # Panics
/// When a file outside the container's group would be written.
pub fn resources(resources: &LinuxContainerResources) {
    for cgroup_v2 in [false, true] {
        let machine = Machine {
            cgroup_v2,
            huge_pages: true,
            ..Default::default()
        };
        for value in spec::cgroup_values(resources, &machine).unwrap_or_default() {
            assert!(!value.file.contains('/') && value.file != "..", "{value:?}");
        }
    }
}

/// A file that describes CDI devices, and an image's `/etc/passwd`.
pub fn files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(file) = serde_norway::from_str::<cdi::CdiSpec>(&text) {
        let names: Vec<String> = file
            .devices
            .iter()
            .map(|device| format!("{}={}", file.kind, device.name))
            .collect();
        drop(cdi::resolve(&names, &[vec![file]]));
    }
    let accounts = user::Accounts {
        passwd: &text,
        group: &text,
    };
    drop(user::resolve(&Default::default(), "nobody:users", accounts));
}

/// What a streaming client sends after the upgrade to SPDY.
pub fn spdy(bytes: &[u8]) {
    crate::streaming::fuzz(bytes);
}
