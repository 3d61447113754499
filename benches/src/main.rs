//! Measures the real binary beside its targets.

mod pods;
mod processes;
mod report;

fn main() {}
