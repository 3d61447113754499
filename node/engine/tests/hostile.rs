//! Requests that no kubelet sends: none ends the daemon, none leaves anything. Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;

use knode_cri::*;
use support::daemon::Daemon;
use support::*;

const ROUNDS: usize = 120;

/// Numbers that look random and are the same in every run (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn text(&mut self) -> String {
        match self.roll(12) {
            0 => String::new(),
            1 => "..".into(),
            2 => "../../../../etc/passwd".into(),
            3 => "a\0b".into(),
            4 => "x".repeat(70_000),
            5 => "\u{1f980}\u{202e}\n\t\u{7f}".into(),
            6 => "/".into(),
            7 => "a=b=c".into(),
            8 => "%n%s{}$(reboot)`id`".into(),
            9 => "-1".into(),
            10 => "name".into(),
            _ => format!("n{}", self.roll(1_000_000)),
        }
    }

    fn number(&mut self) -> i64 {
        [0, 1, -1, 2, 100_000, i64::MAX, i64::MIN, 65_536, -65_536][self.roll(9)]
    }

    fn small(&mut self) -> i32 {
        [0, 1, -1, 80, 65_535, 65_536, i32::MAX, i32::MIN, 7][self.roll(9)]
    }

    fn list(&mut self) -> Vec<String> {
        let length = if self.one_in(20) { 5_000 } else { self.roll(4) };
        (0..length)
            .map(|_| if length > 100 { "x".into() } else { self.text() })
            .collect()
    }

    fn map(&mut self) -> HashMap<String, String> {
        (0..self.roll(4)).map(|_| (self.text(), self.text())).collect()
    }

    fn mappings(&mut self) -> Vec<IdMapping> {
        let number = |dice: &mut Self| [0, 1, 1000, 65_536, u32::MAX][dice.roll(5)];
        (0..self.roll(3))
            .map(|_| IdMapping {
                container_id: number(self),
                host_id: number(self),
                length: number(self),
            })
            .collect()
    }

    fn namespaces(&mut self) -> NamespaceOption {
        NamespaceOption {
            network: [0, 0, 2, 9][self.roll(4)],
            pid: [0, 1, 1, 2, 3, 9][self.roll(6)],
            ipc: [0, 0, 2, -4][self.roll(4)],
            target_id: self.text(),
            userns_options: self.one_in(3).then(|| UserNamespace {
                mode: [0, 1, 2, 3, 77][self.roll(5)],
                uids: self.mappings(),
                gids: self.mappings(),
            }),
        }
    }

    fn resources(&mut self) -> LinuxContainerResources {
        LinuxContainerResources {
            cpu_period: self.number(),
            cpu_quota: self.number(),
            cpu_shares: self.number(),
            memory_limit_in_bytes: self.number(),
            memory_swap_limit_in_bytes: self.number(),
            oom_score_adj: self.number(),
            cpuset_cpus: self.text(),
            cpuset_mems: self.text(),
            hugepage_limits: vec![HugepageLimit {
                page_size: self.text(),
                limit: u64::MAX,
            }],
            unified: self.map(),
        }
    }

    /// Below the test's own directory, so that nothing else of the machine is touched.
    fn host_path(&mut self, daemon: &Daemon) -> String {
        match self.roll(6) {
            0 => self.text().replace('/', "x"),
            1 => "/dev/null".into(),
            2 => "/proc/self/root".into(),
            3 => format!("{}/{}", daemon.scratch.path().display(), "y/".repeat(3000)),
            _ => daemon
                .scratch
                .join(format!("volumes/{}", self.roll(9)))
                .display()
                .to_string(),
        }
    }

    fn sandbox(&mut self, daemon: &Daemon) -> PodSandboxConfig {
        let mut config = daemon.sandbox_config();
        if self.one_in(4) {
            let texts = [self.text(), self.text(), self.text()];
            let [name, namespace, uid] = texts;
            config.metadata = (!self.one_in(4)).then_some(PodSandboxMetadata {
                name,
                namespace,
                uid,
                attempt: 7,
            });
        }
        if self.one_in(3) {
            config.hostname = self.text();
        }
        if self.one_in(4) {
            config.log_directory = format!("{}/../{}", config.log_directory, self.text().replace('/', "x"));
        }
        config.labels = self.map();
        config.annotations = self.map();
        config.dns_config = self.one_in(3).then(|| DnsConfig {
            servers: self.list(),
            searches: self.list(),
            options: self.list(),
        });
        config.port_mappings = (0..self.roll(3))
            .map(|_| PortMapping {
                protocol: self.small(),
                container_port: self.small(),
                host_port: self.small(),
                host_ip: self.text(),
            })
            .collect();
        let linux = config.linux.get_or_insert_default();
        if self.one_in(4) {
            linux.cgroup_parent = format!("{}/{}", linux.cgroup_parent, self.text());
        }
        if self.one_in(4) {
            linux.sysctls = self.map();
        }
        linux.security_context = self.one_in(2).then(|| LinuxSandboxSecurityContext {
            namespace_options: Some(self.namespaces()),
            supplemental_groups: vec![self.number()],
            ..Default::default()
        });
        linux.resources = self.one_in(2).then(|| self.resources());
        config
    }

    /// Mostly none, sometimes up to `most`.
    fn seldom(&mut self, most: usize) -> usize {
        if self.one_in(4) { self.roll(most + 1) } else { 0 }
    }

    fn container(&mut self, daemon: &Daemon) -> ContainerConfig {
        let mut config = command(&["true"]);
        if self.one_in(4) {
            config.metadata = self.one_in(2).then(|| ContainerMetadata {
                name: self.text(),
                attempt: u32::MAX,
            });
        }
        if self.one_in(6) {
            config.image = self.one_in(2).then(|| ImageSpec {
                image: self.text(),
                ..Default::default()
            });
        }
        if self.one_in(4) {
            config.args = self.list();
        }
        if self.one_in(4) {
            config.working_dir = self.text();
        }
        if self.one_in(4) {
            config.log_path = self.text();
        }
        config.envs = (0..self.seldom(3))
            .map(|_| KeyValue {
                key: self.text(),
                value: self.text(),
            })
            .collect();
        config.mounts = (0..self.seldom(2))
            .map(|_| Mount {
                container_path: self.text(),
                host_path: self.host_path(daemon),
                readonly: self.one_in(2),
                recursive_read_only: self.one_in(3),
                propagation: [0, 0, 1, 55][self.roll(4)],
                uid_mappings: self.mappings(),
                gid_mappings: self.mappings(),
                image_sub_path: self.text(),
                ..Default::default()
            })
            .collect();
        config.devices = (0..self.seldom(1))
            .map(|_| Device {
                container_path: self.text(),
                host_path: ["/dev/null".into(), self.text()][self.roll(2)].clone(),
                permissions: self.text(),
            })
            .collect();
        config.cdi_devices = (0..self.seldom(1))
            .map(|_| CdiDevice { name: self.text() })
            .collect();
        config.stop_signal = if self.one_in(3) { self.small() } else { 0 };
        (config.tty, config.stdin, config.stdin_once) = (self.one_in(4), self.one_in(3), self.one_in(3));
        let resources = self.one_in(4).then(|| self.resources());
        let context = LinuxContainerSecurityContext {
            capabilities: self.one_in(6).then(|| Capability {
                add_capabilities: self.list(),
                drop_capabilities: self.list(),
                add_ambient_capabilities: self.list(),
            }),
            namespace_options: self.one_in(4).then(|| self.namespaces()),
            run_as_user: self.one_in(5).then(|| Int64Value { value: self.number() }),
            run_as_group: self.one_in(9).then(|| Int64Value { value: self.number() }),
            run_as_username: if self.one_in(6) {
                self.text()
            } else {
                String::new()
            },
            readonly_rootfs: self.one_in(3),
            supplemental_groups: if self.one_in(4) {
                vec![self.number()]
            } else {
                vec![]
            },
            no_new_privs: self.one_in(2),
            masked_paths: if self.one_in(5) { self.list() } else { vec![] },
            readonly_paths: if self.one_in(5) { self.list() } else { vec![] },
            seccomp: self.one_in(6).then(|| SecurityProfile {
                profile_type: self.small(),
                localhost_ref: ["/dev/zero".into(), self.text()][self.roll(2)].clone(),
            }),
            ..Default::default()
        };
        config.linux = Some(LinuxContainerConfig {
            resources,
            security_context: (!self.one_in(3)).then_some(context),
        });
        config
    }
}

/// Every call that names something, with an id that names nothing.
async fn with_strange_ids(daemon: &Daemon, dice: &mut Dice) {
    let id = dice.text();
    let (cri, number) = (daemon.cri(), dice.number());
    // Any answer will do.
    let _ = daemon.stop(&id, number).await;
    let _ = daemon.remove(&id).await;
    let _ = daemon.stop_sandbox(&id).await;
    let _ = daemon.remove_sandbox(&id).await;
    let _ = daemon.exec_for(&id, &[&dice.text()], number).await;
    let _ = cri
        .exec(ExecRequest {
            container_id: id.clone(),
            cmd: dice.list(),
            tty: true,
            stdout: true,
            ..Default::default()
        })
        .await;
    let _ = cri
        .attach(AttachRequest {
            container_id: id.clone(),
            ..Default::default()
        })
        .await;
    let _ = cri
        .port_forward(PortForwardRequest {
            pod_sandbox_id: id.clone(),
            port: vec![dice.small()],
        })
        .await;
    let _ = cri
        .reopen_container_log(ReopenContainerLogRequest {
            container_id: id.clone(),
        })
        .await;
    let _ = cri
        .container_stats(ContainerStatsRequest {
            container_id: id.clone(),
        })
        .await;
    let _ = cri
        .update_container_resources(UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(dice.resources()),
            ..Default::default()
        })
        .await;
    let _ = cri
        .image_status(ImageStatusRequest {
            image: Some(ImageSpec {
                image: id,
                ..Default::default()
            }),
            verbose: true,
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_ends_the_daemon_or_leaves_anything() {
    let mut daemon = Daemon::new("hostile").await;
    let pid = daemon.pid();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut made, mut ran) = (0, 0);
    for round in 0..ROUNDS {
        with_strange_ids(&daemon, &mut dice).await;
        assert!(
            daemon.is_alive(),
            "round {round}: strange ids have ended the daemon"
        );
        let config = if dice.one_in(2) {
            daemon.sandbox_config()
        } else {
            dice.sandbox(&daemon)
        };
        let Ok(sandbox) = daemon.run_sandbox(config).await else {
            continue;
        };
        made += 1;
        let config = dice.container(&daemon);
        if let Ok(container) = daemon.create(&sandbox, config).await {
            // Any answer will do here too.
            ran += usize::from(daemon.start_container(&container).await.is_ok());
            let resources = Some(dice.resources());
            let update = UpdateContainerResourcesRequest {
                container_id: container.clone(),
                linux: resources,
                ..Default::default()
            };
            let _ = daemon.cri().update_container_resources(update).await;
            let _ = daemon.exec_for(&container, &["true"], 2).await;
        }
        daemon.clear().await;
        assert!(daemon.is_alive(), "round {round} has ended the daemon");
    }
    assert_eq!(daemon.pid(), pid);
    assert!(
        made > ROUNDS / 4 && ran > 3,
        "too little got through to prove anything: {made} pods, {ran} containers"
    );
    let log = std::fs::read_to_string(daemon.scratch.join("daemon.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    daemon.assert_clean("hostile requests");
    assert!(!std::path::Path::new("/etc/passwd/x").exists());
}
