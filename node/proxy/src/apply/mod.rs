//! Puts the plan into the kernel: applies differences, takes over what is there, mends what others broke.

mod cleanup;
mod counts;
mod iptables;
mod stale;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use knode_nft::{Applied, Error as NftError, Socket, TableRef};

use crate::model::{IpFamily, Model, Name};
use crate::plan::{Changes, Plan, Shape, Target};
use crate::table::{self, AFFINITY, AFFINITY_HERE, Actual, TableConfig};
use stale::StaleFlows;

pub use cleanup::{CleanupError, cleanup};
pub(crate) use cleanup::{remove_chains, remove_tables, remove_upstream_tables};
pub use counts::ServiceCount;
pub use iptables::{IptablesApplier, IptablesError};

/// How often a repair is begun again because others changed the ruleset meanwhile.
const REPAIR_ATTEMPTS: usize = 16;

/// Is there where the kernel has IPv6.
const IPV6_ADDRESSES: &str = "/proc/net/if_inet6";

/// The proxy's hand on the kernel, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Applier {
    socket: Socket,
    config: TableConfig,
    halves: [Half; 2],
    /// Without IPv6 in the kernel there can be no packet of it, and no table.
    has_ipv6: bool,
}

/// The plan of one family, and whether there is to be a table for it.
#[derive(Debug)]
struct Half {
    plan: Plan,
    /// A table that nobody needs would make the kernel track connections for nothing.
    has_table: bool,
    took: Option<Duration>,
}

impl Applier {
    /// Opens netlink in the calling thread's network namespace; changes nothing.
    ///
    /// # Errors
    /// No right to netlink, or no nf_tables in the kernel.
    pub fn open(config: TableConfig) -> Result<Self, NftError> {
        let half = |family| Half {
            plan: Plan::empty(family),
            has_table: false,
            took: None,
        };
        Ok(Self {
            socket: Socket::open()?,
            config,
            halves: IpFamily::ALL.map(half),
            has_ipv6: Path::new(IPV6_ADDRESSES).exists(),
        })
    }

    /// The netlink address that our own changes carry.
    pub fn portid(&self) -> u32 {
        self.socket.portid()
    }

    /// Whether this is one of our tables.
    pub fn owns(&self, table: &TableRef) -> bool {
        IpFamily::ALL
            .iter()
            .any(|family| self.config.table(*family) == *table)
    }

    /// The plan of a family that was applied last.
    pub fn plan(&self, family: IpFamily) -> &Plan {
        &self.halves[family as usize].plan
    }

    /// How long the last step took for a family; `None` if it had nothing to do.
    pub fn took(&self, family: IpFamily) -> Option<Duration> {
        self.halves[family as usize].took
    }

    /// Whether there is a table for a family.
    pub fn serves(&self, family: IpFamily) -> bool {
        self.halves[family as usize].has_table
    }

    /// Takes another configuration; [`Applier::verify`] puts it into the tables. Says whether it differs.
    pub fn configure(&mut self, config: TableConfig) -> bool {
        let differs = self.config != config;
        self.config = config;
        differs
    }

    /// The configuration.
    pub fn config(&self) -> &TableConfig {
        &self.config
    }

    /// Plans the whole model and makes the tables so, taking over what an earlier run left.
    ///
    /// # Errors
    /// What the kernel refused; nothing was changed in that table then.
    pub fn take_over(&mut self, model: &Model) -> Result<Applied, NftError> {
        let mut applied = Applied::default();
        for family in IpFamily::ALL {
            let actual = Actual::read(&mut self.socket, &self.config, family)?;
            let orders = actual.as_ref().map(table::orders).unwrap_or_default();
            let mut plan = Plan::build(model, family, orders);
            let chains = actual.iter().flat_map(|actual| actual.chains.keys());
            plan.keep(chains.filter_map(|name| Shape::from_plain_name(name)));
            self.halves[family as usize].plan = plan;
            applied = applied + self.repair(family, actual)?;
            let plan = &self.halves[family as usize].plan;
            StaleFlows::all(plan).delete(&mut self.socket, plan)?;
        }
        Ok(applied)
    }

    /// Applies what changed in these Services.
    ///
    /// # Errors
    /// What the kernel refused; that table is as it was, and [`Applier::verify`] tries the whole.
    pub fn update(&mut self, model: &Model, dirty: BTreeSet<Name>) -> Result<Applied, NftError> {
        let changes = self
            .halves
            .each_mut()
            .map(|half| half.plan.settle(model, dirty.iter().cloned()));
        let mut applied = Applied::default();
        for changes in changes {
            let began = Instant::now();
            self.halves[changes.family as usize].took = None;
            applied = applied + self.apply(&changes)?;
            if !changes.is_empty() {
                self.halves[changes.family as usize].took = Some(began.elapsed());
            }
        }
        Ok(applied)
    }

    fn apply(&mut self, changes: &Changes) -> Result<Applied, NftError> {
        if changes.is_empty() {
            return Ok(Applied::default());
        }
        let half = &self.halves[changes.family as usize];
        if !half.has_table {
            let actual = Actual::read(&mut self.socket, &self.config, changes.family)?;
            return self.repair(changes.family, actual);
        }
        let batch = table::batch(&self.config, changes);
        self.socket.commit(&batch)?;
        self.forget_gone(changes)?;
        Ok(Applied {
            commands: batch.len(),
            bytes: batch.wire_len(),
            repaired: false,
        })
    }

    /// Plans what changed in these Services without touching the kernel; [`Applier::verify`] does that.
    pub fn settle(&mut self, model: &Model, dirty: &BTreeSet<Name>) {
        for half in &mut self.halves {
            half.plan.settle(model, dirty.iter().cloned());
        }
    }

    /// Compares the tables with the plans and mends them.
    ///
    /// # Errors
    /// What the kernel refused; nothing was changed in that table then.
    pub fn verify(&mut self) -> Result<Applied, NftError> {
        let mut applied = Applied::default();
        for family in IpFamily::ALL {
            let actual = Actual::read(&mut self.socket, &self.config, family)?;
            applied = applied + self.repair(family, actual)?;
        }
        Ok(applied)
    }

    fn repair(&mut self, family: IpFamily, actual: Option<Actual>) -> Result<Applied, NftError> {
        let began = Instant::now();
        let applied = self.repair_until_settled(family, actual)?;
        let half = &mut self.halves[family as usize];
        half.took = half.has_table.then(|| began.elapsed());
        Ok(applied)
    }

    fn repair_until_settled(
        &mut self,
        family: IpFamily,
        mut actual: Option<Actual>,
    ) -> Result<Applied, NftError> {
        for _ in 1..REPAIR_ATTEMPTS {
            match self.try_repair(family, actual.take()) {
                Err(NftError::GenerationChanged { .. }) => {
                    actual = Actual::read(&mut self.socket, &self.config, family)?;
                }
                done => return done,
            }
        }
        self.try_repair(family, actual)
    }

    fn try_repair(&mut self, family: IpFamily, actual: Option<Actual>) -> Result<Applied, NftError> {
        let half = &mut self.halves[family as usize];
        let can_be = half.plan.family() == IpFamily::V4 || self.has_ipv6;
        if actual.is_none() && !(can_be && is_needed(&self.config, &half.plan)) {
            half.has_table = false;
            return Ok(Applied::default());
        }
        let batch = table::repair(&self.config, &half.plan, actual.as_ref());
        self.socket.commit(&batch)?;
        half.has_table = true;
        if actual.is_some_and(|actual| actual.has_affinity()) {
            self.forget_clients(family)?;
        }
        Ok(Applied {
            commands: batch.len(),
            bytes: batch.wire_len(),
            repaired: !batch.is_empty(),
        })
    }

    /// Ends what still leads to endpoints that are gone: tracked UDP flows and remembered clients.
    fn forget_gone(&mut self, changes: &Changes) -> Result<(), NftError> {
        let plan = &self.halves[changes.family as usize].plan;
        StaleFlows::of(changes).delete(&mut self.socket, plan)?;
        let sticky = |target: &Target| target.affinity().is_some();
        if changes
            .frontends
            .iter()
            .any(|change| change.old.as_ref().is_some_and(sticky))
        {
            self.forget_clients(changes.family)?;
        }
        Ok(())
    }

    fn forget_clients(&mut self, family: IpFamily) -> Result<(), NftError> {
        let table = self.config.table(family);
        for set in [AFFINITY, AFFINITY_HERE] {
            let clients = self.socket.elements(&table, set, false)?;
            for element in table::sticky_clients(&self.halves[family as usize].plan, clients) {
                let mut batch = knode_nft::Batch::new(table.clone());
                batch.delete_elements(set, [element]);
                match self.socket.commit(&batch) {
                    // It timed out meanwhile.
                    Err(error) if error.is_not_found() => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }
}

/// IPv4 has its table always; IPv6 where something in the cluster is of it.
fn is_needed(config: &TableConfig, plan: &Plan) -> bool {
    let family = plan.family();
    let in_networks = config.service_cidrs.iter().any(|net| family.has(net.addr()));
    family == IpFamily::V4 || in_networks || plan.services() > 0
}

/// Deletes the tables; those that are not there are fine.
pub fn teardown(config: &TableConfig) -> Vec<NftError> {
    let delete = |family| {
        let mut socket = Socket::open()?;
        let table = config.table(family);
        if !socket.has_table(&table)? {
            return Ok(());
        }
        let mut batch = knode_nft::Batch::new(table);
        batch.delete_table();
        socket.commit(&batch)
    };
    IpFamily::ALL
        .into_iter()
        .filter_map(|family| delete(family).err())
        .filter(|error| !error.is_not_found())
        .collect()
}
