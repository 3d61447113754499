//! The specs of upstream's validation suite for runtimes (`cri-tools`, `pkg/validate`, 137 of them), each under a name
//! that says the same and with the same assertions, over the socket. Where upstream's suite skips a spec because the
//! kernel or the runtime lacks what it is about, so does this, and says so.
//!
//! With `KNODE_BIN` the daemon is `knode engine` with its pod network; else it is the engine with a network that only
//! keeps books, and the specs that send packets to pods wait for the former. Needs root, docker-registry.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod case;
mod containers;
mod idempotence;
mod images;
mod machine;
mod metrics;
mod mounts;
mod namespaces;
mod networking;
mod pods;
mod privileges;
mod specs;
mod streaming;
#[path = "../support/mod.rs"]
mod support;
mod users;
mod volumes;

use std::panic::AssertUnwindSafe;

use futures::{FutureExt, StreamExt};

use case::Case;
use machine::Machine;
use specs::{SPECS, Spec, Then};

/// Specs that run at the same time.
const AT_ONCE: usize = 6;

/// What became of a spec.
enum End {
    Passed,
    Failed,
    Skipped(&'static str),
}

async fn check(machine: &Machine<'_>, spec: &Spec) -> End {
    let check = match spec.then {
        Then::Skip(reason) => return End::Skipped(reason),
        Then::Network(_) if !machine.has_network() => {
            return End::Skipped("set KNODE_BIN: pods of this daemon have no addresses that answer");
        }
        Then::Check(check) | Then::Serial(check) | Then::Network(check) => check,
    };
    let case = Case::new(machine, spec.name);
    let passed = AssertUnwindSafe(check(&case)).catch_unwind().await.is_ok();
    let tidy = AssertUnwindSafe(case.remove_pods()).catch_unwind().await.is_ok();
    if passed && tidy { End::Passed } else { End::Failed }
}

/// Shows what became of each spec; gives the names of those that failed.
fn sum_up(ends: &[(&Spec, End)]) -> Vec<String> {
    let mut failed = Vec::new();
    let (mut passed, mut skipped) = (0, 0);
    for (spec, end) in ends {
        match end {
            End::Passed => passed += 1,
            End::Failed => failed.push(format!("{}: {}", spec.group, spec.name)),
            End::Skipped(reason) => {
                skipped += 1;
                println!("skipped: {}: {}: {reason}", spec.group, spec.name);
            }
        }
    }
    println!(
        "{passed} passed, {} failed, {skipped} skipped of {}",
        failed.len(),
        ends.len()
    );
    failed
}

#[test]
fn upstreams_validation_suite_passes() {
    let machine = Machine::new();
    let failed = machine.host().block_on(async || {
        let machine = machine.start().await;
        // Specs of images look at the whole list: one after the other, before the others.
        let (serial, others): (Vec<&Spec>, Vec<&Spec>) = SPECS
            .iter()
            .partition(|spec| matches!(spec.then, Then::Serial(_)));
        let mut ends = Vec::new();
        for spec in serial {
            ends.push((spec, check(&machine, spec).await));
        }
        let here = &machine;
        let running = others
            .into_iter()
            .map(|spec| async move { (spec, check(here, spec).await) });
        let rest: Vec<_> = futures::stream::iter(running)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        ends.extend(rest);
        let failed = sum_up(&ends);
        machine.end().await;
        failed
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_table_has_every_spec_of_upstreams_suite_once() {
    let mut names: Vec<_> = SPECS.iter().map(|spec| (spec.group, spec.name)).collect();
    assert_eq!(names.len(), 137);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 137);
}
