//! The checks: each takes the facts and says what it finds; pure.

mod clocks;
mod filter;
mod firewall;
mod host;
mod kernel;
mod network;
mod storage;
#[cfg(test)]
mod tests;

use super::facts::Facts;
use super::finding::Finding;

/// All of them.
pub fn all(facts: &Facts) -> Vec<Finding> {
    let checks = [
        host::check,
        clocks::check,
        kernel::check,
        network::check,
        firewall::check,
        storage::check,
    ];
    checks.iter().flat_map(|check| check(facts)).collect()
}
