//! Addresses and node ports of services (`pkg/registry/core/service/{ipallocator,portallocator,storage}`),
//! kept in memory and rebuilt from the services when the server starts.

mod pool;
mod service;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use knode_api::field::FieldError;
use knode_kinds::{Kind, ip_families};
use serde_json::Value;

pub(crate) use pool::Pools;

/// The allocators. Clones share them.
#[derive(Clone)]
pub(crate) struct Allocators {
    pools: Arc<Mutex<Pools>>,
}

/// What a write takes and frees. Dropped without [`Claim::keep`], it gives back what it took.
#[must_use]
pub(crate) struct Claim {
    pools: Arc<Mutex<Pools>>,
    taken: Held,
    freed: Held,
}

/// Addresses and ports of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<u16>,
}

impl Held {
    fn without(&self, other: &Held) -> Held {
        Held {
            addresses: self
                .addresses
                .iter()
                .filter(|a| !other.addresses.contains(a))
                .copied()
                .collect(),
            ports: self
                .ports
                .iter()
                .filter(|p| !other.ports.contains(p))
                .copied()
                .collect(),
        }
    }
}

fn lock(pools: &Mutex<Pools>) -> MutexGuard<'_, Pools> {
    // Sets of numbers: a panic can't leave them half changed.
    pools.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Allocators {
    pub fn new(pools: Pools) -> Self {
        Self {
            pools: Arc::new(Mutex::new(pools)),
        }
    }

    /// Marks what a service that is there holds.
    pub fn adopt(&self, service: &Value) {
        lock(&self.pools).take_all(&service::held(service));
    }

    /// Completes a service's address families, before anything is checked or taken; `old` is null for a new one.
    pub fn settle(&self, kind: &Kind, object: &mut Value, old: &Value) -> Result<(), Vec<FieldError>> {
        if !is_service(kind) {
            return Ok(());
        }
        let families = lock(&self.pools).families();
        ip_families::settle(object, old, &families)
    }

    /// Fills in what a new object needs, and takes it.
    pub fn claim_new(
        &self,
        kind: &Kind,
        object: &mut Value,
        dry_run: bool,
    ) -> Result<Claim, Vec<FieldError>> {
        self.claim(kind, object, &Value::Null, dry_run)
    }

    /// The same for a changed object: what it has already stays.
    pub fn claim_change(
        &self,
        kind: &Kind,
        object: &mut Value,
        old: &Value,
        dry_run: bool,
    ) -> Result<Claim, Vec<FieldError>> {
        self.claim(kind, object, old, dry_run)
    }

    fn claim(
        &self,
        kind: &Kind,
        object: &mut Value,
        old: &Value,
        dry_run: bool,
    ) -> Result<Claim, Vec<FieldError>> {
        let mut claim = Claim {
            pools: self.pools.clone(),
            taken: Held::default(),
            freed: Held::default(),
        };
        if !is_service(kind) {
            return Ok(claim);
        }
        let before = service::held(old);
        // On an error the claim is dropped below, which gives back what was taken until then.
        let filled = service::fill(&mut lock(&self.pools), object, &before, &mut claim.taken);
        filled?;
        if !dry_run {
            claim.freed = before.without(&service::held(object));
            return Ok(claim);
        }
        drop(claim);
        Ok(Claim {
            pools: self.pools.clone(),
            taken: Held::default(),
            freed: Held::default(),
        })
    }

    /// Frees what a deleted object held.
    pub fn release(&self, kind: &Kind, old: &Value) {
        if is_service(kind) {
            lock(&self.pools).give_back(&service::held(old));
        }
    }
}

fn is_service(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.plural == "services"
}

impl Claim {
    /// The write is done: what it took stays taken, and what it needs no more is free.
    pub fn keep(mut self) {
        self.taken = Held::default();
        lock(&self.pools).give_back(&self.freed);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.pools).give_back(&self.taken);
    }
}

#[cfg(test)]
mod tests;
