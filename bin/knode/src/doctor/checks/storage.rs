//! Room on the disks, measured by what makes a node evict its pods.

use crate::doctor::facts::{Disk, Facts};
use crate::doctor::finding::Finding;

/// Upstream's `imagefs.available<15%`, which our engine's file system is measured by.
const EVICTS: u64 = 15;
/// Upstream's `nodefs.inodesFree<5%`.
const EVICTS_INODES: u64 = 5;
/// So many percent above it is worth a word.
const CLOSE: u64 = 5;

pub fn check(facts: &Facts) -> Vec<Finding> {
    facts.disks.iter().map(disk).collect()
}

fn disk(disk: &Disk) -> Finding {
    let check = format!("disk of {}", disk.what);
    let (bytes, inodes) = (disk.bytes.percent(), disk.inodes.percent());
    let found = format!(
        "{}: {bytes}% free ({} MiB), {inodes}% of the inodes",
        disk.path.display(),
        disk.bytes.free >> 20
    );
    let mend = "make room, use another --data-dir, or lower --eviction-hard";
    if bytes < EVICTS || inodes < EVICTS_INODES {
        return Finding::fail(check, format!("{found}: pods are evicted"), mend);
    }
    if bytes < EVICTS + CLOSE || inodes < EVICTS_INODES + CLOSE {
        return Finding::warn(check, format!("{found}: below {EVICTS}% pods are evicted"), mend);
    }
    Finding::ok(check, found)
}
