//! Repository checks and generated data.
fn main() {}
