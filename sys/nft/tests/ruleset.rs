//! Batches against the kernel: what was asked is what is listed, by us and by `nft`.

mod common;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use common::{in_fresh_netns, nft, run};
use knode_nft::{
    Batch, Chain, ChainKind, CmpOp, CtDir, CtKey, Data, DynsetOp, Element, Error, Expr, Family, FibFlags,
    FieldType, Hook, KeyType, Monitor, NatFlags, NatKind, Notice, Reg, RejectKind, Rule, Set, Socket,
    Subject, TableRef, Verdict, conntrack, matching,
};

fn table() -> TableRef {
    TableRef::new(Family::Ip, "knode-test")
}

fn service_key() -> KeyType {
    KeyType::new([FieldType::Ipv4Addr, FieldType::InetProto, FieldType::InetService])
}

fn endpoint() -> KeyType {
    KeyType::new([FieldType::Ipv4Addr, FieldType::InetService])
}

fn key(address: [u8; 4], port: u16) -> Vec<u8> {
    let port = port.to_be_bytes();
    [&address[..], &[6, 0, 0, 0], &port, &[0, 0]].concat()
}

fn sets() -> Vec<Set> {
    let aff = Set {
        timeout: true,
        dynamic: true,
        size: Some(65535),
        default_timeout: Some(Duration::from_secs(10800)),
        ..Set::map(
            "aff",
            KeyType::new([FieldType::Ipv4Addr, FieldType::InetService]),
            endpoint(),
        )
    };
    let prefixes = Set {
        interval: true,
        ..Set::plain("prefixes", KeyType::new([FieldType::Ipv4Addr]))
    };
    vec![
        Set::verdict_map("svc", service_key()),
        Set::map("eps", service_key(), endpoint()),
        Set::plain("ports", KeyType::new([FieldType::InetService])),
        aff,
        prefixes,
    ]
}

fn chains() -> Vec<Chain> {
    vec![
        Chain::base("pre", ChainKind::Nat, Hook::Prerouting, -100),
        Chain::base("post", ChainKind::Nat, Hook::Postrouting, 100),
        Chain::base("fwd", ChainKind::Filter, Hook::Forward, 0),
        Chain::plain("pick"),
    ]
}

fn rules() -> Vec<Rule> {
    let load = || {
        vec![
            matching::load_ipv4_daddr(Reg(0)),
            matching::load_l4proto(Reg(1)),
            matching::load_dport(Reg(2)),
        ]
    };
    let with = |mut exprs: Vec<Expr>, more: Vec<Expr>| {
        exprs.extend(more);
        exprs
    };
    let nat = |kind| Expr::Nat {
        kind,
        family: 2,
        addr: Some(Reg(4)),
        port: Some(Reg(5)),
        flags: NatFlags::NONE,
    };
    vec![
        Rule::new(
            "pre",
            with(
                load(),
                vec![Expr::LookupVerdict {
                    set: "svc".into(),
                    sreg: Reg(0),
                }],
            ),
        )
        .comment("services"),
        Rule::new("pre", matching::addr_is_local(FibFlags::DADDR, CmpOp::Neq)),
        Rule::new(
            "pre",
            with(
                matching::mark_set(0x4000),
                vec![Expr::Verdict(Verdict::Jump("pick".into()))],
            ),
        ),
        Rule::new(
            "pick",
            vec![
                matching::load_ipv4_saddr(Reg(4)),
                matching::load_dport(Reg(5)),
                matching::load_ipv4_daddr(Reg(6)),
                matching::load_dport(Reg(7)),
                Expr::Dynset {
                    set: "aff".into(),
                    op: DynsetOp::Update,
                    key: Reg(4),
                    data: Some(Reg(6)),
                    timeout: Some(Duration::from_secs(60)),
                },
            ],
        ),
        Rule::new(
            "pick",
            with(
                load(),
                vec![
                    Expr::Lookup {
                        set: "eps".into(),
                        sreg: Reg(0),
                        dreg: Some(Reg(4)),
                        invert: false,
                    },
                    nat(NatKind::Dnat),
                ],
            ),
        ),
        Rule::new(
            "post",
            with(
                matching::ipv4_saddr(CmpOp::Eq, Ipv4Addr::new(172, 30, 0, 0), 16),
                with(
                    matching::ipv4_daddr(CmpOp::Neq, Ipv4Addr::new(172, 30, 0, 0), 16),
                    vec![Expr::Counter, Expr::Masquerade(NatFlags::FULLY_RANDOM)],
                ),
            ),
        ),
        Rule::new(
            "fwd",
            vec![
                Expr::Ct {
                    dreg: Reg(0),
                    key: CtKey::SrcIp,
                    dir: Some(CtDir::Original),
                },
                Expr::Lookup {
                    set: "prefixes".into(),
                    sreg: Reg(0),
                    dreg: None,
                    invert: true,
                },
                Expr::NumGen {
                    dreg: Reg(1),
                    modulus: 3,
                    random: true,
                    offset: 0,
                },
                Expr::Immediate {
                    dreg: Reg(2),
                    data: vec![1, 2, 3, 4],
                },
                Expr::Reject(RejectKind::Icmp(3)),
            ],
        ),
    ]
}

fn elements() -> Vec<(&'static str, Vec<Element>)> {
    vec![
        (
            "svc",
            vec![
                Element::verdict(key([10, 96, 0, 1], 443), Verdict::Goto("pick".into())),
                Element::verdict(key([10, 96, 0, 2], 80), Verdict::Drop),
            ],
        ),
        (
            "eps",
            vec![Element::value(
                key([10, 96, 0, 1], 443),
                [10, 0, 0, 1, 0x19, 0x2b, 0, 0],
            )],
        ),
        ("ports", vec![Element::key(80u16.to_be_bytes())]),
        (
            "prefixes",
            vec![
                Element::range([10, 0, 0, 0], [10, 255, 255, 255]),
                Element::range([240, 0, 0, 0], [255; 4]),
            ],
        ),
    ]
}

fn whole() -> Batch {
    let mut batch = Batch::new(table());
    batch.add_table();
    sets().iter().for_each(|set| batch.add_set(set));
    chains().iter().for_each(|chain| batch.add_chain(chain));
    rules().iter().for_each(|rule| batch.append_rule(rule));
    elements()
        .into_iter()
        .for_each(|(set, elements)| batch.add_elements(set, elements));
    batch
}

#[test]
fn everything_written_is_read_back_as_the_same_value() {
    in_fresh_netns(|| {
        let mut socket = Socket::open().expect("open");
        socket.commit(&whole()).expect("commit");
        let found: HashSet<Set> = socket
            .sets(&table())
            .expect("sets")
            .into_iter()
            .map(|s| s.object.expect("set"))
            .collect();
        assert_eq!(found, sets().into_iter().collect());
        let found: HashSet<Chain> = socket
            .chains(&table())
            .expect("chains")
            .into_iter()
            .map(|c| c.object.expect("chain"))
            .collect();
        assert_eq!(found, chains().into_iter().collect());
        let found: Vec<Rule> = socket
            .rules(&table())
            .expect("rules")
            .into_iter()
            .map(|r| r.object.expect("rule"))
            .collect();
        for chain in chains() {
            let of = |rules: &[Rule]| {
                rules
                    .iter()
                    .filter(|r| r.chain == chain.name)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(of(&found), of(&rules()), "chain {}", chain.name);
        }
        for (set, expected) in elements() {
            let found: HashSet<Element> = socket
                .elements(&table(), set, set == "prefixes")
                .expect("elements")
                .into_iter()
                .collect();
            assert_eq!(found, expected.into_iter().collect(), "set {set}");
        }
    });
}

#[test]
fn nft_prints_it_readably() {
    in_fresh_netns(|| {
        Socket::open().expect("open").commit(&whole()).expect("commit");
        let listing = nft(&["-n", "list", "ruleset"]);
        for line in [
            "type ipv4_addr . inet_proto . inet_service : verdict",
            "10.96.0.1 . 6 . 443 : goto pick",
            "10.96.0.1 . 6 . 443 : 10.0.0.1 . 6443",
            "ip daddr . meta l4proto . th dport vmap @svc comment \"services\"",
            "ip saddr 172.30.0.0/16 ip daddr != 172.30.0.0/16 counter packets 0 bytes 0 masquerade fully-random",
            "10.0.0.0/8",
        ] {
            assert!(listing.contains(line), "{line:?} is not in:\n{listing}");
        }
    });
}

#[test]
fn a_refused_command_is_named_and_nothing_is_applied() {
    in_fresh_netns(|| {
        let mut socket = Socket::open().expect("open");
        socket.commit(&whole()).expect("commit");
        let mut batch = Batch::new(table());
        batch.delete_elements("svc", [Element::key(key([10, 96, 0, 1], 443))]);
        batch.delete_elements(
            "svc",
            [
                Element::key(key([10, 96, 0, 2], 80)),
                Element::key(key([1, 2, 3, 4], 9)),
            ],
        );
        let error = socket.commit(&batch).expect_err("one key is not there");
        assert!(error.is_not_found(), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("delete element ip knode-test svc { 0x01020304_06000000_00090000 }"),
            "{text}"
        );
        assert_eq!(
            socket.elements(&table(), "svc", false).expect("elements").len(),
            2
        );
    });
}

#[test]
fn a_batch_for_a_passed_generation_is_refused() {
    in_fresh_netns(|| {
        let mut socket = Socket::open().expect("open");
        let before = socket.generation().expect("generation");
        let mut stale = whole();
        stale.expect_generation(before);
        nft(&["add", "table", "ip", "other"]);
        let error = socket.commit(&stale).expect_err("the ruleset has changed");
        assert!(
            matches!(error, Error::GenerationChanged { expected } if expected == before),
            "{error:?}"
        );
        assert!(!socket.has_table(&table()).expect("tables"));
        stale.expect_generation(socket.generation().expect("generation"));
        socket.commit(&stale).expect("commit");
        assert!(socket.has_table(&table()).expect("tables"));
    });
}

#[test]
fn a_batch_prints_as_commands() {
    let text = whole().to_string();
    for line in [
        "add table ip knode-test\n",
        "add chain ip knode-test pre { type nat hook prerouting priority -100; policy accept; }\n",
        "add set ip knode-test eps { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }\n",
        "immediate jump pick ]",
        "{ 0x0a600001_06000000_01bb0000 : goto pick, ",
    ] {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }
}

#[test]
fn twenty_thousand_elements_go_in_one_transaction_and_come_back() {
    in_fresh_netns(|| {
        let mut socket = Socket::open().expect("open");
        let element = |n: u32| {
            Element::value(
                key((0x0a60_0000 + n).to_be_bytes(), 80),
                [10, 0, 0, 1, 0, 80, 0, 0],
            )
        };
        let mut batch = Batch::new(table());
        batch.add_table();
        batch.add_set(&sets()[1]);
        batch.add_elements("eps", (0..20_000).map(element));
        socket.commit(&batch).expect("commit");
        let found: HashSet<Element> = socket
            .elements(&table(), "eps", false)
            .expect("elements")
            .into_iter()
            .collect();
        assert_eq!(found.len(), 20_000);
        assert!((0..20_000).all(|n| found.contains(&element(n))));
        let mut batch = Batch::new(table());
        batch.flush_set("eps");
        socket.commit(&batch).expect("flush");
        assert!(
            socket
                .elements(&table(), "eps", false)
                .expect("elements")
                .is_empty()
        );
    });
}

#[test]
fn the_data_of_a_key_changes_within_one_batch() {
    in_fresh_netns(|| {
        let mut socket = Socket::open().expect("open");
        socket.commit(&whole()).expect("commit");
        let changed = Element::value(key([10, 96, 0, 1], 443), [10, 0, 0, 9, 0, 80, 0, 0]);
        let mut batch = Batch::new(table());
        batch.delete_elements("eps", [Element::key(changed.key.clone())]);
        batch.add_elements("eps", [changed.clone()]);
        socket.commit(&batch).expect("commit");
        assert_eq!(
            socket.elements(&table(), "eps", false).expect("elements"),
            [changed]
        );
    });
}

#[test]
fn the_monitor_tells_what_others_do_and_not_what_we_do() {
    in_fresh_netns(|| {
        let mut socket = Socket::open().expect("open");
        let mut monitor = Monitor::open(Some(socket.portid())).expect("monitor");
        socket.commit(&whole()).expect("commit");
        assert_eq!(monitor.drain().expect("drain"), []);
        nft(&["flush", "map", "ip", "knode-test", "eps"]);
        let of_ours = |notices: Vec<Notice>| -> Vec<Subject> {
            let subject = |notice| match notice {
                Notice::Changed {
                    table: found,
                    subject,
                    ..
                } if found == table() => Some(subject),
                _ => None,
            };
            notices.into_iter().filter_map(subject).collect()
        };
        assert_eq!(of_ours(monitor.drain().expect("drain")), [Subject::Content]);
        nft(&["flush", "ruleset"]);
        assert!(of_ours(monitor.drain().expect("drain")).contains(&Subject::TableDeleted));
        assert!(!socket.has_table(&table()).expect("tables"));
    });
}

#[test]
fn elements_of_a_dynamic_map_carry_their_time() {
    in_fresh_netns(|| {
        let mut socket = Socket::open().expect("open");
        socket.commit(&whole()).expect("commit");
        let element = Element {
            timeout: Some(Duration::from_secs(100)),
            ..Element::value([10, 0, 0, 1, 0, 80, 0, 0], [10, 0, 0, 2, 0, 80, 0, 0])
        };
        let mut batch = Batch::new(table());
        batch.add_elements("aff", [element.clone()]);
        socket.commit(&batch).expect("commit");
        let found = socket.elements(&table(), "aff", false).expect("elements");
        assert_eq!(found.len(), 1);
        assert_eq!(
            (&found[0].data, found[0].timeout),
            (&element.data, element.timeout)
        );
        assert!(
            found[0]
                .expires
                .is_some_and(|left| left <= Duration::from_secs(100)),
            "{found:?}"
        );
        assert_eq!(found[0].data, Some(Data::Value(vec![10, 0, 0, 2, 0, 80, 0, 0])));
    });
}

#[test]
fn a_tracked_flow_is_found_and_deleted() {
    in_fresh_netns(|| {
        run("ip", &["link", "set", "lo", "up"]);
        let mut socket = Socket::open().expect("open");
        // A nat chain makes the kernel track connections.
        socket.commit(&whole()).expect("commit");
        let server = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        let client = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        let port = server.local_addr().expect("address").port();
        client.send_to(b"x", ("127.0.0.1", port)).expect("send");
        let ours = move |flow: &conntrack::Flow| flow.original.dst_port == port;
        let found = conntrack::flows(&mut socket, Family::Ip, 17, ours).expect("flows");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].reply.src_port, port);
        assert!(conntrack::delete(&mut socket, &found[0]).expect("delete"));
        assert!(!conntrack::delete(&mut socket, &found[0]).expect("delete again"));
        assert!(
            conntrack::flows(&mut socket, Family::Ip, 17, ours)
                .expect("flows")
                .is_empty()
        );
    });
}

#[test]
fn a_set_whose_table_grows_is_read_whole() {
    in_fresh_netns(|| {
        let mut socket = Socket::open().expect("open");
        let element = |n: u32| Element::key((0x0a60_0000 + n).to_be_bytes());
        let set = Set::plain("grows", KeyType::new([FieldType::Ipv4Addr]));
        for round in 1..=10u32 {
            let count = 3000 * round;
            let mut batch = Batch::new(table());
            batch.add_table();
            batch.delete_table();
            batch.add_table();
            batch.add_set(&set);
            batch.add_elements("grows", (0..count).map(element));
            socket.commit(&batch).expect("commit");
            // The kernel grows the hash table in the background right now.
            let found = socket.elements(&table(), "grows", false).expect("elements");
            assert_eq!(found.len(), count as usize, "round {round}");
        }
    });
}
