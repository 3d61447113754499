//! The kernel's tables in words.

mod common;

use std::net::IpAddr;

use common::fixture::{add, config, service, slice};
use common::hosts::{in_fresh_netns, run};
use knode_proxy::Applier;
use knode_proxy::inspect::{End, Inspection, Way};
use knode_proxy::model::{Model, Protocol};

const NODE: &str = "192.0.2.1";
const POD: &str = "10.244.0.9";
const OUTSIDE: &str = "198.51.100.7";

fn trace(inspection: &Inspection, source: &str, to: &str) -> Way {
    let source = source.parse().expect("address");
    inspection.trace(source, to.parse().expect("address and port"), Protocol::Tcp)
}

fn reached(way: &Way) -> Vec<String> {
    match &way.end {
        End::Endpoints(endpoints) => endpoints.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}: {way}"),
    }
}

fn model() -> Model {
    let mut model = Model::default();
    let both = slice(Protocol::Tcp, 8080, &["10.244.0.2", "10.244.1.2"]);
    add(
        &mut model,
        "a/web",
        service("10.96.0.10", Protocol::Tcp, 80, 30080),
        both.clone(),
    );
    let mut local = service("10.96.0.11", Protocol::Tcp, 80, 30081);
    (local.external_local, local.affinity) = (true, Some(600));
    add(&mut model, "a/local", local, both.clone());
    add(
        &mut model,
        "a/none",
        service("10.96.0.12", Protocol::Tcp, 80, 0),
        slice(Protocol::Tcp, 1, &[]),
    );
    let mut guarded = service("10.96.0.13", Protocol::Tcp, 80, 0);
    guarded.balancer_ips = ["203.0.113.5".parse().expect("ip")].into();
    guarded.sources = Some([common::fixture::cidr("198.51.100.0/24")].into());
    add(&mut model, "a/guarded", guarded, both);
    add(
        &mut model,
        "a/six",
        service("fd10:96::10", Protocol::Tcp, 80, 0),
        slice(Protocol::Tcp, 8080, &["fd10:244::2"]),
    );
    model
}

#[test]
fn ways_are_told_from_what_the_kernel_has() {
    in_fresh_netns(|| {
        run("ip", &["addr", "add", "192.0.2.1/24", "dev", "lo"]);
        Applier::open(config())
            .expect("open")
            .take_over(&model())
            .expect("take over");
        let inspection = Inspection::read(&config()).expect("read");
        let both = ["10.244.0.2:8080", "10.244.1.2:8080"];
        let way = trace(&inspection, POD, "10.96.0.10:80");
        assert_eq!(reached(&way), both);
        assert!(way.to_string().contains("sees 10.244.0.9 as the source"), "{way}");
        let way = trace(&inspection, OUTSIDE, "192.0.2.1:30080");
        assert_eq!(reached(&way), both);
        assert!(way.to_string().contains("sees an address of this node"), "{way}");
        let way = trace(&inspection, OUTSIDE, "192.0.2.1:30081");
        assert_eq!(reached(&way), both[..1], "kept on the node: {way}");
        assert!(
            way.to_string().contains("sees 198.51.100.7 as the source"),
            "{way}"
        );
        assert_eq!(reached(&trace(&inspection, POD, "192.0.2.1:30081")), both);
        let way = trace(&inspection, "10.244.0.2", "10.96.0.10:80");
        assert!(way.to_string().contains("reaches itself"), "{way}");
        for (source, to, end) in [
            (POD, "10.96.0.12:80", End::Refused),
            (POD, "10.96.0.10:81", End::Refused),
            (POD, "203.0.113.5:80", End::Dropped),
            (OUTSIDE, "192.0.2.1:22", End::Untouched),
            (OUTSIDE, "203.0.113.77:30080", End::Untouched),
        ] {
            let way = trace(&inspection, source, to);
            assert_eq!(way.end, end, "{source} to {to}: {way}");
        }
        assert_eq!(reached(&trace(&inspection, OUTSIDE, "203.0.113.5:80")), both);
        assert_eq!(
            reached(&trace(&inspection, "fd10:244::9", "[fd10:96::10]:80")),
            ["[fd10:244::2]:8080"]
        );
    });
}

#[test]
fn a_service_is_explained() {
    in_fresh_netns(|| {
        run("ip", &["addr", "add", "192.0.2.1/24", "dev", "lo"]);
        Applier::open(config())
            .expect("open")
            .take_over(&model())
            .expect("take over");
        let inspection = Inspection::read(&config()).expect("read");
        let address = |text: &str| text.parse::<IpAddr>().expect("address");
        let said = inspection.explain(address("10.96.0.12"), None).join("\n");
        assert_eq!(said, "10.96.0.12 tcp 80: it has no endpoint; clients are refused");
        let said = inspection.explain(address(NODE), Some(30081)).join("\n");
        for part in [
            "node tcp 30081",
            "only get those on this node",
            "keeps its endpoint",
            "10.244.0.2:8080 (clients outside)",
        ] {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
        assert_eq!(
            inspection.explain(address("10.96.0.99"), None),
            ["IPv4: no service has 10.96.0.99"]
        );
    });
}
