//! A Kubernetes node in one binary.
fn main() {}
