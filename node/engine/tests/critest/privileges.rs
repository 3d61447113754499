//! Privileges: the root file system, capabilities, hidden and read-only paths, seccomp, no new privileges.

use knode_cri::security_profile::ProfileType;
use knode_cri::*;

use crate::case::Case;
use crate::support::{sandbox_secured, secured};

pub async fn read_only_root(case: &Case<'_>, readonly: bool) {
    let pod = case.pod().await;
    let script = "touch test.go && [ -f test.go ] && echo 'Found'";
    let config = case.container(&["sh", "-c", script]).await;
    let config = secured(config, |context| context.readonly_rootfs = readonly);
    let id = case.run_config(&pod, config).await;
    case.wait_exited(&id).await;
    let wanted = if readonly {
        "stderr F touch: test.go: Read-only file system\n"
    } else {
        "stdout F Found\n"
    };
    case.wait_log(&id, wanted).await;
}

/// Whether the container may change its network.
async fn manages_its_network(case: &Case<'_>, id: &str, may: bool) {
    let answer = case
        .exec(id, &["busybox", "brctl", "addbr", "foobar"])
        .await
        .unwrap();
    assert_eq!(answer.exit_code == 0, may, "{answer:?}");
}

pub async fn privileged(case: &Case<'_>, privileged: bool) {
    let pod = case.privileged_pod(privileged).await;
    let config = secured(case.staying().await, |context| context.privileged = privileged);
    let id = case.run_config(&pod, config).await;
    manages_its_network(case, &id, privileged).await;
}

async fn with_capabilities(case: &Case<'_>, pod: &str, add: &[&str], drop: &[&str]) -> String {
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    let capabilities = Capability {
        add_capabilities: names(add),
        drop_capabilities: names(drop),
        ..Default::default()
    };
    let config = secured(case.staying().await, |context| {
        context.capabilities = Some(capabilities)
    });
    case.run_config(pod, config).await
}

pub async fn an_added_capability(case: &Case<'_>) {
    let pod = case.pod().await;
    let with = with_capabilities(case, &pod, &["NET_ADMIN"], &[]).await;
    manages_its_network(case, &with, true).await;
    let without = case.stays(&pod, |_| ()).await;
    let words = ["busybox", "brctl", "addbr", "barfoo"];
    case.fails_inside(&without, &words).await;
}

pub async fn a_dropped_capability(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = with_capabilities(case, &pod, &[], &["NET_RAW"]).await;
    let answer = case.exec(&id, &["ping", "127.0.0.1"]).await.unwrap();
    let complaint = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert_ne!(answer.exit_code, 0);
    assert!(
        !answer.stdout.is_empty() && complaint.contains("permission denied"),
        "{complaint}"
    );
}

/// The capabilities that it can ever have.
async fn bounds(case: &Case<'_>, id: &str) -> u64 {
    let text = case
        .prints_inside(id, &["grep", "CapBnd", "/proc/self/status"])
        .await;
    u64::from_str_radix(text.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

pub async fn all_capabilities(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = with_capabilities(case, &pod, &["ALL"], &[]).await;
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let ours = ours
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .unwrap();
    assert_eq!(
        bounds(case, &id).await,
        u64::from_str_radix(ours.trim(), 16).unwrap()
    );
}

pub async fn no_capabilities(case: &Case<'_>) {
    let pod = case.pod().await;
    let id = with_capabilities(case, &pod, &[], &["ALL"]).await;
    assert_eq!(bounds(case, &id).await, 0);
}

/// An image with a program that is a file of its own, not a link.
async fn setuid_image(case: &Case<'_>) -> String {
    let image = case.machine.name("nonewprivs:1.3");
    case.pull(&image).await;
    image
}

pub async fn masked_paths(case: &Case<'_>) {
    let pod = case.pod().await;
    let config = case.container_of(&setuid_image(case).await, &["sleep", "1000"]);
    let config = secured(config, |context| {
        context.masked_paths = vec!["/bin/print-as-root".into()]
    });
    let id = case.run_config(&pod, config).await;
    let complaint = case.fails_inside(&id, &["/bin/sh", "-c", "print-as-root"]).await;
    assert_eq!(complaint, "/bin/sh: print-as-root: Permission denied\n");
}

pub async fn readonly_paths(case: &Case<'_>) {
    let pod = case.pod().await;
    let config = secured(case.staying().await, |context| {
        context.readonly_paths = vec!["/tmp".into()]
    });
    let id = case.run_config(&pod, config).await;
    let complaint = case.fails_inside(&id, &["touch", "/tmp/test"]).await;
    assert_eq!(complaint, "touch: /tmp/test: Read-only file system\n");
}

/// A profile that allows everything but these calls.
fn profile(case: &Case<'_>, name: &str, refused: &[&str]) -> Option<SecurityProfile> {
    let path = case.scratch.join(name);
    let text = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": refused, "action": "SCMP_ACT_ERRNO" }],
    });
    std::fs::write(&path, text.to_string()).unwrap();
    Some(SecurityProfile {
        profile_type: ProfileType::Localhost as i32,
        localhost_ref: path.display().to_string(),
    })
}

async fn under(case: &Case<'_>, profile: Option<SecurityProfile>) -> String {
    let config = sandbox_secured(case.sandbox_config(), |context| context.seccomp = profile.clone());
    let pod = case.pod_of(config).await;
    let config = secured(case.staying().await, |context| context.seccomp = profile);
    case.run_config(&pod, config).await
}

pub async fn seccomp(case: &Case<'_>, kind: Option<ProfileType>, mode: &str) {
    let profile = kind.map(|kind| SecurityProfile {
        profile_type: kind as i32,
        ..Default::default()
    });
    let id = under(case, profile).await;
    let text = case
        .prints_inside(&id, &["grep", "Seccomp:", "/proc/self/status"])
        .await;
    assert_eq!(text.split_whitespace().nth(1), Some(mode));
}

pub async fn seccomp_of_a_file(case: &Case<'_>) {
    let id = under(
        case,
        profile(case, "block-chmod.json", &["chmod", "fchmodat", "fchmodat2"]),
    )
    .await;
    let complaint = case.fails_inside(&id, &["chmod", "400", "/"]).await;
    assert!(complaint.contains("Operation not permitted"), "{complaint}");
}

/// Who is what when the host name shall be set.
#[derive(Clone, Copy, PartialEq)]
pub enum Hostname {
    Unconfined,
    Blocked,
    BlockedButPrivileged,
}

pub async fn sets_the_hostname(case: &Case<'_>, how: Hostname) {
    let privileged = how == Hostname::BlockedButPrivileged;
    let pod = case.privileged_pod(privileged).await;
    let seccomp = match how {
        Hostname::Unconfined => Some(SecurityProfile {
            profile_type: ProfileType::Unconfined as i32,
            ..Default::default()
        }),
        _ => profile(case, "block-hostname.json", &["sethostname"]),
    };
    let add_capabilities = if privileged {
        vec![]
    } else {
        vec!["SYS_ADMIN".to_string()]
    };
    let config = secured(case.staying().await, |context| {
        (context.privileged, context.seccomp) = (privileged, seccomp);
        context.capabilities = Some(Capability {
            add_capabilities,
            ..Default::default()
        });
    });
    let id = case.run_config(&pod, config).await;
    let answer = case.exec(&id, &["hostname", "ANewHostName"]).await.unwrap();
    assert_eq!(answer.exit_code == 0, how != Hostname::Blocked, "{answer:?}");
}

pub async fn no_new_privileges(case: &Case<'_>, none: bool) {
    let pod = case.pod().await;
    let words = ["print-as-root", "/proc/self/status"];
    let config = secured(case.container_of(&setuid_image(case).await, &words), |context| {
        context.no_new_privs = none;
        context.run_as_user = Some(Int64Value { value: 1000 });
    });
    let text = case.prints(&pod, config).await;
    let uids = text.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    let effective = uids.split_whitespace().nth(1).unwrap();
    assert_eq!(effective, if none { "1000" } else { "0" });
}
