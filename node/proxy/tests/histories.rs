//! Random histories: what was built step by step is what a fresh build gives, and what the kernel has.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::fixture::{config, service};
use common::history::{Random, event};
use common::hosts::in_fresh_netns;
use knode_nft::Socket;
use knode_proxy::Applier;
use knode_proxy::model::{IpFamily, Model, Name, Protocol};
use knode_proxy::plan::{Frontend, Plan, Target};
use knode_proxy::table::{Actual, repair};

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
fn services_like_others_take_no_chain_rule_or_verdict() {
    let mut model = Model::default();
    let pods = ["10.244.0.2", "10.244.1.2", "10.244.1.3"];
    let add = |model: &mut Model, name: &str, ip: &str, count: usize| {
        let slice = common::fixture::slice(Protocol::Tcp, 8080, &pods[..count]);
        let mut dirty = model.set_slice(&format!("{name}-1"), Some((name, slice)));
        dirty.extend(model.set_service(name, Some(service(ip, Protocol::Tcp, 80, 0))));
        dirty
    };
    for (count, ip) in [
        (1, "10.96.0.1"),
        (2, "10.96.0.2"),
        (3, "10.96.0.3"),
        (0, "10.96.0.4"),
    ] {
        add(&mut model, &format!("a/{count}"), ip, count);
    }
    let mut plan = Plan::build(&model, IpFamily::V4, HashMap::new());
    for (what, count) in [("comes", 3), ("shrinks", 2), ("loses all", 0), ("grows", 1)] {
        let dirty = add(&mut model, "a/web", "10.96.0.10", count);
        let changes = plan.settle(&model, dirty);
        let text = knode_proxy::table::batch(&config(), &changes).to_string();
        assert!(text.contains("element"), "{what}: {text}");
        // An element that leads to a chain makes the kernel look at all of them again.
        for word in ["chain", "rule", "goto", "jump"] {
            assert!(!text.contains(word), "{what}: {word} in\n{text}");
        }
    }
}

#[test]
fn a_chain_that_was_needed_once_stays() {
    let mut model = Model::default();
    let pods: Vec<String> = (1..=40).map(|n| format!("10.244.1.{n}")).collect();
    let set = |model: &mut Model, count: usize| {
        let pods: Vec<&str> = pods[..count].iter().map(String::as_str).collect();
        model.set_slice(
            "a/web-1",
            Some(("a/web", common::fixture::slice(Protocol::Tcp, 8080, &pods))),
        )
    };
    model.set_service("a/web", Some(service("10.96.0.10", Protocol::Tcp, 80, 0)));
    set(&mut model, 3);
    let mut plan = Plan::build(&model, IpFamily::V4, HashMap::new());
    let mut chains_made = |model: &mut Model, count| {
        let dirty = set(model, count);
        let changes = plan.settle(model, dirty);
        let text = knode_proxy::table::batch(&config(), &changes).to_string();
        assert!(!text.contains("delete chain"), "{text}");
        text.matches("add chain").count()
    };
    assert_eq!(
        chains_made(&mut model, 5),
        0,
        "few endpoints have their chain from the start"
    );
    assert_eq!(chains_made(&mut model, 40), 1);
    assert_eq!(chains_made(&mut model, 39), 1);
    assert_eq!(chains_made(&mut model, 40), 0, "it is there still");
}

#[test]
fn as_many_numbers_of_endpoints_as_chains_can_tell_are_accepted_by_the_kernel() {
    in_fresh_netns(|| {
        let mut model = Model::default();
        let pods = |count: u32| -> Vec<String> {
            (0..count)
                .map(|n| format!("10.244.{}.{}", 1 + n / 250, n % 250))
                .collect()
        };
        // The deepest paths: every number of one bit, up to those that have a chain of their own.
        for (number, bit) in (0..13).enumerate() {
            let name = format!("a/s{number}");
            let pods = pods(1 << bit);
            let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
            let service = service(
                &format!("10.96.0.{}", 1 + number),
                Protocol::Tcp,
                80,
                30000 + number as u16,
            );
            common::fixture::add(
                &mut model,
                &name,
                service,
                common::fixture::slice(Protocol::Tcp, 8080, &pods),
            );
        }
        let mut applier = Applier::open(config()).expect("open");
        applier.take_over(&model).expect("take over");
        assert!(!applier.verify().expect("verify").repaired);
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
