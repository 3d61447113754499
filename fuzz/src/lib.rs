//! Everything that takes bytes of other people, as functions that fuzzers call.
//!
//! `cargo test -p knode-fuzz` calls each with a fixed number of mutations of `corpus/`, the same in every run;
//! `make fuzz` (`scripts/fuzz.sh`) lets libFuzzer look for more, guided by coverage. What it finds goes into `corpus/`.

mod mutate;
mod targets;

pub use mutate::Mutator;
pub use targets::{TARGETS, Target};

use std::path::PathBuf;

/// The seeds of a target, by name.
///
/// # Panics
/// When there are none.
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).join(target);
    let entries = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    let read = |path: &PathBuf| {
        std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}
