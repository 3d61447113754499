use super::*;

fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Flags, FlagError> {
    let args: Vec<_> = args.iter().map(|a| (*a).to_owned()).collect();
    let env = |key: &str| env.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned());
    match Flags::parse(&args, env)? {
        Invocation::Run(flags) => Ok(*flags),
        Invocation::Version => panic!("it is to run"),
    }
}

fn etcd(flags: &Flags) -> (&Access, &Prefix) {
    match &flags.leases {
        LeasesIn::Etcd { access, prefix, .. } => (access, prefix),
        LeasesIn::Kubernetes { .. } => panic!("leases are to be in etcd"),
    }
}

#[test]
fn upstreams_defaults() {
    let flags = run(&[], &[]).unwrap();
    let (access, prefix) = etcd(&flags);
    assert_eq!(
        access.endpoints,
        ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]
    );
    assert_eq!(prefix, &Prefix::new("/coreos.com/network"));
    assert_eq!(flags.subnet_file, PathBuf::from("/run/flannel/subnet.env"));
    assert!(!flags.masquerade && flags.healthz.is_none() && access.credentials.is_none());
}

#[test]
fn a_unit_file_of_today_is_taken_as_it_stands() {
    let flags = run(
        &[
            "-etcd-cafile=/etc/kubernetes/ssl/ca.pem",
            "-etcd-certfile=/etc/kubernetes/ssl/kubernetes.pem",
            "-etcd-keyfile=/etc/kubernetes/ssl/kubernetes-key.pem",
            "-etcd-endpoints=https://192.0.2.1:2379,https://192.0.2.2:2379",
            "-etcd-prefix=/kubernetes/network",
            "-iface=ens160",
        ],
        &[],
    );
    let flags = flags.unwrap();
    let (access, prefix) = etcd(&flags);
    assert_eq!(
        access.endpoints,
        ["https://192.0.2.1:2379", "https://192.0.2.2:2379"]
    );
    assert_eq!(access.tls.authorities, Some("/etc/kubernetes/ssl/ca.pem".into()));
    assert_eq!(
        access.tls.key,
        Some("/etc/kubernetes/ssl/kubernetes-key.pem".into())
    );
    assert_eq!(prefix, &Prefix::new("/kubernetes/network"));
    assert_eq!(flags.interfaces.named, ["ens160"]);
}

#[test]
fn the_command_line_beats_the_environment() {
    let env = [
        ("FLANNELD_ETCD_PREFIX", "/env"),
        ("FLANNELD_IP_MASQ", "true"),
        ("FLANNELD_ETCD_USERNAME", "flannel"),
        ("FLANNELD_ETCD_PASSWORD", "secret"),
        ("FLANNELD_IFACE", "eth7"),
        ("FLANNELD_SUBNET_FILE", ""),
    ];
    let flags = run(&["--etcd-prefix", "/line", "-iface", "a", "-iface", "b"], &env).unwrap();
    let (access, prefix) = etcd(&flags);
    assert_eq!(prefix, &Prefix::new("/line"));
    assert_eq!(access.credentials.as_ref().unwrap().password, "secret");
    assert!(flags.masquerade);
    assert_eq!(flags.interfaces.named, ["a", "b"]);
    assert_eq!(flags.subnet_file, PathBuf::from("/run/flannel/subnet.env"));
}

#[test]
fn kubernetes_as_the_daemon_set_has_it() {
    let flags = run(
        &["--ip-masq", "--kube-subnet-mgr", "--healthz-port=8471", "-v=4"],
        &[],
    )
    .unwrap();
    let LeasesIn::Kubernetes {
        kubeconfig,
        server,
        net_config,
        prefix,
        announce,
    } = flags.leases
    else {
        panic!("leases are to be in Kubernetes");
    };
    assert_eq!((kubeconfig, server, announce), (None, None, true));
    assert_eq!(net_config, PathBuf::from("/etc/kube-flannel/net-conf.json"));
    assert_eq!(prefix, "flannel.alpha.coreos.com");
    assert_eq!(flags.healthz, Some("0.0.0.0:8471".parse().unwrap()));
    assert_eq!(flags.verbosity, 4);
}

#[test]
fn nonsense_names_the_flag() {
    let problem = |args: &[&str]| run(args, &[]).unwrap_err().to_string();
    assert_eq!(problem(&["-remote=x"]), "flag provided but not defined: -remote");
    assert_eq!(problem(&["-iface"]), "flag needs an argument: -iface");
    assert!(problem(&["-ip-masq=perhaps"]).starts_with("invalid value \"perhaps\" for flag -ip-masq"));
    assert!(problem(&["-public-ip=here"]).contains("-public-ip"));
    for minutes in ["0", "1440", "-5"] {
        let text = problem(&["-subnet-lease-renew-margin", minutes]);
        assert!(text.contains("-subnet-lease-renew-margin"), "{text}");
    }
    assert!(problem(&["-public-ipv6=192.0.2.1"]).contains("-public-ipv6"));
    assert_eq!(run(&["-h"], &[]).unwrap_err(), FlagError::Help);
    let env = run(&[], &[("FLANNELD_IP_MASQ", "perhaps")]);
    assert!(env.unwrap_err().to_string().contains("-ip-masq"));
}

#[test]
fn the_rest_is_left_over() {
    let args = ["-etcd-prefix=/n", "config", "get"].map(str::to_owned);
    let (_, prefix, rest) = Flags::parse_etcd(&args, |_| None).unwrap();
    assert_eq!(
        (prefix, rest),
        (Prefix::new("/n"), vec!["config".to_owned(), "get".to_owned()])
    );
    assert!(matches!(
        Flags::parse(&["-version".to_owned()], |_| None),
        Ok(Invocation::Version)
    ));
    assert!(Flags::usage("flanneld").contains("  -iface value (may be repeated)\n"));
}

#[test]
fn addresses_to_tell_are_of_their_family() {
    let flags = run(&["-public-ip=203.0.113.1", "-public-ipv6=2001:db8::1"], &[]).unwrap();
    assert_eq!(flags.public_ip, Some("203.0.113.1".parse().unwrap()));
    assert_eq!(flags.public_ipv6, Some("2001:db8::1".parse().unwrap()));
}

#[test]
fn rules_can_be_had_otherwise() {
    let (usual, blackhole) = (run(&[], &[]).unwrap(), run(&["-ip-blackhole-route"], &[]));
    assert_eq!((usual.rules, usual.blackhole), (Rules::default(), false));
    assert!(blackhole.unwrap().blackhole);
    let flags = run(
        &["-iptables-forward-rules=false", "-ip-masq-fully-random-disable"],
        &[],
    );
    let want = Rules {
        forward: false,
        random_ports: false,
    };
    assert_eq!(flags.unwrap().rules, want);
}
