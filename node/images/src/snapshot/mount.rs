//! The overlay of a snapshot.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use knode_linux::overlay::OverlayMount;

use super::{ROOTFS, UPPER, WORK};
use crate::durable;
use crate::error::{IoContext, Result};
use crate::store::{Layout, SnapshotRecord};

/// Where, in a snapshot's directory, short names of its layers are.
const SHORT: &str = "k";

/// Mounts a snapshot over `lower`, the visible layers, the topmost first. All its files have the SELinux `context`.
pub(super) fn mount(
    layout: &Layout,
    record: &SnapshotRecord,
    lower: &[u32],
    context: Option<&str>,
) -> Result<()> {
    let dir = layout.snapshot_dir(&record.key);
    let target = dir.join(ROOTFS);
    let names = lower.iter().map(|number| PathBuf::from(format!("l/{number}")));
    let mut plain = plan(
        layout.root(),
        &format!("s/{}", record.key),
        names.collect(),
        record.read_only,
        &target,
    );
    plain.context = context.map(str::to_owned);
    let mount = match plain.options() {
        // More layers, with longer names, than the one page that the kernel takes.
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            let names = shorten(&dir, lower)?;
            let short = plan(&dir, ".", names, record.read_only, &target);
            OverlayMount {
                context: plain.context,
                ..short
            }
        }
        _ => plain,
    };
    mount.mount().at("mount", &target)
}

/// The mount of a snapshot that lies in `own`; that and `lower` are relative to `base`.
fn plan(base: &Path, own: &str, mut lower: Vec<PathBuf>, read_only: bool, target: &Path) -> OverlayMount {
    let own = |name: &str| Path::new(own).join(name);
    if lower.is_empty() && !read_only {
        lower.push("empty".into());
    }
    // Without a writable layer the kernel wants two others: these directories have nothing in them.
    for name in [UPPER, WORK] {
        if read_only && lower.len() < 2 {
            lower.push(own(name));
        }
    }
    OverlayMount {
        base: base.to_owned(),
        lower,
        upper: (!read_only).then(|| (own(UPPER), own(WORK))),
        context: None,
        target: target.to_owned(),
    }
}

/// Gives the layers names of four letters at most, as links in the snapshot's own directory.
fn shorten(dir: &Path, lower: &[u32]) -> Result<Vec<PathBuf>> {
    let short = dir.join(SHORT);
    durable::remove(&short)?;
    fs::create_dir(&short).at("make", &short)?;
    let mut names = Vec::with_capacity(lower.len());
    for (index, number) in lower.iter().enumerate() {
        let name = PathBuf::from(SHORT).join(format!("{index:x}"));
        let link = dir.join(&name);
        symlink(format!("../../../l/{number}"), &link).at("make", &link)?;
        names.push(name);
    }
    Ok(names)
}
