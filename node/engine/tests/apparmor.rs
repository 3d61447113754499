//! Containers confined by AppArmor, on a kernel that has it: the profile of the runtime's own, and those of the node's.
//! Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::time::Duration;

use knode_cri::security_profile::ProfileType;
use knode_cri::*;
use knode_testkit::machine;
use support::daemon::Daemon;
use support::*;

const CONFINED: &str = "knode-default (enforce)";
const READ: &str = "cat /proc/self/attr/current";
/// Writes where a profile of these tests lets nobody write.
const WRITE: &str = "touch /denied 2>/dev/null && echo written";

fn profile(kind: ProfileType, name: &str) -> Option<SecurityProfile> {
    Some(SecurityProfile {
        profile_type: kind as i32,
        localhost_ref: name.into(),
    })
}

fn with(profile: Option<SecurityProfile>, script: &str) -> ContainerConfig {
    secured(shell(script), |context| context.apparmor = profile)
}

#[allow(deprecated, reason = "kubelets before 1.30 send only this")]
fn with_older(name: &str, script: &str) -> ContainerConfig {
    secured(shell(script), |context| context.apparmor_profile = name.into())
}

/// May mount, for all that others than AppArmor say.
fn mounts(profile: Option<SecurityProfile>) -> ContainerConfig {
    secured(
        shell("mkdir -p /m; mount -t tmpfs x /m 2>&1; echo $?"),
        |context| {
            context.apparmor = profile;
            context.capabilities = Some(Capability {
                add_capabilities: vec!["SYS_ADMIN".into()],
                ..Default::default()
            });
        },
    )
}

/// Has the profiles in this text loaded, or removed.
fn parser(option: &str, text: &str) {
    let directory = std::env::temp_dir();
    let file = directory.join("profiles");
    std::fs::write(&file, text).unwrap();
    knode_testkit::netns::run("apparmor_parser", &[option, "-K", file.to_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run on a kernel with AppArmor by the test below"]
async fn containers_have_the_runtimes_own_profile_or_the_nodes() {
    let daemon = Daemon::new("apparmor").await;
    let pod = daemon.sandbox().await;
    the_runtimes_own(&daemon, &pod).await;
    what_it_denies(&daemon, &pod).await;
    the_nodes(&daemon, &pod).await;
    // What was unloaded is loaded again for the next container.
    parser("-R", "profile knode-default {}");
    assert_eq!(daemon.prints(&pod, shell(READ)).await, CONFINED);
    daemon.end().await;
}

async fn the_runtimes_own(daemon: &Daemon, pod: &str) {
    assert_eq!(daemon.prints(pod, shell(READ)).await, CONFINED);
    let asked = profile(ProfileType::RuntimeDefault, "");
    assert_eq!(daemon.prints(pod, with(asked, READ)).await, CONFINED);
    let older = with_older("runtime/default", READ);
    assert_eq!(daemon.prints(pod, older).await, CONFINED);
    let none = profile(ProfileType::Unconfined, "");
    assert_eq!(daemon.prints(pod, with(none, READ)).await, "unconfined");
    let older = with_older("unconfined", READ);
    assert_eq!(daemon.prints(pod, older).await, "unconfined");
    // Commands in it are confined as it is.
    let id = daemon.run_config(pod, shell("sleep 1000")).await;
    assert_eq!(daemon.output(&id, READ).await.trim(), CONFINED);
    daemon.remove(&id).await.unwrap();
    let unprivileged = daemon.prints(
        pod,
        secured(shell(READ), |context| {
            context.no_new_privs = true;
            context.run_as_user = Some(Int64Value { value: 1000 });
        }),
    );
    assert_eq!(unprivileged.await, CONFINED);
}

async fn what_it_denies(daemon: &Daemon, pod: &str) {
    let told = daemon.prints(pod, mounts(None)).await;
    assert!(told.contains("ermission denied"), "{told}");
    let told = daemon
        .prints(pod, mounts(profile(ProfileType::Unconfined, "")))
        .await;
    assert_eq!(told, "0");
    // Where nothing else hides them.
    let open = secured(
        shell(
            "for f in /proc/sys/kernel/core_pattern /proc/sys/vm/swappiness /proc/sysrq-trigger /sys/kernel/profiling; do (cat $f > /tmp/was; cat /tmp/was > $f) 2>/dev/null && echo $f; done; echo 4096 > /proc/sys/kernel/shmmni && cat /proc/sys/kernel/shmmni; echo 5 > /proc/self/oom_score_adj && echo own",
        ),
        |context| {
            context.masked_paths = vec!["/nowhere".into()];
            context.readonly_paths = vec!["/nowhere".into()];
        },
    );
    assert_eq!(daemon.prints(pod, open).await, "4096\nown");
}

async fn the_nodes(daemon: &Daemon, pod: &str) {
    let strict = || profile(ProfileType::Localhost, "knode-test-strict");
    let error = daemon.create(pod, with(strict(), WRITE)).await.unwrap_err();
    assert!(error.message.contains("it is not loaded"), "{error}");
    // Loaded after the engine's start.
    parser(
        "-r",
        "profile knode-test-strict flags=(attach_disconnected) { file, deny /denied w, }
         profile knode-test-lax flags=(attach_disconnected) { file, }",
    );
    let refused = format!("{WRITE} || echo refused");
    for config in [
        with(strict(), &refused),
        with_older("localhost/knode-test-strict", &refused),
        // The newer field counts.
        secured(with_older("localhost/knode-test-lax", &refused), |context| {
            context.apparmor = strict();
        }),
    ] {
        assert_eq!(daemon.prints(pod, config).await, "refused");
    }
    for config in [
        with(profile(ProfileType::Localhost, "localhost/knode-test-lax"), WRITE),
        with_older("localhost/knode-test-lax", WRITE),
    ] {
        assert_eq!(daemon.prints(pod, config).await, "written");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run on a kernel with AppArmor by the test below"]
async fn privileged_containers_are_confined_by_the_nodes_profiles_only() {
    let daemon = Daemon::new("apparmorpriv").await;
    let pod = daemon.sandbox().await;
    let privileged =
        |profile: Option<SecurityProfile>| secured(with(profile, READ), |context| context.privileged = true);
    assert_eq!(daemon.prints(&pod, privileged(None)).await, "unconfined");
    let own = profile(ProfileType::RuntimeDefault, "");
    assert_eq!(daemon.prints(&pod, privileged(own)).await, "unconfined");
    parser(
        "-r",
        "profile knode-test-own flags=(attach_disconnected) { file, }",
    );
    let named = profile(ProfileType::Localhost, "knode-test-own");
    assert_eq!(
        daemon.prints(&pod, privileged(named)).await,
        "knode-test-own (enforce)"
    );
    daemon.end().await;
}

#[test]
fn a_kernel_with_apparmor_confines_containers() {
    let ended = machine::again(
        Path::new(env!("CARGO_MANIFEST_DIR")),
        "--ignored",
        &[],
        Duration::from_secs(400),
    );
    let console = ended.ok();
    assert!(console.contains("2 passed"), "{console}");
}
