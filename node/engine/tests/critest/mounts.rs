//! Mounts of the host: which way later mounts are seen, and how far read-only reaches.

use std::path::{Path, PathBuf};
use std::process::Command;

use knode_cri::*;
use knode_linux::overlay::unmount_all;

use crate::case::Case;
use crate::support::{bind, secured};

fn mount(words: &[&str]) {
    let status = Command::new("mount").args(words).status().unwrap();
    assert!(status.success(), "mount {words:?}");
}

/// A directory of the host that is unmounted in the end.
struct Directory(PathBuf);

impl Directory {
    fn new(case: &Case<'_>, pod: &str) -> Self {
        let path = case.scratch.join(format!("mounts-of-{pod}"));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn make(&self, name: &str) -> String {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let mut points = knode_linux::overlay::mount_points_below(&self.0).unwrap_or_default();
        points.reverse();
        for point in points {
            // The run ends with a look at what is still mounted.
            let _ = unmount_all(&point);
        }
    }
}

pub async fn propagation(case: &Case<'_>, propagation: MountPropagation) {
    let pod = case.privileged_pod(true).await;
    let directory = Directory::new(case, &pod);
    let (shared, source) = (directory.make("mnt"), directory.make("source"));
    let point = directory.make("mnt/propagationMnt");
    std::fs::write(Path::new(&source).join("flagFile"), "").unwrap();
    mount(&["--rbind", &shared, &shared]);
    let private = propagation == MountPropagation::PropagationPrivate;
    mount(&[
        if private {
            "--make-rprivate"
        } else {
            "--make-rshared"
        },
        &shared,
    ]);
    let mut volume = bind(Path::new(&shared), &shared);
    volume.set_propagation(propagation);
    let mut config = secured(case.staying().await, |context| context.privileged = true);
    config.mounts = vec![volume.clone()];
    let id = case.run_config(&pod, config).await;
    assert_eq!(case.status(&id).await.mounts, [volume]);

    mount(&["--rbind", &source, &point]);
    let seen = case.prints_inside(&id, &["ls", "-A", &point]).await;
    assert_eq!(seen.is_empty(), private, "{seen:?}");
    let inner = format!("{shared}/containerMntPoint");
    case.prints_inside(&id, &["mkdir", "-p", &inner]).await;
    case.prints_inside(&id, &["sh", "-c", &format!("mount --bind /etc {inner}")])
        .await;
    let reaches_us = std::fs::read_dir(&inner).unwrap().count() > 0;
    assert_eq!(
        reaches_us,
        propagation == MountPropagation::PropagationBidirectional
    );
    case.remove_pods().await;
}

/// A read-only mount with a file system mounted below it.
async fn below_read_only(
    case: &Case<'_>,
    change: impl FnOnce(&mut Mount),
) -> (Directory, String, ContainerConfig) {
    let pod = case.privileged_pod(true).await;
    let directory = Directory::new(case, &pod);
    let inner = directory.make("tmpfs");
    mount(&["-t", "tmpfs", "none", &inner]);
    let mut volume = bind(&directory.0, "/mnt");
    (volume.readonly, volume.selinux_relabel) = (true, true);
    change(&mut volume);
    let mut config = case.staying().await;
    config.mounts = vec![volume];
    (directory, pod, config)
}

pub async fn read_only(case: &Case<'_>, recursive: bool) {
    let (_directory, pod, config) =
        below_read_only(case, |mount| mount.recursive_read_only = recursive).await;
    let id = case.run_config(&pod, config).await;
    if recursive {
        let complaint = case.fails_inside(&id, &["touch", "/mnt/tmpfs/foo"]).await;
        assert!(complaint.contains("Read-only file system"), "{complaint}");
    } else {
        case.prints_inside(&id, &["touch", "/mnt/tmpfs/file"]).await;
    }
    case.remove_pods().await;
}

pub async fn recursive_cannot_be(case: &Case<'_>, readonly: bool, propagation: MountPropagation) {
    let change = |mount: &mut Mount| {
        (mount.readonly, mount.recursive_read_only) = (readonly, true);
        mount.set_propagation(propagation);
    };
    let (_directory, pod, config) = below_read_only(case, change).await;
    case.create(&pod, config).await.unwrap_err();
    case.remove_pods().await;
}
