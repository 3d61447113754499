//! The program in the kernel, at a group of this machine's version 2 hierarchy. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};

use super::guard;

/// A group that goes with its value.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Self {
        let top = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let top = top.map(Path::new).into_iter();
        let mut of_2 = top.filter(|top| top.join("cgroup.subtree_control").exists());
        let top = of_2.next().expect("a version 2 hierarchy");
        let group = top.join(format!("knode-{name}-{}", std::process::id()));
        fs::create_dir(&group).expect("making control groups needs root");
        Self(group)
    }

    /// Whether a shell in the group comes to a good end with this.
    fn does(&self, script: &str) -> bool {
        let inside = format!("echo 0 > {}/cgroup.procs && {script}", self.0.display());
        let output = Command::new("sh")
            .args(["-c", &inside])
            .output()
            .expect("a shell");
        output.status.success()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).expect("nobody is left in the group");
    }
}

fn allow(major: i64, minor: i64, access: &str) -> LinuxDeviceCgroup {
    LinuxDeviceCgroupBuilder::default()
        .allow(true)
        .typ(LinuxDeviceType::C)
        .major(major)
        .minor(minor)
        .access(access)
        .build()
        .expect("a rule")
}

#[test]
fn only_what_is_allowed_can_be_opened() {
    let group = Group::new("guard");
    // /dev/kmsg is 1:11, /dev/fuse 10:229, /dev/zero 1:5.
    assert!(group.does(": < /dev/kmsg"), "nothing guards it yet");
    guard(&group.0, [&allow(10, 229, "r")]).expect("the kernel takes the program");
    assert!(
        group.does("head -c 1 /dev/zero && : > /dev/null"),
        "the usual ones"
    );
    assert!(!group.does(": < /dev/kmsg"), "nobody has allowed it");
    assert!(group.does(": < /dev/fuse"), "reading was allowed");
    assert!(!group.does(": > /dev/fuse"), "writing was not");
}

#[test]
fn the_privileged_open_all() {
    let group = Group::new("free");
    let mut all = allow(0, 0, "rwm");
    all.set_typ(Some(LinuxDeviceType::A))
        .set_major(None)
        .set_minor(None);
    guard(&group.0, [&all]).expect("there is nothing to load");
    assert!(group.does(": < /dev/kmsg"));
}
