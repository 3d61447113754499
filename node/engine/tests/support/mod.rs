//! An engine of its own for each test, in a process of its own behind its socket, with a busybox image and a network that
//! only keeps books.
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod daemon;
pub mod machine;
pub mod spdy;
pub mod traces;
pub mod websocket;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use knode_cri::*;

pub const IMAGE: &str = "localhost/test/busybox:1";

/// Long for a machine that runs other tests at the same time.
pub const BOUND: Duration = Duration::from_secs(30);

/// Runs until it is asked to end.
pub const PATIENT: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// A container that runs `script` in a shell.
pub fn shell(script: &str) -> ContainerConfig {
    command(&["sh", "-c", script])
}

pub fn command(words: &[&str]) -> ContainerConfig {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: format!("c{number}"),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: IMAGE.into(),
            ..Default::default()
        }),
        command: words.iter().map(|word| word.to_string()).collect(),
        log_path: format!("c{number}/0.log"),
        ..Default::default()
    };
    secured(config, |context| context.namespace_options = own_processes())
}

/// Process numbers of the container's own, as the kubelet asks for; CRI's default is the pod's.
pub fn own_processes() -> Option<NamespaceOption> {
    Some(NamespaceOption {
        pid: NamespaceMode::Container as i32,
        ..Default::default()
    })
}

/// Changes the security settings of a container.
pub fn secured(
    mut config: ContainerConfig,
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> ContainerConfig {
    let linux = config.linux.get_or_insert_with(Default::default);
    change(linux.security_context.get_or_insert_with(Default::default));
    config
}

/// Changes the limits of a container.
pub fn limited(
    mut config: ContainerConfig,
    change: impl FnOnce(&mut LinuxContainerResources),
) -> ContainerConfig {
    let linux = config.linux.get_or_insert_with(Default::default);
    change(linux.resources.get_or_insert_with(Default::default));
    config
}

/// Changes the security settings of a pod.
pub fn sandbox_secured(
    mut config: PodSandboxConfig,
    change: impl FnOnce(&mut LinuxSandboxSecurityContext),
) -> PodSandboxConfig {
    let linux = config.linux.get_or_insert_default();
    change(linux.security_context.get_or_insert_default());
    config
}

/// A bind mount of a file or directory of the host.
pub fn bind(host: &std::path::Path, container: &str) -> Mount {
    Mount {
        host_path: host.display().to_string(),
        container_path: container.into(),
        ..Default::default()
    }
}

/// Whether control groups are of version 2.
pub fn is_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Whether this kernel can show files in memory as those of other users.
pub fn users_are_mapped() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}
