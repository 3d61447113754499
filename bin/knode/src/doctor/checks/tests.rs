use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use knode_linux::port::Listener;
use knode_nft::{
    Chain, ChainKind, CmpOp, CtKey, Data, Element, Expr, Hook, HookSpec, MetaKey, PayloadBase, Policy, Reg,
    Rule, Verdict,
};
use knode_overlay::HostRoute;

use super::all;
use super::filter::{Fate, Packet, follow};
use crate::cli::PortRange;
use crate::doctor::facts::*;
use crate::doctor::finding::{Finding, Fix, Status};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A machine on which nothing is wrong.
fn sound() -> Facts {
    let settings = crate::install::assets::settings();
    let mut settings: BTreeMap<String, Option<String>> = settings
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Some(value.to_owned())))
        .collect();
    settings.insert("net.ipv4.ip_local_port_range".into(), Some("32768\t60999".into()));
    settings.insert("net.ipv4.conf.all.rp_filter".into(), Some("2".into()));
    let half = Share { free: 50, all: 100 };
    Facts {
        now: now(),
        daemon: Some(7),
        host: Host {
            name: "edge-1".into(),
            kept: Some("edge-1".into()),
            resolved: Ok(vec!["127.0.1.1".parse().unwrap()]),
            addresses: vec!["192.0.2.1".parse().unwrap()],
        },
        clock: Ok(true),
        swaps: Vec::new(),
        settings,
        kernel: Kernel {
            overlayfs: Ok(()),
            vxlan: Ok(()),
            nf_tables: Ok(()),
            controllers: Ok(["cpu", "cpuset", "memory", "pids"].map(str::to_owned).into()),
            conntrack: Some((10, 1000)),
        },
        ports: vec![Port {
            number: 10250,
            protocol: Protocol::Tcp,
            what: "kubelet",
            taken: None,
        }],
        networks: Networks {
            pods: vec!["172.30.0.0/16".parse().unwrap()],
            services: vec!["10.254.0.0/16".parse().unwrap()],
            node_ports: PortRange {
                first: 30000,
                last: 32767,
            },
            routes: Ok(Vec::new()),
        },
        firewall: Firewall {
            tables: Ok(Vec::new()),
            wanted: vec![Wanted {
                protocol: Protocol::Udp,
                first: 8472,
                last: 8472,
                what: "overlay",
            }],
            arrival: Some(("eth0".into(), 2)),
            legacy: false,
        },
        security: Security::default(),
        disks: vec![Disk {
            what: "images",
            path: "/d".into(),
            bytes: half,
            inodes: half,
        }],
        links: Links {
            underlay: Some(Ok(("eth0".into(), 1500))),
            overlay: Some(("flannel.1".into(), 1450)),
        },
        reached: Vec::new(),
        certificates: vec![CertificateFile {
            path: "/p/a.pem".into(),
            content: Ok(validity(-1, 300)),
        }],
    }
}

fn validity(from: i64, to: i64) -> Validity {
    let day = |days: i64| now() + SignedDuration::from_hours(days * 24);
    Validity {
        subject: "a".into(),
        not_before: day(from),
        not_after: day(to),
    }
}

/// The findings that are not ok after this fault.
fn faults(fault: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = sound();
    fault(&mut facts);
    all(&facts)
        .into_iter()
        .filter(|f| f.status != Status::Ok)
        .collect()
}

/// The only finding after this fault.
#[track_caller]
fn only(status: Status, check: &str, words: &str, fault: impl FnOnce(&mut Facts)) -> Finding {
    let found = faults(fault);
    assert_eq!(found.len(), 1, "{found:#?}");
    let finding = found.into_iter().next().unwrap();
    assert_eq!(finding.status, status, "{finding:#?}");
    assert!(finding.check.contains(check), "{finding:#?}");
    let text = format!(
        "{} -> {}",
        finding.found,
        finding.mend.as_deref().unwrap_or_default()
    );
    assert!(text.contains(words), "{words:?} in {finding:#?}");
    finding
}

#[test]
fn a_sound_machine_has_nothing_to_mend() {
    assert_eq!(faults(|_| ()), []);
}

#[test]
fn names() {
    only(Status::Fail, "host name", "every machine", |f| {
        f.host.name = "localhost".into();
        f.host.kept = Some("localhost".into());
    });
    only(Status::Warn, "host name", "called edge-1", |f| {
        f.host.name = "Edge-1".into();
        f.host.kept = Some("Edge-1".into());
    });
    only(Status::Fail, "host name", "--node-name", |f| {
        f.host.name = "a_b".into();
        f.host.kept = Some("a_b".into());
    });
    only(Status::Warn, "stable", "other after the next boot", |f| {
        f.host.kept = Some("other".into());
    });
    only(Status::Warn, "stable", "/etc/hostname", |f| f.host.kept = None);
    only(
        Status::Warn,
        "resolves",
        "'192.0.2.1 edge-1' >> /etc/hosts",
        |f| {
            f.host.resolved = Err("unknown".into());
        },
    );
    only(
        Status::Warn,
        "resolves",
        "198.51.100.9, which is no address",
        |f| {
            f.host.resolved = Ok(vec!["198.51.100.9".parse().unwrap()]);
        },
    );
}

#[test]
fn kernels() {
    only(Status::Fail, "overlayfs", "modprobe overlay", |f| {
        f.kernel.overlayfs = Err("no".into())
    });
    only(Status::Fail, "nf_tables", "modprobe nf_tables", |f| {
        f.kernel.nf_tables = Err("no".into())
    });
    only(Status::Fail, "vxlan", "modprobe vxlan", |f| {
        f.kernel.vxlan = Err("no".into())
    });
    only(Status::Fail, "control groups", "cgroup_enable=memory", |f| {
        f.kernel.controllers = Ok(["cpu", "cpuset", "pids"].map(str::to_owned).into());
    });
    only(Status::Warn, "swap", "swapoff", |f| {
        f.swaps = vec!["/dev/sda2".into()]
    });
    only(Status::Warn, "conntrack", "dropped", |f| {
        f.kernel.conntrack = Some((900, 1000))
    });
    only(Status::Warn, "time", "time service", |f| f.clock = Ok(false));
    only(Status::Warn, "SELinux", "AVC", |f| {
        f.security.selinux = Some(true)
    });
    only(Status::Warn, "AppArmor", "apt install apparmor", |f| {
        f.security.apparmor = true
    });
}

fn set(facts: &mut Facts, key: &str, value: &str) {
    facts.settings.insert(key.into(), Some(value.into()));
}

#[test]
fn settings() {
    let fix = |key: &str, value: &str| {
        Some(Fix::Setting {
            key: key.into(),
            value: value.into(),
        })
    };
    let forward = "net.ipv4.ip_forward";
    let running = only(Status::Fail, forward, "pods reach nobody", |f| {
        set(f, forward, "0")
    });
    assert_eq!(running.fix, fix(forward, "1"));
    only(Status::Warn, forward, "0, not 1", |f| {
        set(f, forward, "0");
        f.daemon = None;
    });
    let strict = "net.ipv4.conf.all.rp_filter";
    let strict_finding = only(Status::Warn, strict, "loose", |f| set(f, strict, "1"));
    assert_eq!(strict_finding.fix, fix(strict, "2"));
    let reserved = "net.ipv4.ip_local_reserved_ports";
    assert_eq!(
        faults(|f| set(f, reserved, "")),
        [],
        "source ports begin above NodePorts"
    );
    let given_away = only(Status::Warn, reserved, "30000-32767", |f| {
        set(f, reserved, "8080");
        set(f, "net.ipv4.ip_local_port_range", "1024 65000");
    });
    assert_eq!(given_away.fix, fix(reserved, "8080,30000-32767"));
    assert_eq!(faults(|f| set(f, "fs.inotify.max_user_watches", "9999999")), []);
    only(
        Status::Warn,
        "fs.inotify.max_user_instances",
        "128, not 8192",
        |f| {
            set(f, "fs.inotify.max_user_instances", "128");
        },
    );
    assert_eq!(
        faults(|f| drop(
            f.settings
                .insert("net.bridge.bridge-nf-call-iptables".into(), None)
        )),
        []
    );
}

#[test]
fn ports_and_their_holders() {
    let held = |pid, name: &str| {
        Some(Taken::By(Some(Listener {
            pid,
            name: name.into(),
        })))
    };
    only(Status::Fail, "10250/tcp (kubelet)", "process 9 (kubelet)", |f| {
        f.ports[0].taken = held(9, "kubelet");
    });
    assert_eq!(
        faults(|f| f.ports[0].taken = held(7, "knode")),
        [],
        "the daemon's own"
    );
    only(Status::Fail, "10250", "ss --listening", |f| {
        f.ports[0].taken = Some(Taken::By(None))
    });
}

#[test]
fn networks() {
    let route = |net: &str, link: &str| HostRoute {
        destination: net.parse().unwrap(),
        link: link.into(),
    };
    only(
        Status::Fail,
        "address ranges",
        "172.30.5.0/24 through eth1",
        |f| {
            f.networks.routes = Ok(vec![route("172.30.5.0/24", "eth1")]);
        },
    );
    only(
        Status::Fail,
        "address ranges",
        "service CIDR 10.254.0.0/16",
        |f| {
            f.networks.routes = Ok(vec![route("10.0.0.0/8", "eth1")]);
        },
    );
    only(Status::Fail, "address ranges", "172.30.0.0/16", |f| {
        f.networks.services = vec!["172.30.0.0/20".parse().unwrap()];
    });
    assert_eq!(
        faults(|f| f.networks.routes = Ok(vec![
            route("172.30.1.0/24", "flannel.1"),
            route("10.254.0.0/16", "cni0")
        ])),
        []
    );
    only(Status::Fail, "MTU", "flannel.1 mtu 1350", |f| {
        f.links.underlay = Some(Ok(("eth0".into(), 1400)));
    });
    only(Status::Fail, "etcd h:2379", "refused", |f| {
        f.reached = vec![Reached {
            what: "etcd",
            address: "h:2379".into(),
            result: Err("connection refused".into()),
        }];
    });
}

#[test]
fn disks_and_certificates() {
    let share = |free| Share { free, all: 100 };
    only(Status::Fail, "disk of images", "evicted", |f| {
        f.disks[0].bytes = share(14)
    });
    only(Status::Warn, "disk of images", "below 15%", |f| {
        f.disks[0].bytes = share(17)
    });
    only(Status::Fail, "disk of images", "evicted", |f| {
        f.disks[0].inodes = share(4)
    });
    let uncounted = Share { free: 0, all: 0 };
    assert_eq!(faults(|f| f.disks[0].inodes = uncounted), []);
    only(Status::Fail, "/p/a.pem", "ended", |f| {
        f.certificates[0].content = Ok(validity(-10, -1))
    });
    only(Status::Fail, "/p/a.pem", "set the clock right", |f| {
        f.certificates[0].content = Ok(validity(1, 10));
    });
    only(Status::Warn, "/p/a.pem", "9 days left", |f| {
        f.certificates[0].content = Ok(validity(-355, 9))
    });
    assert_eq!(
        faults(|f| f.certificates[0].content = Ok(validity(-1, 9))),
        [],
        "a certificate of ten days is new with nine left"
    );
    only(Status::Fail, "/p/a.pem", "permissions", |f| {
        f.certificates[0].content = Err("weak permissions".into());
    });
}

fn base(hook: Hook, policy: Policy) -> Chain {
    let spec = HookSpec {
        kind: ChainKind::Filter,
        hook,
        priority: 0,
        policy,
    };
    Chain {
        name: "base".into(),
        hook: Some(spec),
    }
}

fn is(protocol: u8, port: u16) -> Vec<Expr> {
    let (dreg, sreg, op) = (Reg(1), Reg(1), CmpOp::Eq);
    let (base, offset, len) = (PayloadBase::Transport, 2, 2);
    vec![
        Expr::Meta {
            dreg,
            key: MetaKey::L4Proto,
        },
        Expr::Cmp {
            sreg,
            op,
            data: vec![protocol],
        },
        Expr::Payload {
            dreg,
            base,
            offset,
            len,
        },
        Expr::Cmp {
            sreg,
            op,
            data: port.to_be_bytes().into(),
        },
    ]
}

fn rule(conditions: Vec<Expr>, verdict: Verdict) -> Rule {
    Rule::new("base", [conditions, vec![Expr::Verdict(verdict)]].concat())
}

fn table(chain: Chain, rules: Vec<Rule>) -> Table {
    Table {
        name: "inet filter".into(),
        chains: vec![chain],
        rules,
        sets: BTreeMap::new(),
    }
}

fn overlay(tables: &[Table]) -> Fate {
    let packet = Packet {
        protocol: Protocol::Udp,
        port: 8472,
        arrival: Some(("eth0".into(), Some(2))),
    };
    follow(tables, Hook::Input, &packet)
}

fn blocked(fate: Fate) -> bool {
    matches!(fate, Fate::Blocked(_))
}

#[test]
fn packets_through_filters() {
    let dropping = |rules| [table(base(Hook::Input, Policy::Drop), rules)];
    assert!(blocked(overlay(&dropping(vec![]))));
    assert_eq!(
        overlay(&dropping(vec![rule(is(17, 8472), Verdict::Accept)])),
        Fate::Passes
    );
    assert!(blocked(overlay(&dropping(vec![rule(
        is(6, 8472),
        Verdict::Accept
    )]))));
    assert_eq!(
        overlay(&[table(base(Hook::Forward, Policy::Drop), vec![])]),
        Fate::Passes
    );
    let refuses = [table(
        base(Hook::Input, Policy::Accept),
        vec![rule(is(17, 8472), Verdict::Drop)],
    )];
    assert!(blocked(overlay(&refuses)));
    // A sender that is not known: some pass.
    let from = Expr::Payload {
        dreg: Reg(1),
        base: PayloadBase::Network,
        offset: 12,
        len: 4,
    };
    let cmp = |data: &[u8]| Expr::Cmp {
        sreg: Reg(1),
        op: CmpOp::Eq,
        data: data.into(),
    };
    let some = dropping(vec![rule(vec![from, cmp(&[10, 0, 0, 1])], Verdict::Accept)]);
    assert!(matches!(overlay(&some), Fate::Perhaps(_)), "{:?}", overlay(&some));
    // Established connections and the loopback link are none of a new packet from outside.
    let state = Expr::Ct {
        dreg: Reg(1),
        key: CtKey::State,
        dir: None,
    };
    let established = Expr::Bitwise {
        sreg: Reg(1),
        dreg: Reg(1),
        mask: 6u32.to_ne_bytes().into(),
        xor: vec![0; 4],
    };
    let some_bit = Expr::Cmp {
        sreg: Reg(1),
        op: CmpOp::Neq,
        data: vec![0; 4],
    };
    let iif = Expr::Meta {
        dreg: Reg(1),
        key: MetaKey::Iif,
    };
    let usual = vec![
        rule(vec![state, established, some_bit], Verdict::Accept),
        rule(vec![iif, cmp(&1u32.to_ne_bytes())], Verdict::Accept),
    ];
    assert!(blocked(overlay(&dropping(usual))));
}

#[test]
fn packets_through_sets_and_chains() {
    let ports = |elements: Vec<Element>, data: Expr| {
        let mut table = table(base(Hook::Input, Policy::Drop), vec![]);
        let load = Expr::Payload {
            dreg: Reg(1),
            base: PayloadBase::Transport,
            offset: 2,
            len: 2,
        };
        let verdict = matches!(data, Expr::Lookup { .. }).then_some(Expr::Verdict(Verdict::Accept));
        let exprs: Vec<Expr> = [load, data].into_iter().chain(verdict).collect();
        table.rules.push(Rule::new("base", exprs));
        table.sets.insert("s".into(), elements);
        [table]
    };
    let lookup = |invert| Expr::Lookup {
        set: "s".into(),
        sreg: Reg(1),
        dreg: None,
        invert,
    };
    let range = |first: u16, last: u16| Element {
        end: Some(last.to_be_bytes().into()),
        ..Element::key(first.to_be_bytes())
    };
    assert_eq!(
        overlay(&ports(vec![range(8000, 9000)], lookup(false))),
        Fate::Passes
    );
    assert!(blocked(overlay(&ports(vec![range(8000, 9000)], lookup(true)))));
    assert!(blocked(overlay(&ports(vec![range(1, 2)], lookup(false)))));
    let verdict = Element {
        data: Some(Data::Verdict(Verdict::Accept)),
        ..Element::key(8472u16.to_be_bytes())
    };
    let map = Expr::LookupVerdict {
        set: "s".into(),
        sreg: Reg(1),
    };
    assert_eq!(overlay(&ports(vec![verdict], map.clone())), Fate::Passes);
    assert!(blocked(overlay(&ports(vec![], map))));

    // A called chain decides, or comes back.
    let mut calls = table(
        base(Hook::Input, Policy::Drop),
        vec![rule(vec![], Verdict::Jump("called".into()))],
    );
    calls.chains.push(Chain::plain("called"));
    assert!(blocked(overlay(&[calls.clone()])));
    let accept = [is(17, 8472), vec![Expr::Verdict(Verdict::Accept)]].concat();
    calls.rules.push(Rule::new("called", accept));
    assert_eq!(overlay(&[calls]), Fate::Passes);
    // A module of iptables may hold or not.
    let unknown = table(
        base(Hook::Input, Policy::Drop),
        vec![rule(vec![Expr::Other("match".into())], Verdict::Accept)],
    );
    assert!(matches!(overlay(&[unknown]), Fate::Perhaps(_)));
}

#[test]
fn what_to_open_depends_on_who_keeps_the_rules() {
    let told = |name: &str, chain: Option<&str>| {
        let mut blocking = table(base(Hook::Input, Policy::Drop), vec![]);
        blocking.name = name.into();
        blocking.chains.extend(chain.map(Chain::plain));
        let found = faults(|f| f.firewall.tables = Ok(vec![blocking]));
        assert_eq!(found.len(), 1, "{found:#?}");
        found[0].mend.clone().unwrap()
    };
    assert!(told("inet firewalld", None).contains("firewall-cmd --permanent --add-port=8472/udp"));
    assert_eq!(told("ip filter", Some("ufw-user-input")), "ufw allow 8472/udp");
    assert_eq!(
        told("inet filter", None),
        "nft insert rule inet filter base udp dport 8472 accept"
    );
    let forward = only(Status::Fail, "forwarding", "iifname cni0 accept", |f| {
        f.firewall.tables = Ok(vec![table(base(Hook::Forward, Policy::Drop), vec![])]);
    });
    assert!(forward.found.contains("inet filter"), "{forward:?}");
}
