//! The target that `KNODE_FUZZ_TARGET` names, under libFuzzer.
#![no_main]

use std::sync::OnceLock;

use knode_fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("KNODE_FUZZ_TARGET").expect("KNODE_FUZZ_TARGET names a target");
        let found = TARGETS.iter().find(|target| target.name == name);
        found.unwrap_or_else(|| panic!("no target {name:?}"))
    })
}

fuzz_target!(|bytes: &[u8]| (target().run)(bytes));
