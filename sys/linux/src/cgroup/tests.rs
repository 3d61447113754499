use super::*;

#[test]
fn keys_match_whole_words_only() {
    let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
    assert_eq!(keyed(text, "oom_kill"), Some(3));
    assert_eq!(keyed(text, "oom"), None);
}

#[test]
fn a_missing_tree_is_refused() {
    let error = Cgroups::detect(Path::new("/proc/self/fdinfo")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

/// Needs root: makes, fills, reads, kills and removes a real group.
#[test]
fn a_group_lives_and_dies() {
    let cgroups = Cgroups::detect(Path::new(DEFAULT_ROOT)).unwrap();
    let name = format!("/knode-linux-test-{}", std::process::id());
    let group = Path::new(&name);
    let inner = group.join("inner");
    cgroups.create(&inner).expect("making control groups needs root");
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    cgroups
        .write("memory", &inner, "cgroup.procs", &child.id().to_string())
        .unwrap();
    assert_eq!(cgroups.processes(group).unwrap(), [child.id() as i32]);
    assert_eq!(cgroups.oom_kills(&inner).unwrap(), 0);
    let usage = cgroups.usage(group).unwrap();
    assert!(usage.memory.limit.is_none(), "{usage:?}");
    assert!(
        cgroups.remove(group).is_err(),
        "a group with a process must not go"
    );

    cgroups.kill(group).unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    cgroups.remove(group).unwrap();
    assert!(!cgroups.exists(group).unwrap());
    cgroups.remove(group).expect("removing twice is no error");
    assert!(cgroups.processes(group).unwrap().is_empty());
}

#[test]
fn a_process_finds_its_own_group() {
    let hybrid = "9:name=systemd:/a\n4:memory:/knode/c1\n2:cpu,cpuacct:/b\n0::/unified\n";
    assert_eq!(own_group(hybrid, Version::V1), Some("/knode/c1"));
    assert_eq!(
        own_group("0::/system.slice/knode.service\n", Version::V2),
        Some("/system.slice/knode.service")
    );
    assert_eq!(own_group("1:cpu:/\n", Version::V1), None);
}

#[test]
fn moving_to_where_one_is_changes_nothing() {
    let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref()).unwrap();
    let before = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    cgroups.stir().unwrap();
    assert_eq!(std::fs::read_to_string("/proc/self/cgroup").unwrap(), before);
}

#[test]
fn shares_become_weights() {
    assert_eq!(
        [0, 2, 1024, 262_144, u64::MAX].map(cpu_weight),
        [1, 1, 39, 10_000, 10_000]
    );
}

#[test]
fn what_a_group_does_not_hand_down_yet_is_found() {
    let missing: Vec<&str> = tree::missing("cpuset cpu io memory pids\n", "cpu memory\n").collect();
    assert_eq!(missing, ["cpuset", "io", "pids"]);
}

#[test]
fn a_group_without_the_controller_is_told_as_missing() {
    let cgroups = Cgroups::detect(DEFAULT_ROOT.as_ref()).unwrap();
    let nowhere = Path::new("/");
    let error = cgroups.write("memory", nowhere, "none.such", "1").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn the_default_of_shares_is_the_default_weight_of_containers() {
    let shares = [0, 2, 3, 512, 1024, 262_143, 262_144, u64::MAX];
    assert_eq!(
        shares.map(container_weight),
        [1, 1, 2, 59, 100, 10_000, 10_000, 10_000]
    );
}
