//! What is answered about the cluster's names, line by line.

use std::net::IpAddr;
use std::num::NonZeroU16;

use hickory_proto::rr::{Name, Record, RecordType};
use knode_dns::model::{Addresses, Endpoint, Model, Port, Protocol, Service, Slice};
use knode_dns::zone::{Answer, Zone};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn port(name: &str, protocol: Protocol, number: u16) -> Port {
    Port {
        name: name.into(),
        protocol,
        number: NonZeroU16::new(number),
    }
}

fn ports() -> [Port; 2] {
    [port("http", Protocol::Tcp, 80), port("dns", Protocol::Udp, 53)]
}

fn zone() -> Zone {
    Zone {
        origin: Name::from_ascii("cluster.local.").expect("a name"),
        ttl: 30,
        own_ips: vec![ip("192.0.2.1")],
    }
}

fn cluster(ips: &[&str]) -> Addresses {
    Addresses::Cluster(ips.iter().map(|text| ip(text)).collect())
}

fn endpoints(list: &[(&str, Option<&str>)]) -> Vec<Endpoint> {
    list.iter()
        .map(|(text, name)| Endpoint::new(ip(text), *name))
        .collect()
}

fn model() -> Model {
    let mut model = Model::default();
    model.touch(1_700_000_000);
    model.add_namespace("ns");
    model.add_namespace("kube-system");
    let none: [Port; 0] = [];
    let services = [
        (
            "ns/web",
            Service::new(cluster(&["10.254.0.10", "fd00:254::a"]), ports()),
        ),
        ("ns/four", Service::new(cluster(&["10.254.0.11"]), none.clone())),
        ("ns/db", Service::new(Addresses::Headless, ports())),
        ("ns/bare", Service::new(Addresses::Headless, none.clone())),
        ("ns/empty", Service::new(Addresses::Headless, ports())),
        (
            "ns/out",
            Service::new(Addresses::External("www.Example.com".into()), none.clone()),
        ),
        (
            "ns/in",
            Service::new(
                Addresses::External("web.ns.svc.cluster.local.".into()),
                none.clone(),
            ),
        ),
        (
            "ns/in-in",
            Service::new(
                Addresses::External("in.ns.svc.cluster.local".into()),
                none.clone(),
            ),
        ),
        (
            "ns/dead",
            Service::new(
                Addresses::External("no.ns.svc.cluster.local".into()),
                none.clone(),
            ),
        ),
        (
            "ns/ring",
            Service::new(
                Addresses::External("ring2.ns.svc.cluster.local".into()),
                none.clone(),
            ),
        ),
        (
            "ns/ring2",
            Service::new(
                Addresses::External("ring.ns.svc.cluster.local".into()),
                none.clone(),
            ),
        ),
        (
            "ns/number",
            Service::new(Addresses::External("192.0.2.7".into()), none.clone()),
        ),
        (
            "kube-system/kube-dns",
            Service::new(cluster(&["10.254.0.2"]), ports()),
        ),
    ];
    for (name, service) in services {
        model.set_service(name, Some(service));
    }
    let slices = [
        (
            "ns/db-4",
            "ns/db",
            Slice::new(
                ports(),
                endpoints(&[("172.30.0.1", Some("db-0")), ("172.30.0.2", None)]),
            ),
        ),
        (
            "ns/db-6",
            "ns/db",
            Slice::new(
                ports(),
                endpoints(&[("fd00:30::1", Some("db-0")), ("fd00:30::", None)]),
            ),
        ),
        (
            "ns/bare-4",
            "ns/bare",
            Slice::new(none, endpoints(&[("172.30.0.9", None)])),
        ),
        (
            "ns/web-4",
            "ns/web",
            Slice::new(ports(), endpoints(&[("172.30.0.5", None), ("172.30.0.1", None)])),
        ),
        (
            "kube-system/own",
            "kube-system/kube-dns",
            Slice::new(ports(), endpoints(&[("192.0.2.1", None)])),
        ),
    ];
    for (name, owner, slice) in slices {
        model.set_slice(name, Some((owner, slice)));
    }
    model
}

fn ask(name: &str, kind: RecordType) -> Answer {
    let name = Name::from_ascii(name).expect("a name");
    zone().answer(&model(), &name, kind, 42)
}

fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        format!(
            "{} {} {} {}",
            record.name,
            record.ttl,
            record.record_type(),
            record.data
        )
    };
    let mut lines: Vec<String> = records.iter().map(line).collect();
    lines.sort_unstable();
    lines
}

#[track_caller]
fn records(name: &str, kind: RecordType, expected: &[&str]) -> Vec<String> {
    match ask(name, kind) {
        Answer::Records { answers, additionals } => {
            assert_eq!(lines(&answers), expected, "{name} {kind}");
            lines(&additionals)
        }
        other => panic!("{name} {kind}: {other:?}"),
    }
}

#[track_caller]
fn is(name: &str, kind: RecordType, expected: &Answer) {
    assert_eq!(ask(name, kind), *expected, "{name} {kind}");
}

use RecordType as T;

#[test]
fn services_have_addresses_of_their_families() {
    let web = "web.ns.svc.cluster.local.";
    records(web, T::A, &["web.ns.svc.cluster.local. 30 A 10.254.0.10"]);
    records(web, T::AAAA, &["web.ns.svc.cluster.local. 30 AAAA fd00:254::a"]);
    records(
        "WEB.ns.SVC.cluster.local.",
        T::A,
        &["WEB.ns.SVC.cluster.local. 30 A 10.254.0.10"],
    );
    records(
        "_http._tcp.web.ns.svc.cluster.local.",
        T::A,
        &["_http._tcp.web.ns.svc.cluster.local. 30 A 10.254.0.10"],
    );
    is("four.ns.svc.cluster.local.", T::AAAA, &Answer::NoData);
    for kind in [T::TXT, T::MX, T::NS, T::SOA, T::CNAME, T::HTTPS, T::ANY, T::HINFO] {
        is(web, kind, &Answer::NoData);
    }
    for kind in [T::A, T::AAAA, T::SRV, T::TXT, T::MX, T::SOA, T::CNAME] {
        is("no.ns.svc.cluster.local.", kind, &Answer::NoName);
        is("web.other.svc.cluster.local.", kind, &Answer::NoName);
        is("a.b._http._tcp.web.ns.svc.cluster.local.", kind, &Answer::NoName);
        is("web.ns.cluster.local.", kind, &Answer::NoName);
    }
    is("_no._tcp.web.ns.svc.cluster.local.", T::A, &Answer::NoName);
    is("_http._udp.web.ns.svc.cluster.local.", T::SRV, &Answer::NoName);
}

#[test]
fn headless_services_have_their_endpoints_addresses() {
    let db = "db.ns.svc.cluster.local.";
    records(
        db,
        T::A,
        &[
            "db.ns.svc.cluster.local. 30 A 172.30.0.1",
            "db.ns.svc.cluster.local. 30 A 172.30.0.2",
        ],
    );
    records(
        db,
        T::AAAA,
        &[
            "db.ns.svc.cluster.local. 30 AAAA fd00:30::",
            "db.ns.svc.cluster.local. 30 AAAA fd00:30::1",
        ],
    );
    records(
        "db-0.db.ns.svc.cluster.local.",
        T::A,
        &["db-0.db.ns.svc.cluster.local. 30 A 172.30.0.1"],
    );
    records(
        "DB-0.db.ns.svc.cluster.local.",
        T::AAAA,
        &["DB-0.db.ns.svc.cluster.local. 30 AAAA fd00:30::1"],
    );
    records(
        "172-30-0-2.db.ns.svc.cluster.local.",
        T::A,
        &["172-30-0-2.db.ns.svc.cluster.local. 30 A 172.30.0.2"],
    );
    records(
        "fd00-30--0.db.ns.svc.cluster.local.",
        T::AAAA,
        &["fd00-30--0.db.ns.svc.cluster.local. 30 AAAA fd00:30::"],
    );
    is("172-30-0-1.db.ns.svc.cluster.local.", T::A, &Answer::NoName);
    is("db-1.db.ns.svc.cluster.local.", T::A, &Answer::NoName);
    is("empty.ns.svc.cluster.local.", T::A, &Answer::NoName);
    records(
        "bare.ns.svc.cluster.local.",
        T::A,
        &["bare.ns.svc.cluster.local. 30 A 172.30.0.9"],
    );
    is("bare.ns.svc.cluster.local.", T::SRV, &Answer::NoData);
    // Endpoints of Services with an address have names too.
    records(
        "172-30-0-5.web.ns.svc.cluster.local.",
        T::A,
        &["172-30-0-5.web.ns.svc.cluster.local. 30 A 172.30.0.5"],
    );
}

#[test]
fn ports_are_told_with_the_addresses_of_their_targets() {
    let extra = records(
        "_http._tcp.web.ns.svc.cluster.local.",
        T::SRV,
        &["_http._tcp.web.ns.svc.cluster.local. 30 SRV 0 50 80 web.ns.svc.cluster.local."],
    );
    assert_eq!(
        extra,
        [
            "web.ns.svc.cluster.local. 30 A 10.254.0.10",
            "web.ns.svc.cluster.local. 30 AAAA fd00:254::a"
        ]
    );
    let extra = records(
        "_dns._udp.db.ns.svc.cluster.local.",
        T::SRV,
        &[
            "_dns._udp.db.ns.svc.cluster.local. 30 SRV 0 25 53 172-30-0-2.db.ns.svc.cluster.local.",
            "_dns._udp.db.ns.svc.cluster.local. 30 SRV 0 25 53 db-0.db.ns.svc.cluster.local.",
            "_dns._udp.db.ns.svc.cluster.local. 30 SRV 0 25 53 fd00-30--0.db.ns.svc.cluster.local.",
        ],
    );
    assert_eq!(extra.len(), 4, "{extra:?}");
    assert!(
        extra.contains(&"db-0.db.ns.svc.cluster.local. 30 AAAA fd00:30::1".to_owned()),
        "{extra:?}"
    );
    // Without a port, all of them.
    records(
        "web.ns.svc.cluster.local.",
        T::SRV,
        &[
            "web.ns.svc.cluster.local. 30 SRV 0 25 53 web.ns.svc.cluster.local.",
            "web.ns.svc.cluster.local. 30 SRV 0 25 80 web.ns.svc.cluster.local.",
        ],
    );
    is("four.ns.svc.cluster.local.", T::SRV, &Answer::NoData);
}

#[test]
fn addresses_lead_back_to_names() {
    records(
        "10.0.254.10.in-addr.arpa.",
        T::PTR,
        &["10.0.254.10.in-addr.arpa. 30 PTR web.ns.svc.cluster.local."],
    );
    records(
        "2.0.30.172.in-addr.arpa.",
        T::PTR,
        &["2.0.30.172.in-addr.arpa. 30 PTR 172-30-0-2.db.ns.svc.cluster.local."],
    );
    records(
        "1.0.30.172.in-addr.arpa.",
        T::PTR,
        &[
            "1.0.30.172.in-addr.arpa. 30 PTR 172-30-0-1.web.ns.svc.cluster.local.",
            "1.0.30.172.in-addr.arpa. 30 PTR db-0.db.ns.svc.cluster.local.",
        ],
    );
    let six = "a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.5.2.0.0.0.d.f.ip6.arpa.";
    records(six, T::PTR, &[&format!("{six} 30 PTR web.ns.svc.cluster.local.")]);
    // Others may know more.
    is("9.9.9.9.in-addr.arpa.", T::PTR, &Answer::Elsewhere);
    is("10.0.254.10.in-addr.arpa.", T::A, &Answer::Elsewhere);
    is("254.10.in-addr.arpa.", T::SOA, &Answer::Elsewhere);
}

#[test]
fn other_names_are_followed_within_the_cluster() {
    let Answer::Alias { answers, target } = ask("out.ns.svc.cluster.local.", T::A) else {
        panic!("it leads out of the cluster");
    };
    assert_eq!(
        lines(&answers),
        ["out.ns.svc.cluster.local. 30 CNAME www.Example.com."]
    );
    assert_eq!(target.to_string(), "www.Example.com.");
    records(
        "out.ns.svc.cluster.local.",
        T::CNAME,
        &["out.ns.svc.cluster.local. 30 CNAME www.Example.com."],
    );
    records(
        "in.ns.svc.cluster.local.",
        T::AAAA,
        &[
            "in.ns.svc.cluster.local. 30 CNAME web.ns.svc.cluster.local.",
            "web.ns.svc.cluster.local. 30 AAAA fd00:254::a",
        ],
    );
    records(
        "in-in.ns.svc.cluster.local.",
        T::A,
        &[
            "in-in.ns.svc.cluster.local. 30 CNAME in.ns.svc.cluster.local.",
            "in.ns.svc.cluster.local. 30 CNAME web.ns.svc.cluster.local.",
            "web.ns.svc.cluster.local. 30 A 10.254.0.10",
        ],
    );
    is("dead.ns.svc.cluster.local.", T::A, &Answer::NoData);
    is("ring.ns.svc.cluster.local.", T::A, &Answer::NoData);
    is("out.ns.svc.cluster.local.", T::SRV, &Answer::NoData);
    is("x.out.ns.svc.cluster.local.", T::A, &Answer::NoName);
    is("number.ns.svc.cluster.local.", T::A, &Answer::NoName);
}

#[test]
fn pods_are_their_addresses() {
    records(
        "172-30-0-99.ns.pod.cluster.local.",
        T::A,
        &["172-30-0-99.ns.pod.cluster.local. 30 A 172.30.0.99"],
    );
    records(
        "fd00-30--7.ns.pod.cluster.local.",
        T::AAAA,
        &["fd00-30--7.ns.pod.cluster.local. 30 AAAA fd00:30::7"],
    );
    is("172-30-0-99.ns.pod.cluster.local.", T::AAAA, &Answer::NoData);
    is("172-30-0-99.ns.pod.cluster.local.", T::SRV, &Answer::NoData);
    is("172-30-0-99.other.pod.cluster.local.", T::A, &Answer::NoName);
    is("172-30-0-256.ns.pod.cluster.local.", T::A, &Answer::NoName);
    is("web.ns.pod.cluster.local.", T::A, &Answer::NoName);
}

#[test]
fn the_zone_tells_of_itself() {
    records(
        "dns-version.cluster.local.",
        T::TXT,
        &["dns-version.cluster.local. 28800 TXT 1.1.0"],
    );
    is("dns-version.cluster.local.", T::A, &Answer::NoData);
    records(
        "cluster.local.",
        T::SOA,
        &[
            "cluster.local. 30 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1700000000 7200 1800 86400 30",
        ],
    );
    let extra = records(
        "cluster.local.",
        T::NS,
        &["cluster.local. 30 NS kube-dns.kube-system.svc.cluster.local."],
    );
    assert_eq!(extra, ["kube-dns.kube-system.svc.cluster.local. 30 A 10.254.0.2"]);
    records(
        "ns.dns.cluster.local.",
        T::A,
        &["ns.dns.cluster.local. 30 A 192.0.2.1"],
    );
    for name in [
        "cluster.local.",
        "svc.cluster.local.",
        "pod.cluster.local.",
        "ns.svc.cluster.local.",
        "ns.pod.cluster.local.",
    ] {
        is(name, T::A, &Answer::NoData);
    }
    is("other.svc.cluster.local.", T::A, &Answer::NoName);
    is("x.cluster.local.", T::A, &Answer::NoName);
    is("cluster.local.", T::AXFR, &Answer::Refused);
    for name in ["example.com.", "local.", "notcluster.local.", "."] {
        is(name, T::A, &Answer::Elsewhere);
    }
}

#[test]
fn the_order_of_addresses_is_another_for_each() {
    let mut model = model();
    let many: Vec<Endpoint> = (1..=4)
        .map(|n| Endpoint::new(IpAddr::from([172, 30, 1, n]), None))
        .collect();
    model.set_slice("ns/many", Some(("ns/empty", Slice::new(ports(), many))));
    let name = Name::from_ascii("empty.ns.svc.cluster.local.").expect("a name");
    let first = |random| match zone().answer(&model, &name, T::A, random) {
        Answer::Records { answers, .. } => {
            assert_eq!(answers.len(), 4, "each address once");
            answers[0].data.to_string()
        }
        other => panic!("{other:?}"),
    };
    let firsts: std::collections::BTreeSet<String> = (0..64).map(first).collect();
    assert_eq!(firsts.len(), 4, "{firsts:?}");
}
