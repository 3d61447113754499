//! What is a test's own among the traces of a machine on which others work too.

use std::path::{Path, PathBuf};

use knode_api::hash::fnv1a_32;

/// Of the lines of [`knode_testkit::leaks::Traces::differences`] those that can come from knodes with these data
/// directories below `scratch`. Mounts, groups, processes and namespaces are the whole machine's: what others began
/// or ended meanwhile is no trace of ours.
pub(crate) fn own(mut lines: Vec<String>, scratch: &Path, data: &[PathBuf]) -> Vec<String> {
    let groups: Vec<String> = data.iter().map(|data| group(data)).collect();
    let scratch = scratch.display().to_string();
    lines.retain(|line| match line.split_once(' ') {
        Some(("cgroup", rest)) => rest.starts_with("left") && groups.iter().any(|group| rest.contains(group)),
        Some(("mount", rest)) => rest.starts_with("left") && rest.contains(&scratch),
        Some(("process" | "namespace", rest)) => rest.starts_with("left"),
        _ => true,
    });
    lines
}

/// The control group of a knode with this data directory.
pub(crate) fn group(data: &Path) -> String {
    format!("/knode-{:08x}", fnv1a_32(data.as_os_str().as_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_traces_are_no_leak() {
        let data = PathBuf::from("/tmp/a/data");
        let mine = [
            format!("cgroup left behind: /sys/fs/cgroup/cpu{}/kubepods", group(&data)),
            "mount left behind: /tmp/a/data/engine".to_owned(),
            "link left behind: cni0".to_owned(),
            "process left behind: 7 knode".to_owned(),
        ];
        let others = [
            "cgroup left behind: /sys/fs/cgroup/cpu/knode-00000000".to_owned(),
            "mount left behind: /tmp/b/data/engine".to_owned(),
            "mount gone: /tmp/a/data/engine".to_owned(),
            "process gone: 8 knode".to_owned(),
            "namespace gone: lab1".to_owned(),
        ];
        let all = mine.iter().chain(&others).cloned().collect();
        assert_eq!(own(all, Path::new("/tmp/a"), &[data]), mine);
    }
}
