//! Each target with mutations of its seeds, the same in every run. Needs root (layers are unpacked).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use knode_fuzz::{Mutator, TARGETS, Target, corpus};

fn run(name: &str) {
    assert!(nix_is_root(), "this test needs root");
    let target: &Target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = corpus(name);
    for (number, seed) in seeds.iter().enumerate() {
        check(target, seed, &format!("seed {number}"));
    }
    for round in 0..target.rounds {
        let mut mutator = Mutator::new(round);
        let seed = &seeds[mutator.below(seeds.len())];
        let other = &seeds[mutator.below(seeds.len())];
        let bytes = mutator.mutate(seed, other);
        check(target, &bytes, &format!("round {round}"));
    }
}

fn check(target: &Target, bytes: &[u8], what: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    assert!(
        outcome.is_ok(),
        "{}, {what}: {:?}",
        target.name,
        String::from_utf8_lossy(bytes)
    );
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets! { manifest layer sandbox container resources spdy files hosts credentials challenge reference }
