//! What a container sees of its configuration. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use knode_cri::*;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn names_addresses_and_files_are_the_pods() {
    let fixture = Fixture::new("podview").await;
    let mut config = fixture.sandbox_config();
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
    let sandbox = fixture.sandbox_with(config).await.unwrap();
    let (one, other) = (
        fixture.run(&sandbox, "sleep 1000").await,
        fixture.run(&sandbox, "sleep 1000").await,
    );
    assert_eq!(
        fixture
            .output(&one, "hostname; cat /etc/hostname; echo $HOSTNAME")
            .await,
        "web-0\nweb-0\nweb-0\n"
    );
    let resolv = fixture.output(&one, "cat /etc/resolv.conf").await;
    assert_eq!(
        resolv,
        "search svc.cluster.local\nnameserver 10.254.0.10\noptions ndots:5\n"
    );
    assert_eq!(
        fixture
            .output(&one, "cat /proc/sys/net/ipv4/ip_local_port_range")
            .await,
        "20000\t30000\n"
    );
    let links = "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts";
    let busybox = "for n in net ipc uts; do ls -l /proc/self/ns/$n | sed 's/.*-> //'; done";
    assert_eq!(
        fixture.output(&one, busybox).await,
        fixture.output(&other, busybox).await,
        "{links}"
    );
    assert_ne!(
        fixture
            .output(&one, "ls -l /proc/self/ns/pid | sed 's/.*-> //'")
            .await,
        {
            fixture
                .output(&other, "ls -l /proc/self/ns/pid | sed 's/.*-> //'")
                .await
        }
    );
    fixture.output(&one, "echo shared > /dev/shm/x").await;
    assert_eq!(fixture.output(&other, "cat /dev/shm/x").await, "shared\n");
    fixture.output(&one, "ip link show lo | grep -q UP").await;
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_environment_directory_and_user() {
    let fixture = Fixture::new("process").await;
    let sandbox = fixture.sandbox().await;
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
    let id = fixture.create(&sandbox, config).await.unwrap();
    fixture.start(&id).await.unwrap();
    let log = fixture.wait_log(&id, "uid=").await;
    let text: Vec<&str> = log.lines().filter_map(|line| line.split(" F ").nth(1)).collect();
    assert_eq!(text[..3], ["args: zero one", "/made/for/this", "b=c d"]);
    assert!(
        text[3].starts_with("uid=65534(nobody) gid=7") && text[3].contains("1234"),
        "{}",
        text[3]
    );
    let user = fixture.status(&id).await.user.unwrap().linux.unwrap();
    assert_eq!(
        (user.uid, user.gid, user.supplemental_groups),
        (65534, 7, vec![7, 1234])
    );
    let in_exec = fixture.output(&id, "id; pwd; echo $A").await;
    assert!(
        in_exec.contains("uid=65534") && in_exec.ends_with("/made/for/this\nb=c d\n"),
        "{in_exec}"
    );
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_where_and_as_they_were_asked_for() {
    let fixture = Fixture::new("mounts").await;
    let sandbox = fixture.sandbox().await;
    let host = fixture.scratch.join("volume");
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
        mount("/made", fixture.scratch.join("not/there"), false),
    ];
    let asked = config.mounts.clone();
    let id = fixture.create(&sandbox, config).await.unwrap();
    fixture.start(&id).await.unwrap();
    assert_eq!(
        fixture.output(&id, "cat /ro/file /etc/hosts").await,
        "from the hostfrom the host"
    );
    assert_eq!(
        fixture.exec(&id, &["touch", "/ro/no"]).await.unwrap().exit_code,
        1
    );
    fixture
        .output(&id, "echo back > /rw/deep/back; touch /made/x")
        .await;
    assert_eq!(std::fs::read_to_string(host.join("back")).unwrap(), "back\n");
    assert!(fixture.scratch.join("not/there/x").exists());
    assert_eq!(fixture.status(&id).await.mounts, asked);
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_mounts_reach_only_those_who_asked() {
    let fixture = Fixture::new("propagation").await;
    let sandbox = fixture.sandbox().await;
    let host = fixture.scratch.join("shared");
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
        let id = fixture.create(&sandbox, config).await.unwrap();
        fixture.start(&id).await.unwrap();
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
    let both = fixture.create(&sandbox, bidirectional).await.unwrap();
    fixture.start(&both).await.unwrap();

    shell_out(&[
        "mount",
        "-t",
        "tmpfs",
        "outer",
        &host.join("sub").display().to_string(),
    ]);
    std::fs::write(host.join("sub/mark"), "").unwrap();
    assert_eq!(fixture.output(&private, "ls /v/sub").await, "");
    assert_eq!(fixture.output(&follows, "ls /v/sub").await, "mark\n");
    knode_testkit::wait::wait_until("the container's mount on the host", BOUND, || {
        host.join("up/here").exists()
    });
    fixture.end_leaving_mounts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn privileges_are_only_those_given() {
    let fixture = Fixture::new("privileges").await;
    let sandbox = fixture.sandbox().await;
    let plain = fixture.run(&sandbox, "sleep 1000").await;
    let caps = "grep CapEff /proc/self/status";
    assert_eq!(
        fixture.output(&plain, caps).await.trim(),
        "CapEff:\t00000000a80425fb"
    );
    assert_eq!(
        fixture
            .exec(&plain, &["mount", "-t", "tmpfs", "x", "/tmp"])
            .await
            .unwrap()
            .exit_code,
        1
    );
    assert_eq!(
        fixture
            .output(&plain, "cat /proc/keys; ls -A /sys/firmware")
            .await,
        ""
    );
    assert_eq!(
        fixture
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
    let dropped = fixture.create(&sandbox, dropped).await.unwrap();
    fixture.start(&dropped).await.unwrap();
    let status = fixture
        .output(&dropped, "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/1/status")
        .await;
    assert_eq!(status, "CapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    let in_exec = fixture
        .output(&dropped, "grep -E 'CapEff|Seccomp:' /proc/self/status")
        .await;
    assert_eq!(in_exec, "CapEff:\t0000000000000000\nSeccomp:\t2\n");
    assert_eq!(
        fixture.exec(&dropped, &["touch", "/x"]).await.unwrap().exit_code,
        1
    );

    let filtered = secured(shell("sleep 1000"), |context| {
        context.seccomp = Some(SecurityProfile::default())
    });
    let filtered = fixture.create(&sandbox, filtered).await.unwrap();
    fixture.start(&filtered).await.unwrap();
    assert_eq!(
        fixture.output(&filtered, "grep Seccomp: /proc/1/status").await,
        "Seccomp:\t2\n"
    );
    assert_eq!(
        fixture.output(&filtered, "grep Seccomp: /proc/self/status").await,
        "Seccomp:\t2\n"
    );

    let privileged = secured(shell("sleep 1000"), |context| context.privileged = true);
    let privileged = fixture.create(&sandbox, privileged).await.unwrap();
    fixture.start(&privileged).await.unwrap();
    fixture
        .output(&privileged, "mount -t tmpfs x /tmp && test -c /dev/kmsg")
        .await;
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn host_namespaces_are_the_hosts() {
    let fixture = Fixture::new("hostns").await;
    let mut config = fixture.sandbox_config();
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
    let sandbox = fixture.sandbox_with(config).await.unwrap();
    assert!(fixture.network.attached.lock().unwrap().is_empty());
    let config = secured(shell("sleep 1000"), |context| {
        context.namespace_options = Some(options)
    });
    let id = fixture.create(&sandbox, config).await.unwrap();
    fixture.start(&id).await.unwrap();
    for name in ["net", "pid", "ipc", "uts"] {
        let inside = fixture
            .output(&id, &format!("ls -l /proc/self/ns/{name} | sed 's/.*-> //'"))
            .await;
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_eq!(inside.trim(), outside.display().to_string());
    }
    // Killing the shell must end its child too: no PID namespace does it.
    let before = std::time::Instant::now();
    fixture.stop(&id, 0).await;
    assert!(before.elapsed() < BOUND);
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_signal_is_ignored_or_blocked() {
    let fixture = Fixture::new("sigpipe").await;
    let sandbox = fixture.sandbox().await;
    let id = fixture
        .run(&sandbox, "grep -E 'SigIgn|SigBlk' /proc/self/status; sleep 1000")
        .await;
    let log = fixture.wait_log(&id, "SigIgn").await;
    // The C library ignores two signals of its own above 31.
    let bits = |name: &str| {
        let text = log.split_once(name).unwrap().1.lines().next().unwrap().trim();
        u64::from_str_radix(text, 16).unwrap() & 0x7fff_ffff
    };
    assert_eq!((bits("SigIgn:"), bits("SigBlk:")), (0, 0), "{log}");
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_can_share_their_processes() {
    let mut fixture = Fixture::new("sharedpid").await;
    let sandbox = fixture.sandbox().await;
    let shared = |config: ContainerConfig| {
        secured(config, |context| {
            let pid = NamespaceMode::Pod as i32;
            context.namespace_options = Some(NamespaceOption {
                pid,
                ..Default::default()
            });
        })
    };
    let one = fixture
        .create(&sandbox, shared(shell("sleep 4711")))
        .await
        .unwrap();
    fixture.start(&one).await.unwrap();
    fixture.reopen().await;
    let other = fixture
        .create(&sandbox, shared(shell("sleep 1000")))
        .await
        .unwrap();
    fixture.start(&other).await.unwrap();
    let own = fixture.run(&sandbox, "sleep 1000").await;
    assert!(fixture.output(&other, "ps").await.contains("sleep 4711"));
    assert!(!fixture.output(&own, "ps").await.contains("sleep 4711"));
    // The namespace has its own first process: the end of a container does not end the others.
    fixture.stop(&one, 0).await;
    assert!(!fixture.output(&other, "ps").await.contains("sleep 4711"));
    fixture.end().await;
}
