//! Containers and their files labelled for SELinux, on a kernel that enforces a policy. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use knode_cri::*;
use knode_linux::xattr;
use knode_testkit::{machine, netns};
use support::daemon::Daemon;
use support::*;

const READ: &str = r"tr -d '\0' < /proc/self/attr/current; echo";
const POLICY: &str = include_str!("data/selinux.cil");
const LAYERS: &str = "system_u:object_r:container_ro_file_t:s0";
const KERNEL: &str = "/sys/fs/selinux";

/// Gives the kernel the policy, and the node what a policy says of containers.
fn enforce() {
    let directory = std::env::temp_dir();
    let (text, made) = (directory.join("policy.cil"), directory.join("policy"));
    let names = (0..1024).map(|number| format!("c{number}"));
    let categories: String = names.clone().map(|name| format!("(category {name})\n")).collect();
    let order: Vec<String> = names.collect();
    let all = format!("{POLICY}\n{categories}(categoryorder ({}))\n", order.join(" "));
    fs::write(&text, all).unwrap();
    let words = ["-M", "true", "-c", "33", "-f", "/dev/null", "-o"];
    let files = [made.to_str().unwrap(), text.to_str().unwrap()];
    netns::run("secilc", &[&words[..], &files[..]].concat());
    netns::run("mount", &["-t", "selinuxfs", "selinuxfs", KERNEL]);
    fs::write(format!("{KERNEL}/load"), fs::read(made).unwrap()).unwrap();
    fs::write(format!("{KERNEL}/enforce"), "1").unwrap();
    let policy = Path::new("/etc/selinux/test/contexts");
    fs::create_dir_all(policy).unwrap();
    fs::write(
        "/etc/selinux/config",
        "# of a test\nSELINUX=enforcing\nSELINUXTYPE=test\n",
    )
    .unwrap();
    fs::write(
        policy.join("lxc_contexts"),
        "process = \"system_u:system_r:container_t:s0\"\nfile = \"system_u:object_r:container_file_t:s0\"\n",
    )
    .unwrap();
}

fn options(kind: &str, level: &str) -> Option<SeLinuxOption> {
    Some(SeLinuxOption {
        r#type: kind.into(),
        level: level.into(),
        ..Default::default()
    })
}

fn labelled(kind: &str, level: &str, script: &str) -> ContainerConfig {
    secured(shell(script), |context| {
        context.selinux_options = options(kind, level)
    })
}

/// The label of a path as a process of the container sees it.
async fn label(daemon: &Daemon, id: &str, path: &str) -> String {
    let pid = daemon.info(id).await["pid"].to_string();
    let path = format!("/proc/{pid}/root{path}");
    let label = xattr::get(Path::new(&path), "security.selinux".as_ref());
    let label = label.unwrap_or_else(|error| panic!("{path}: {error}")).unwrap();
    String::from_utf8(label)
        .unwrap()
        .trim_end_matches('\0')
        .to_owned()
}

fn process(level: &str) -> String {
    format!("system_u:system_r:container_t:{level}")
}

fn file(level: &str) -> String {
    format!("system_u:object_r:container_file_t:{level}")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run on a kernel with SELinux by the test below"]
async fn containers_and_their_files_are_labelled() {
    enforce();
    let mut daemon = Daemon::labelling("selinux").await;
    // As a policy does with the place of images.
    let images = daemon.scratch.join("images");
    netns::run("chcon", &["-R", "-h", LAYERS, images.to_str().unwrap()]);
    pods_have_levels_of_their_own(&mut daemon).await;
    what_a_container_asks_for(&daemon).await;
    mounts_are_relabelled(&daemon).await;
    by_runc(&daemon).await;
    daemon.end().await;
}

async fn pods_have_levels_of_their_own(daemon: &mut Daemon) {
    let (one, other) = (daemon.sandbox().await, daemon.sandbox().await);
    let seen = daemon.prints(&one, shell(READ)).await;
    let level = seen
        .strip_prefix("system_u:system_r:container_t:")
        .unwrap()
        .to_owned();
    assert!(level.starts_with("s0:c") && level.contains(','), "{level}");
    assert_eq!(
        daemon.prints(&one, shell(READ)).await,
        seen,
        "all of a pod are alike"
    );
    assert_ne!(daemon.prints(&other, shell(READ)).await, seen);
    let id = daemon.run_config(&one, shell("echo x > /made; sleep 1000")).await;
    assert_eq!(daemon.output(&id, READ).await.trim(), seen, "commands in it too");
    for path in [
        "/",
        "/bin/sh",
        "/made",
        "/dev",
        "/dev/null",
        "/dev/shm",
        "/dev/pts",
        "/dev/mqueue",
        "/etc/hosts",
    ] {
        assert_eq!(label(daemon, &id, path).await, file(&level), "{path}");
    }
    daemon
        .output(
            &id,
            "echo y > /dev/shm/f && cat /etc/hosts /etc/resolv.conf /proc/uptime > /dev/null",
        )
        .await;
    daemon.restart().await;
    assert_eq!(daemon.output(&id, READ).await.trim(), seen);
    assert_eq!(daemon.prints(&one, shell(READ)).await, seen);
    let unprivileged = secured(shell(READ), |context| {
        context.no_new_privs = true;
        context.run_as_user = Some(Int64Value { value: 1000 });
    });
    assert_eq!(daemon.prints(&one, unprivileged).await, seen);
}

async fn what_a_container_asks_for(daemon: &Daemon) {
    let config = sandbox_secured(daemon.sandbox_config(), |context| {
        context.selinux_options = options("", "s0:c5,c6")
    });
    let pod = daemon.run_sandbox(config).await.unwrap();
    assert_eq!(daemon.prints(&pod, shell(READ)).await, process("s0:c5,c6"));
    let own = daemon.prints(&pod, labelled("web_t", "s0:c7", READ)).await;
    assert_eq!(own, "system_u:system_r:web_t:s0:c7");
    // What the policy denies this level, and lets the machine itself do.
    let read = "cat /proc/1/environ > /dev/null && echo read";
    assert_eq!(daemon.prints(&pod, labelled("", "s0:c5,c6", read)).await, "read");
    let privileged = secured(shell(READ), |context| context.privileged = true);
    let seen = daemon.prints(&pod, privileged).await;
    assert!(seen.starts_with("system_u:system_r:kernel_t:"), "{seen}");
    let error = daemon.create(&pod, labelled("", "top", READ)).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
    assert!(error.message.contains("\"top\" is none"), "{error}");
    let unknown = daemon
        .create(&pod, labelled("no_such_t", "", READ))
        .await
        .unwrap();
    let error = daemon.start_container(&unknown).await.unwrap_err();
    assert!(
        error.message.contains("no_such_t") && error.message.contains("invalid argument"),
        "{error}"
    );
    let config = sandbox_secured(daemon.sandbox_config(), |context| {
        context.selinux_options = options("", "x")
    });
    let error = daemon.run_sandbox(config).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
}

async fn mounts_are_relabelled(daemon: &Daemon) {
    let directory = daemon.scratch.join("shared");
    fs::create_dir_all(directory.join("below")).unwrap();
    fs::write(directory.join("below/f"), "content").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.join("link")).unwrap();
    let with = |relabel: bool| {
        let mut config = shell("cat /m/below/f 2>&1 || true");
        config.mounts = vec![Mount {
            selinux_relabel: relabel,
            ..bind(&directory, "/m")
        }];
        config
    };
    let (one, other) = (daemon.sandbox().await, daemon.sandbox().await);
    let denied = daemon.prints(&one, with(false)).await;
    assert!(denied.contains("Permission denied"), "{denied}");
    assert_eq!(daemon.prints(&one, with(true)).await, "content");
    let passwd = xattr::get(Path::new("/etc/passwd"), "security.selinux".as_ref())
        .unwrap()
        .unwrap();
    assert!(
        !String::from_utf8(passwd).unwrap().contains("container"),
        "links are not followed"
    );
    let denied = daemon.prints(&other, with(false)).await;
    assert!(denied.contains("Permission denied"), "another pod's: {denied}");
    assert_eq!(daemon.prints(&other, with(true)).await, "content");
    let mut config = shell("true");
    config.mounts = vec![Mount {
        selinux_relabel: true,
        ..bind(Path::new("/usr"), "/m")
    }];
    let error = daemon.create(&other, config).await.unwrap_err();
    assert!(
        error.message.contains("relabelling of /usr is not allowed"),
        "{error}"
    );
}

/// A program that labels what it mounts itself.
async fn by_runc(daemon: &Daemon) {
    let config = sandbox_secured(daemon.sandbox_config(), |context| {
        context.selinux_options = options("", "s0:c8,c9")
    });
    let request = RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: "runc".into(),
    };
    let pod = daemon
        .cri()
        .run_pod_sandbox(request)
        .await
        .unwrap()
        .pod_sandbox_id;
    assert_eq!(daemon.prints(&pod, shell(READ)).await, process("s0:c8,c9"));
}

/// Without being told to, the engine labels nothing, as containerd.
#[tokio::test(flavor = "multi_thread")]
async fn labels_mean_nothing_where_they_are_not_wanted() {
    let daemon = Daemon::new("unlabelled").await;
    let pod = daemon.sandbox().await;
    let id = daemon
        .run_config(&pod, labelled("no_such_t", "top", "sleep 1000"))
        .await;
    let info = daemon.info(&id).await;
    assert_eq!(
        info["runtimeSpec"]["process"]["selinuxLabel"],
        serde_json::Value::Null
    );
    daemon.end().await;
}

#[test]
fn a_kernel_with_selinux_keeps_containers_apart() {
    let ended = machine::again_by(
        "security=selinux selinux=1 enforcing=0",
        Path::new(env!("CARGO_MANIFEST_DIR")),
        "--ignored",
        &[],
        Duration::from_secs(400),
    );
    let console = ended.ok();
    assert!(console.contains("1 passed"), "{console}");
}
