//! What a container sees of its configuration. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use knode_cri::*;
use support::daemon::Daemon;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn names_addresses_and_files_are_the_pods() {
    let daemon = Daemon::new("podview").await;
    let mut config = daemon.sandbox_config();
    config.hostname = "web-0".into();
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.254.0.10".into()],
        searches: vec!["svc.cluster.local".into()],
        options: vec!["ndots:5".into()],
    });
    let sysctls = [(
        "net.ipv4.ip_local_port_range".to_string(),
        "20000 30000".to_string(),
    )];
    config.linux.as_mut().unwrap().sysctls = sysctls.into();
    let sandbox = daemon.run_sandbox(config).await.unwrap();
    let (one, other) = (
        daemon.run(&sandbox, "sleep 1000").await,
        daemon.run(&sandbox, "sleep 1000").await,
    );
    assert_eq!(
        daemon
            .output(&one, "hostname; cat /etc/hostname; echo $HOSTNAME")
            .await,
        "web-0\nweb-0\nweb-0\n"
    );
    let resolv = daemon.output(&one, "cat /etc/resolv.conf").await;
    assert_eq!(
        resolv,
        "search svc.cluster.local\nnameserver 10.254.0.10\noptions ndots:5\n"
    );
    assert_eq!(
        daemon
            .output(&one, "cat /proc/sys/net/ipv4/ip_local_port_range")
            .await,
        "20000\t30000\n"
    );
    let links = "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts";
    let busybox = "for n in net ipc uts; do ls -l /proc/self/ns/$n | sed 's/.*-> //'; done";
    assert_eq!(
        daemon.output(&one, busybox).await,
        daemon.output(&other, busybox).await,
        "{links}"
    );
    assert_ne!(
        daemon
            .output(&one, "ls -l /proc/self/ns/pid | sed 's/.*-> //'")
            .await,
        {
            daemon
                .output(&other, "ls -l /proc/self/ns/pid | sed 's/.*-> //'")
                .await
        }
    );
    daemon.output(&one, "echo shared > /dev/shm/x").await;
    assert_eq!(daemon.output(&other, "cat /dev/shm/x").await, "shared\n");
    daemon.output(&one, "ip link show lo | grep -q UP").await;
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_environment_directory_and_user() {
    let daemon = Daemon::new("process").await;
    let sandbox = daemon.sandbox().await;
    let mut config = shell("echo args: $0 $*; pwd; echo $A; id; sleep 1000");
    config.args = vec!["zero".into(), "one".into()];
    config.working_dir = "/made/for/this".into();
    config.envs = vec![KeyValue {
        key: "A".into(),
        value: "b=c d".into(),
    }];
    let config = secured(config, |context| {
        context.run_as_user = Some(Int64Value { value: 65534 });
        context.run_as_group = Some(Int64Value { value: 7 });
        context.supplemental_groups = vec![1234];
    });
    let id = daemon.create(&sandbox, config).await.unwrap();
    daemon.start_container(&id).await.unwrap();
    let log = daemon.wait_log(&id, "uid=").await;
    let text: Vec<&str> = log.lines().filter_map(|line| line.split(" F ").nth(1)).collect();
    assert_eq!(text[..3], ["args: zero one", "/made/for/this", "b=c d"]);
    assert!(
        text[3].starts_with("uid=65534(nobody) gid=7") && text[3].contains("1234"),
        "{}",
        text[3]
    );
    let user = daemon.status(&id).await.user.unwrap().linux.unwrap();
    assert_eq!(
        (user.uid, user.gid, user.supplemental_groups),
        (65534, 7, vec![7, 1234])
    );
    let in_exec = daemon.output(&id, "id; pwd; echo $A").await;
    assert!(
        in_exec.contains("uid=65534") && in_exec.ends_with("/made/for/this\nb=c d\n"),
        "{in_exec}"
    );
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_where_and_as_they_were_asked_for() {
    let daemon = Daemon::new("mounts").await;
    let sandbox = daemon.sandbox().await;
    let host = daemon.scratch.join("volume");
    std::fs::create_dir_all(&host).unwrap();
    std::fs::write(host.join("file"), "from the host").unwrap();
    let mount = |container: &str, path: std::path::PathBuf, readonly: bool| Mount {
        container_path: container.into(),
        host_path: path.display().to_string(),
        readonly,
        ..Default::default()
    };
    let mut config = shell("sleep 1000");
    config.mounts = vec![
        mount("/ro", host.clone(), true),
        mount("/rw/deep", host.clone(), false),
        mount("/etc/hosts", host.join("file"), false),
        mount("/made", daemon.scratch.join("not/there"), false),
    ];
    let asked = config.mounts.clone();
    let id = daemon.create(&sandbox, config).await.unwrap();
    daemon.start_container(&id).await.unwrap();
    assert_eq!(
        daemon.output(&id, "cat /ro/file /etc/hosts").await,
        "from the hostfrom the host"
    );
    assert_eq!(daemon.exec(&id, &["touch", "/ro/no"]).await.unwrap().exit_code, 1);
    daemon
        .output(&id, "echo back > /rw/deep/back; touch /made/x")
        .await;
    assert_eq!(std::fs::read_to_string(host.join("back")).unwrap(), "back\n");
    assert!(daemon.scratch.join("not/there/x").exists());
    assert_eq!(daemon.status(&id).await.mounts, asked);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_mounts_come_without_those_of_other_pods() {
    let mut daemon = Daemon::new("secluded").await;
    let other = daemon.sandbox().await;
    let others = daemon.run(&other, "sleep 1000").await;
    let mut config = daemon.sandbox_config();
    config.metadata.as_mut().unwrap().name = "seer".into();
    let own = daemon.run_sandbox(config).await.unwrap();
    let mut seer = shell("sleep 1000");
    seer.mounts = vec![bind(std::path::Path::new("/"), "/host")];
    for daemons in ["first", "second"] {
        seer.metadata.as_mut().unwrap().name = daemons.into();
        let id = daemon.run_config(&own, seer.clone()).await;
        let table = daemon.output(&id, "cat /proc/self/mountinfo").await;
        for namespace in ["net", "ipc", "uts"] {
            assert!(table.contains(&format!("/ns/{own}/{namespace} ")), "{table}");
        }
        assert!(table.contains(&format!("/shm/{own} ")), "{table}");
        let root = format!("/s/{others}/rootfs ");
        assert!(table.contains(&root), "who asks for all files gets them: {table}");
        for kind in ["ns", "shm"] {
            assert!(!table.contains(&format!("/{kind}/{other}")), "{table}");
        }
        daemon.restart().await;
    }
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_mounts_reach_only_those_who_asked() {
    let daemon = Daemon::new("propagation").await;
    let sandbox = daemon.sandbox().await;
    let host = daemon.scratch.join("shared");
    std::fs::create_dir_all(host.join("sub")).unwrap();
    let shell_out = |words: &[&str]| {
        let status = std::process::Command::new(words[0])
            .args(&words[1..])
            .status()
            .unwrap();
        assert!(status.success(), "{words:?}");
    };
    let path = host.display().to_string();
    shell_out(&["mount", "--bind", &path, &path]);
    shell_out(&["mount", "--make-shared", &path]);
    let run = async |propagation: MountPropagation| {
        let mut config = shell("sleep 1000");
        let mut mount = Mount {
            container_path: "/v".into(),
            host_path: path.clone(),
            ..Default::default()
        };
        mount.set_propagation(propagation);
        config.mounts = vec![mount];
        let id = daemon.create(&sandbox, config).await.unwrap();
        daemon.start_container(&id).await.unwrap();
        id
    };
    let private = run(MountPropagation::PropagationPrivate).await;
    let follows = run(MountPropagation::PropagationHostToContainer).await;
    let mut bidirectional = shell("mount -t tmpfs inner /v/up && touch /v/up/here && sleep 1000");
    bidirectional = secured(bidirectional, |context| context.privileged = true);
    let mut mount = Mount {
        container_path: "/v".into(),
        host_path: path.clone(),
        ..Default::default()
    };
    mount.set_propagation(MountPropagation::PropagationBidirectional);
    bidirectional.mounts = vec![mount];
    std::fs::create_dir_all(host.join("up")).unwrap();
    let both = daemon.create(&sandbox, bidirectional).await.unwrap();
    daemon.start_container(&both).await.unwrap();

    shell_out(&[
        "mount",
        "-t",
        "tmpfs",
        "outer",
        &host.join("sub").display().to_string(),
    ]);
    std::fs::write(host.join("sub/mark"), "").unwrap();
    assert_eq!(daemon.output(&private, "ls /v/sub").await, "");
    assert_eq!(daemon.output(&follows, "ls /v/sub").await, "mark\n");
    knode_testkit::wait::wait_until("the container's mount on the host", BOUND, || {
        host.join("up/here").exists()
    });
    daemon.clear().await;
    shell_out(&["umount", "--recursive", &path]);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn privileges_are_only_those_given() {
    let daemon = Daemon::new("privileges").await;
    let sandbox = daemon.sandbox().await;
    let plain = daemon.run(&sandbox, "sleep 1000").await;
    let caps = "grep CapEff /proc/self/status";
    assert_eq!(
        daemon.output(&plain, caps).await.trim(),
        "CapEff:\t00000000a80425fb"
    );
    assert_eq!(
        daemon
            .exec(&plain, &["mount", "-t", "tmpfs", "x", "/tmp"])
            .await
            .unwrap()
            .exit_code,
        1
    );
    assert_eq!(
        daemon.output(&plain, "cat /proc/keys; ls -A /sys/firmware").await,
        ""
    );
    assert_eq!(
        daemon
            .exec(&plain, &["sh", "-c", "echo 1 > /proc/sys/vm/swappiness"])
            .await
            .unwrap()
            .exit_code,
        1
    );

    let dropped = secured(shell("sleep 1000"), |context| {
        let drop_capabilities = vec!["ALL".into()];
        context.capabilities = Some(Capability {
            drop_capabilities,
            ..Default::default()
        });
        context.no_new_privs = true;
        context.readonly_rootfs = true;
        context.seccomp = Some(SecurityProfile::default());
    });
    let dropped = daemon.create(&sandbox, dropped).await.unwrap();
    daemon.start_container(&dropped).await.unwrap();
    let status = daemon
        .output(&dropped, "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/1/status")
        .await;
    assert_eq!(status, "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    let in_exec = daemon
        .output(&dropped, "grep -E 'CapEff|Seccomp:' /proc/self/status")
        .await;
    assert_eq!(in_exec, "CapEff:\t0000000000000000\nSeccomp:\t2\n");
    assert_eq!(
        daemon.exec(&dropped, &["touch", "/x"]).await.unwrap().exit_code,
        1
    );

    let filtered = secured(shell("sleep 1000"), |context| {
        context.seccomp = Some(SecurityProfile::default())
    });
    let filtered = daemon.create(&sandbox, filtered).await.unwrap();
    daemon.start_container(&filtered).await.unwrap();
    assert_eq!(
        daemon.output(&filtered, "grep Seccomp: /proc/1/status").await,
        "Seccomp:\t2\n"
    );
    assert_eq!(
        daemon.output(&filtered, "grep Seccomp: /proc/self/status").await,
        "Seccomp:\t2\n"
    );

    let privileged = secured(shell("sleep 1000"), |context| context.privileged = true);
    let privileged = daemon.create(&sandbox, privileged).await.unwrap();
    daemon.start_container(&privileged).await.unwrap();
    daemon
        .output(&privileged, "mount -t tmpfs x /tmp && test -c /dev/kmsg")
        .await;
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_namespaces_are_the_hosts() {
    let daemon = Daemon::new("hostns").await;
    let mut config = daemon.sandbox_config();
    let options = NamespaceOption {
        network: NamespaceMode::Node as i32,
        pid: NamespaceMode::Node as i32,
        ipc: NamespaceMode::Node as i32,
        ..Default::default()
    };
    let context = LinuxSandboxSecurityContext {
        namespace_options: Some(options.clone()),
        ..Default::default()
    };
    config.linux.as_mut().unwrap().security_context = Some(context);
    let sandbox = daemon.run_sandbox(config).await.unwrap();
    assert!(daemon.attached().is_empty());
    let config = secured(shell("sleep 1000"), |context| {
        context.namespace_options = Some(options)
    });
    let id = daemon.create(&sandbox, config).await.unwrap();
    daemon.start_container(&id).await.unwrap();
    for name in ["net", "pid", "ipc", "uts"] {
        let inside = daemon
            .output(&id, &format!("ls -l /proc/self/ns/{name} | sed 's/.*-> //'"))
            .await;
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_eq!(inside.trim(), outside.display().to_string());
    }
    // Killing the shell must end its child too: no PID namespace does it.
    let before = std::time::Instant::now();
    daemon.stop(&id, 0).await.unwrap();
    assert!(before.elapsed() < BOUND);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_signal_is_ignored_or_blocked() {
    let daemon = Daemon::new("sigpipe").await;
    let sandbox = daemon.sandbox().await;
    let id = daemon
        .run(&sandbox, "grep -E 'SigIgn|SigBlk' /proc/self/status; sleep 1000")
        .await;
    let log = daemon.wait_log(&id, "SigIgn").await;
    // The C library ignores two signals of its own above 31.
    let bits = |name: &str| {
        let text = log.split_once(name).unwrap().1.lines().next().unwrap().trim();
        u64::from_str_radix(text, 16).unwrap() & 0x7fff_ffff
    };
    assert_eq!((bits("SigIgn:"), bits("SigBlk:")), (0, 0), "{log}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_can_share_their_processes() {
    let mut daemon = Daemon::new("sharedpid").await;
    let sandbox = daemon.sandbox().await;
    let shared = |config: ContainerConfig| {
        secured(config, |context| {
            let pid = NamespaceMode::Pod as i32;
            context.namespace_options = Some(NamespaceOption {
                pid,
                ..Default::default()
            });
        })
    };
    let one = daemon
        .create(&sandbox, shared(shell("sleep 4711")))
        .await
        .unwrap();
    daemon.start_container(&one).await.unwrap();
    daemon.restart().await;
    let other = daemon
        .create(&sandbox, shared(shell("sleep 1000")))
        .await
        .unwrap();
    daemon.start_container(&other).await.unwrap();
    let own = daemon.run(&sandbox, "sleep 1000").await;
    assert!(daemon.output(&other, "ps").await.contains("sleep 4711"));
    assert!(!daemon.output(&own, "ps").await.contains("sleep 4711"));
    // The namespace has its own first process: the end of a container does not end the others.
    daemon.stop(&one, 0).await.unwrap();
    assert!(!daemon.output(&other, "ps").await.contains("sleep 4711"));
    // The processes of a pod of the host's are the host's.
    let config = sandbox_secured(daemon.sandbox_config(), |context| {
        context.namespace_options = Some(NamespaceOption {
            pid: NamespaceMode::Node as i32,
            ..Default::default()
        });
    });
    let sandbox = daemon.run_sandbox(config).await.unwrap();
    let id = daemon.run_config(&sandbox, shared(shell("sleep 1000"))).await;
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let seen = daemon.output(&id, "readlink /proc/self/ns/pid").await;
    assert_eq!(seen.trim(), own.display().to_string());
    daemon.end().await;
}
