//! Random histories: what was built step by step is what a fresh build gives, and what the kernel has.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::fixture::{cidr, config, service};
use common::hosts::in_fresh_netns;
use knode_nft::Socket;
use knode_proxy::Applier;
use knode_proxy::model::{IpFamily, Model, Name, Protocol, Slice, SliceEndpoint, SlicePort, State};
use knode_proxy::plan::{Frontend, Plan, Target};
use knode_proxy::table::{Actual, repair};

/// A small generator of repeatable random numbers (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One random event; addresses and ports are few, so that Services get into each other's way.
fn event(random: &mut Random, model: &mut Model) -> Vec<Name> {
    if random.chance(5) {
        return model.set_zone([None, Some("z1"), Some("z2")][random.below(3) as usize]);
    }
    let name = format!("ns/s{}", random.below(6));
    if random.chance(40) {
        let service = random.chance(75).then(|| random_service(random));
        return model.set_service(&name, service).into_iter().collect();
    }
    let slice_name = format!("ns/slice{}", random.below(10));
    if random.chance(20) {
        return model.set_slice(&slice_name, None);
    }
    let slice = random_slice(random);
    model.set_slice(&slice_name, Some((&name, slice)))
}

fn protocol(random: &mut Random) -> Protocol {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][random.below(3) as usize]
}

fn random_service(random: &mut Random) -> knode_proxy::model::Service {
    let ip = format!("10.96.0.{}", random.below(5));
    let node_port = if random.chance(60) {
        30000 + random.below(4) as u16
    } else {
        0
    };
    let mut service = service(&ip, protocol(random), 80 + random.below(2) as u16, node_port);
    service.affinity = random.chance(30).then(|| 100 + random.below(2) as u32);
    service.external_local = random.chance(30);
    service.internal_local = random.chance(20);
    if random.chance(30) {
        service.external_ips = [format!("192.0.2.{}", random.below(3)).parse().expect("ip")].into();
    }
    if random.chance(30) {
        service.balancer_ips = [format!("192.0.2.{}", random.below(5)).parse().expect("ip")].into();
        let nets = ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"].map(cidr);
        service.sources = random
            .chance(60)
            .then(|| nets[..1 + random.below(3) as usize].into());
    }
    if random.chance(50) {
        let six = format!("fd10:96::{}", 1 + random.below(5)).parse().expect("ip");
        service.cluster_ips = [service.cluster_ips[0], six].into();
    }
    service
}

fn random_slice(random: &mut Random) -> Slice {
    let (protocol, count) = (protocol(random), random.below(5));
    let mut endpoint = || {
        let network = if random.chance(60) {
            "10.244."
        } else {
            "fd10:244::"
        };
        let separator = &network[network.len() - 1..];
        let ip = format!("{network}{}{separator}{}", random.below(2), random.below(6)).replace(":::", "::");
        let state = if random.chance(80) {
            State::Ready
        } else {
            State::Ending
        };
        let mut endpoint = SliceEndpoint::new(ip.parse().expect("ip"), state, random.chance(50));
        if random.chance(70) {
            endpoint.for_zones = Some([Box::from(["z1", "z2"][random.below(2) as usize])].into());
        }
        endpoint
    };
    let endpoints = (0..count).map(|_| endpoint()).collect();
    Slice {
        ports: [SlicePort {
            name: "p".into(),
            protocol,
            port: 8080,
        }]
        .into(),
        endpoints,
    }
}

/// Targets with their endpoints in a fixed order.
fn canonical(plan: &Plan) -> BTreeMap<Frontend, String> {
    let sorted = |target: &Target| {
        let mut endpoints: Vec<String> = target.endpoints().map(|e| format!("{e:?}")).collect();
        endpoints.sort();
        format!(
            "{:?} {endpoints:?} {:?}",
            target.shape(),
            matches!(target, Target::Drop)
        )
    };
    plan.targets()
        .map(|(frontend, target)| (*frontend, sorted(target)))
        .collect()
}

fn used(plan: &Plan) -> (Vec<String>, Vec<String>, Vec<String>) {
    let text = |items: Vec<String>| items;
    let shapes = text(plan.shapes().map(|shape| shape.to_string()).collect());
    (
        shapes,
        plan.hairpins().map(|ip| ip.to_string()).collect(),
        plan.affinities()
            .map(|affinity| format!("{affinity:?}"))
            .collect(),
    )
}

#[test]
fn settling_step_by_step_equals_building_anew() {
    for seed in 1..=60 {
        let mut random = Random::new(seed);
        let family = IpFamily::ALL[seed as usize % 2];
        let (mut model, mut plan) = (Model::default(), Plan::empty(family));
        for step in 0..80 {
            let mut dirty: BTreeSet<Name> = event(&mut random, &mut model).into_iter().collect();
            while random.chance(50) {
                dirty.extend(event(&mut random, &mut model));
            }
            plan.settle(&model, dirty);
            let fresh = Plan::build(&model, family, HashMap::new());
            assert_eq!(canonical(&plan), canonical(&fresh), "seed {seed} step {step}");
            assert_eq!(used(&plan), used(&fresh), "seed {seed} step {step}");
        }
    }
}

#[test]
fn the_kernel_has_what_the_plan_says_after_every_step() {
    in_fresh_netns(|| {
        for seed in 1..=8 {
            let mut random = Random::new(seed + 1000);
            let mut model = Model::default();
            let mut applier = Applier::open(config()).expect("open");
            applier.take_over(&model).expect("take over");
            for step in 0..40 {
                let mut dirty: BTreeSet<Name> = event(&mut random, &mut model).into_iter().collect();
                while random.chance(50) {
                    dirty.extend(event(&mut random, &mut model));
                }
                applier
                    .update(&model, dirty)
                    .unwrap_or_else(|error| panic!("seed {seed} step {step}: {error:?}"));
                for family in IpFamily::ALL {
                    let mut socket = Socket::open().expect("open");
                    let actual = Actual::read(&mut socket, &config(), family).expect("read");
                    let batch = repair(&config(), applier.plan(family), actual.as_ref());
                    assert!(
                        batch.is_empty(),
                        "seed {seed} step {step}: the kernel differs:\n{batch}"
                    );
                }
            }
            // Another run takes the table over as it is, in the order in which it is.
            let mut successor = Applier::open(config()).expect("open");
            let taken = successor.take_over(&model).expect("take over");
            assert!(!taken.repaired, "seed {seed}: {taken:?}");
        }
    });
}

#[test]
fn a_change_of_one_endpoint_is_small_whatever_the_number_of_others() {
    let endpoints = |count: u8, without: u8| {
        let mut all: Vec<String> = (0..count)
            .filter(|n| *n != without)
            .map(|n| format!("10.244.1.{n}"))
            .collect();
        all.push("10.244.2.1".to_owned());
        all
    };
    let set = |model: &mut Model, list: Vec<String>| {
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        model.set_slice(
            "a/web-1",
            Some(("a/web", common::fixture::slice(Protocol::Tcp, 8080, &list))),
        )
    };
    let mut model = Model::default();
    model.set_service("a/web", Some(service("10.96.0.10", Protocol::Tcp, 80, 0)));
    set(&mut model, endpoints(200, 255));
    let mut plan = Plan::build(&model, IpFamily::V4, HashMap::new());
    let dirty = set(&mut model, endpoints(200, 17));
    let changes = plan.settle(&model, dirty);
    let text = knode_proxy::table::batch(&config(), &changes).to_string();
    let of_endpoints = text
        .lines()
        .filter(|line| line.contains(" eps "))
        .collect::<Vec<_>>()
        .join("\n");
    let keys = of_endpoints.matches("0x0a60000a").count();
    assert_eq!(
        keys, 3,
        "the gap is filled from the end, no more:\n{of_endpoints}"
    );
}
