//! Random histories: what was built step by step is what a fresh build gives, what the API says, and what the
//! kernel has.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::cluster::Cluster;
use common::random::{self, ELSEWHERE, PORTS, Random, V4, V6};
use common::tracer::{Packet, Tracer};
use common::{in_fresh_netns, oracle};
use knode_nft::Socket;
use knode_policy::Applier;
use knode_policy::model::{Direction, IpFamily, Protocol};
use knode_policy::plan::Planner;
use knode_policy::table::{Actual, NAME, repair, table};

/// Sets with their members, chains with their rules, and where addresses lead, in a fixed order.
type Canonical = (
    BTreeMap<String, BTreeSet<String>>,
    BTreeMap<String, String>,
    Vec<String>,
);

/// All that the kernel is to have.
fn canonical(plan: &Planner) -> Canonical {
    let members = |key| {
        plan.members(&key)
            .iter()
            .map(|member| format!("{member:?}"))
            .collect()
    };
    let sets = plan.sets().map(|key| (key.name(), members(key))).collect();
    let rules = IpFamily::ALL.map(|family| knode_policy::table::ruleset(plan, family).rules);
    let mut chains: BTreeMap<String, String> = BTreeMap::new();
    for rule in rules.into_iter().flatten() {
        *chains.entry(rule.chain.clone()).or_default() += &format!("{rule}\n");
    }
    let verdicts = Direction::ALL.into_iter().flat_map(|direction| {
        let all = plan.verdicts(direction).iter();
        all.map(move |(ip, shape)| format!("{direction:?} {ip} {}", shape.name()))
    });
    (sets, chains, verdicts.collect())
}

#[test]
fn step_by_step_equals_building_anew() {
    for seed in 1..=60 {
        let (mut random, mut cluster) = (Random::new(seed), Cluster::default());
        for step in 0..60 {
            random::event(&mut random, &mut cluster);
            while random.chance(50) {
                random::event(&mut random, &mut cluster);
            }
            cluster.planner.take();
            let fresh = cluster.afresh();
            assert_eq!(
                canonical(&cluster.planner),
                canonical(&fresh),
                "seed {seed} step {step}"
            );
            assert_eq!(cluster.planner.needs(), fresh.needs(), "seed {seed} step {step}");
        }
    }
}

#[test]
fn packets_pass_as_the_api_says() {
    let mut judged = [0_usize; 2];
    for seed in 1..=40 {
        let (mut random, mut cluster) = (Random::new(seed + 500), Cluster::default());
        for step in 0..25 {
            for _ in 0..3 {
                random::event(&mut random, &mut cluster);
            }
            cluster.planner.take();
            for (family, pods) in IpFamily::ALL.into_iter().zip([V4, V6]) {
                let tracer = Tracer::new(&cluster.planner, family);
                let people = [&pods[..], &ELSEWHERE[family as usize..=family as usize]].concat();
                for _ in 0..20 {
                    let (from, to) = (random.pick(&people), random.pick(&people));
                    let packet = Packet::first(from, to, random.pick(&Protocol::ALL), random.pick(&PORTS));
                    let expected = oracle::passes(&cluster, &packet);
                    judged[usize::from(expected)] += 1;
                    assert_eq!(
                        tracer.passes(&packet),
                        expected,
                        "seed {seed} step {step}: {packet:?} under {:#?}",
                        cluster.policies
                    );
                }
            }
        }
    }
    assert!(
        judged.iter().all(|count| *count > 5_000),
        "both outcomes are common: {judged:?}"
    );
}

#[test]
fn the_kernel_has_what_the_plan_says_after_every_step() {
    in_fresh_netns(|| {
        let mut socket = Socket::open().expect("open");
        for seed in 1..=8 {
            let (mut random, mut cluster) = (Random::new(seed + 1000), Cluster::default());
            let mut applier = Applier::open(NAME).expect("open");
            applier.verify(&cluster.planner).expect("begin");
            for step in 0..40 {
                random::event(&mut random, &mut cluster);
                while random.chance(50) {
                    random::event(&mut random, &mut cluster);
                }
                let changes = cluster.planner.take();
                applier
                    .update(&cluster.planner, &changes)
                    .unwrap_or_else(|error| panic!("seed {seed} step {step}: {error:?}"));
                same(&mut socket, &cluster.planner, &format!("seed {seed} step {step}"));
            }
            let fresh = cluster.afresh();
            let taken = Applier::open(NAME)
                .expect("open")
                .verify(&fresh)
                .expect("take over");
            assert!(!taken.repaired, "seed {seed}: another run takes it over as it is");
        }
    });
}

fn same(socket: &mut Socket, plan: &Planner, when: &str) {
    for family in IpFamily::ALL {
        let actual = Actual::read(socket, &table(NAME, family)).expect("read");
        assert_eq!(
            actual.is_some(),
            plan.is_isolated(family),
            "{when}: a table where it is needed"
        );
        if actual.is_some() {
            let batch = repair(NAME, family, plan, actual.as_ref());
            assert!(batch.is_empty(), "{when}: the kernel differs:\n{batch}");
        }
    }
}

#[test]
fn whatever_someone_does_to_the_table_is_mended() {
    in_fresh_netns(|| {
        let mut cluster = common::cases::cluster();
        for case in common::cases::all() {
            for (name, spec) in case.policies {
                cluster.policy(&format!("{name}-{}", case.name.replace(' ', "-")), Some(spec));
            }
        }
        cluster.planner.take();
        let mut applier = Applier::open(NAME).expect("open");
        applier.verify(&cluster.planner).expect("build");
        let mut socket = Socket::open().expect("open");
        for (what, command) in [
            ("a flushed ruleset", "flush ruleset"),
            ("a flushed table", "flush table ip knode-policy"),
            ("a flushed map", "flush map ip knode-policy to-pod"),
            (
                "a deleted element",
                "delete element ip6 knode-policy from-pod { fd10:244::2 }",
            ),
            (
                "a strange rule",
                "insert rule ip knode-policy judge-ingress accept",
            ),
            ("a strange chain", "add chain ip knode-policy mine"),
            (
                "a strange set",
                "add set ip knode-policy mine { type ipv4_addr; }",
            ),
            (
                "a strange element",
                "add element ip knode-policy to-pod { 192.0.2.9 : drop }",
            ),
        ] {
            common::nft(&[command]);
            let applied = applier
                .verify(&cluster.planner)
                .unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert!(applied.repaired, "{what} was noticed");
            same(&mut socket, &cluster.planner, what);
            let again = applier.verify(&cluster.planner).expect("verify");
            assert!(!again.repaired, "{what}: nothing is left to mend");
        }
        common::nft(&["delete table ip knode-policy"]);
        common::nft(&["add table ip knode-policy"]);
        common::nft(&["add map ip knode-policy to-pod { type ipv4_addr : mark; }"]);
        applier.verify(&cluster.planner).expect("replace");
        same(&mut socket, &cluster.planner, "a table of another make");
        assert!(knode_policy::teardown(NAME).is_empty());
        assert_eq!(common::nft(&["list", "ruleset"]), "");
        assert!(knode_policy::teardown(NAME).is_empty(), "gone already");
    });
}

#[test]
fn a_change_is_as_small_as_what_it_concerns() {
    let mut cluster = common::cases::cluster();
    for number in 0..200 {
        let policy = serde_json::json!({"podSelector": {}, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"role": format!("r{number}")}}}], "ports": [{"port": number + 1}]}]});
        cluster.policy(&format!("a/n{number}"), Some(policy));
    }
    cluster.planner.take();
    let guest = common::cluster::pod(
        "a/guest",
        "node2",
        serde_json::json!({"role": "r7"}),
        &["10.244.2.9"],
        serde_json::json!([]),
    );
    cluster.pod("a/guest", Some(guest));
    let changes = cluster.planner.take();
    let batch = knode_policy::table::batch(NAME, IpFamily::V4, &cluster.planner, &changes);
    assert_eq!(batch.len(), 1, "{batch}");
    let six = knode_policy::table::batch(NAME, IpFamily::V6, &cluster.planner, &changes);
    assert!(six.is_empty(), "{six}");
}
