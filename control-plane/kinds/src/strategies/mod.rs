//! One small strategy a kind.
pub(crate) mod auth;
pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod daemon_sets;
pub(crate) mod dynamic;
pub(crate) mod events;
pub(crate) mod generation;
pub(crate) mod namespaces;
pub(crate) mod network;
pub(crate) mod nodes;
pub(crate) mod pods;
pub(crate) mod services;
pub(crate) mod storage;

#[cfg(test)]
mod tests;
