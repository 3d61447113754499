use super::*;
use knode_cri::{Capability, KeyValue, LinuxContainerConfig, Mount, MountPropagation, SecurityProfile};

struct Fixture {
    config: ContainerConfig,
    image: ImageConfig,
    namespaces: Namespaces,
}

impl Fixture {
    fn new() -> Self {
        let image = ImageConfig {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["default".into()],
            env: vec!["PATH=/image/bin".into(), "A=image".into()],
            working_dir: "/work".into(),
            ..Default::default()
        };
        Self {
            config: ContainerConfig::default(),
            image,
            namespaces: Namespaces::default(),
        }
    }

    fn context(&mut self) -> &mut LinuxContainerSecurityContext {
        let linux = self
            .config
            .linux
            .get_or_insert_with(LinuxContainerConfig::default);
        linux.security_context.get_or_insert_with(Default::default)
    }

    fn build(&self) -> Result<Spec, SpecError> {
        build(&Input {
            config: &self.config,
            sandbox: &PodSandboxConfig::default(),
            image: &self.image,
            user: &user::ResolvedUser {
                uid: 5,
                gid: 6,
                groups: vec![6, 7],
            },
            rootfs: Path::new("/rootfs"),
            cgroup: Path::new("/kubepods/pod1/c1"),
            namespaces: &self.namespaces,
            files: &SandboxFiles {
                resolv_conf: "/s/resolv.conf".into(),
                hostname: "/s/hostname".into(),
                hosts: "/s/hosts".into(),
                shm: "/s/shm".into(),
            },
            hostname: "pod-0",
            image_mounts: &[],
            devices: &[],
            available_capabilities: u64::MAX,
            machine: &Machine::default(),
            apparmor: None,
            labels: None,
            by_program: false,
            cdi: &[],
            users: None,
        })
    }
}

fn destinations(spec: &Spec) -> Vec<&str> {
    spec.mounts()
        .iter()
        .flatten()
        .filter_map(|mount| mount.destination().to_str())
        .collect()
}

#[test]
fn words_of_image_and_configuration_combine_as_in_kubernetes() {
    let image = Fixture::new().image;
    let words = |command: &[&str], args: &[&str]| {
        let config = ContainerConfig {
            command: command.iter().map(|word| word.to_string()).collect(),
            args: args.iter().map(|word| word.to_string()).collect(),
            ..Default::default()
        };
        arguments(&config, &image).unwrap().join(" ")
    };
    assert_eq!(words(&[], &[]), "/entry default");
    assert_eq!(words(&["/c"], &[]), "/c");
    assert_eq!(words(&[], &["x"]), "/entry x");
    assert_eq!(words(&["/c"], &["x"]), "/c x");
    let nothing = arguments(&ContainerConfig::default(), &ImageConfig::default());
    assert!(matches!(nothing, Err(SpecError::NoCommand)));
}

#[test]
fn the_configuration_wins_over_the_images_environment() {
    let mut fixture = Fixture::new();
    fixture.config.envs = vec![KeyValue {
        key: "A".into(),
        value: "pod=1".into(),
    }];
    let list = environment(&fixture.config, &fixture.image, "h");
    assert_eq!(list, ["PATH=/image/bin", "HOSTNAME=h", "A=pod=1"]);
}

#[test]
fn user_directory_and_privileges_arrive() {
    let mut fixture = Fixture::new();
    fixture.context().no_new_privs = true;
    fixture.context().readonly_rootfs = true;
    let spec = fixture.build().unwrap();
    let process = spec.process().as_ref().unwrap();
    assert_eq!((process.user().uid(), process.user().gid()), (5, 6));
    assert_eq!(process.user().additional_gids().as_deref(), Some(&[6, 7][..]));
    assert_eq!(process.cwd(), Path::new("/work"));
    assert_eq!(process.no_new_privileges(), Some(true));
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
    assert_eq!(spec.hostname(), &None);
}

#[test]
fn host_namespaces_are_not_listed() {
    let mut fixture = Fixture::new();
    fixture.namespaces = Namespaces {
        user: None,
        net: None,
        uts: Some("/ns/uts".into()),
        ipc: None,
        pid: PidNamespace::Host,
    };
    let spec = fixture.build().unwrap();
    let list = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
    let kinds: Vec<LinuxNamespaceType> = list.iter().map(|namespace| namespace.typ()).collect();
    assert_eq!(kinds, [LinuxNamespaceType::Mount, LinuxNamespaceType::Uts]);
    assert_eq!(list[1].path().as_deref(), Some(Path::new("/ns/uts")));
}

#[test]
fn a_configured_mount_replaces_the_default_and_parents_come_first() {
    let mut fixture = Fixture::new();
    let mount = |container: &str, host: &str| Mount {
        container_path: container.into(),
        host_path: host.into(),
        ..Default::default()
    };
    fixture.config.mounts = vec![
        mount("/data/inner/", "/h/inner"),
        mount("/etc/hosts", "/h/hosts"),
        mount("/data", "/h"),
    ];
    let spec = fixture.build().unwrap();
    let paths = destinations(&spec);
    assert_eq!(paths.iter().filter(|path| **path == "/etc/hosts").count(), 1);
    let position = |wanted: &str| paths.iter().position(|path| *path == wanted).unwrap();
    assert!(position("/data") < position("/data/inner"), "{paths:?}");
    let hosts = &spec.mounts().as_ref().unwrap()[position("/etc/hosts")];
    assert_eq!(hosts.source().as_deref(), Some(Path::new("/h/hosts")));
    assert_eq!(
        spec.linux().as_ref().unwrap().rootfs_propagation().as_deref(),
        Some("private")
    );
}

#[test]
fn recursive_read_only_is_checked() {
    let mut fixture = Fixture::new();
    let mut mount = Mount {
        container_path: "/m".into(),
        host_path: "/h".into(),
        ..Default::default()
    };
    mount.recursive_read_only = true;
    fixture.config.mounts = vec![mount.clone()];
    assert!(matches!(fixture.build(), Err(SpecError::Mount { .. })));
    mount.readonly = true;
    mount.set_propagation(MountPropagation::PropagationHostToContainer);
    fixture.config.mounts = vec![mount.clone()];
    assert!(matches!(fixture.build(), Err(SpecError::Mount { .. })));
    mount.set_propagation(MountPropagation::PropagationPrivate);
    fixture.config.mounts = vec![mount];
    let spec = fixture.build().unwrap();
    let options = spec
        .mounts()
        .as_ref()
        .unwrap()
        .last()
        .unwrap()
        .options()
        .clone()
        .unwrap();
    assert!(options.contains(&"rro".to_string()), "{options:?}");
}

#[test]
fn privileged_lifts_every_bar() {
    let mut fixture = Fixture::new();
    fixture.context().privileged = true;
    fixture.context().seccomp = Some(SecurityProfile::default());
    let spec = fixture.build().unwrap();
    let linux = spec.linux().as_ref().unwrap();
    assert!(linux.seccomp().is_none());
    assert_eq!(linux.masked_paths().as_deref(), Some(&[][..]));
    assert!(linux.resources().as_ref().unwrap().devices().as_ref().unwrap()[0].allow());
    let bounding = spec
        .process()
        .as_ref()
        .unwrap()
        .capabilities()
        .as_ref()
        .unwrap()
        .bounding()
        .clone()
        .unwrap();
    assert_eq!(bounding.len(), 41);
}

#[test]
fn an_empty_seccomp_profile_is_the_runtimes_default_and_none_is_unconfined() {
    let mut fixture = Fixture::new();
    assert!(
        fixture
            .build()
            .unwrap()
            .linux()
            .as_ref()
            .unwrap()
            .seccomp()
            .is_none()
    );
    fixture.context().seccomp = Some(SecurityProfile::default());
    let calls = |fixture: &Fixture| {
        let spec = fixture.build().unwrap();
        let seccomp = spec.linux().as_ref().unwrap().seccomp().clone().unwrap();
        let names: Vec<String> = seccomp
            .syscalls()
            .iter()
            .flatten()
            .flat_map(|call| call.names().clone())
            .collect();
        names
    };
    let plain = calls(&fixture);
    assert!(plain.contains(&"openat".into()) && plain.contains(&"chroot".into()));
    assert!(!plain.contains(&"mount".into()));
    fixture.context().capabilities = Some(Capability {
        add_capabilities: vec!["SYS_ADMIN".into()],
        ..Default::default()
    });
    assert!(calls(&fixture).contains(&"mount".into()));
}
