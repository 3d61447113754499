//! Puts the plan into the kernel: applies differences, takes over what is there, mends what others broke.

mod stale;

use std::collections::BTreeSet;

use knode_nft::{Error as NftError, Socket, TableRef};

use crate::model::{Model, Name};
use crate::plan::{Changes, Plan, Target};
use crate::table::{self, AFFINITY, Actual, TableConfig};
use stale::StaleFlows;

/// How often a repair is begun again because others changed the ruleset meanwhile.
const REPAIR_ATTEMPTS: usize = 16;

/// The proxy's hand on the kernel, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Applier {
    socket: Socket,
    config: TableConfig,
    plan: Plan,
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Commands given to the kernel.
    pub commands: usize,
    /// Bytes of the transaction.
    pub bytes: usize,
    /// Whether the table had to be compared and mended as a whole.
    pub repaired: bool,
}

impl Applier {
    /// Opens netlink in the calling thread's network namespace; changes nothing.
    ///
    /// # Errors
    /// No right to netlink, or no nf_tables in the kernel.
    pub fn open(config: TableConfig) -> Result<Self, NftError> {
        Ok(Self {
            socket: Socket::open()?,
            config,
            plan: Plan::default(),
        })
    }

    /// The netlink address that our own changes carry.
    pub fn portid(&self) -> u32 {
        self.socket.portid()
    }

    /// The table.
    pub fn table(&self) -> TableRef {
        self.config.table()
    }

    /// The plan that was applied last.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Plans the whole model and makes the table so, taking over what an earlier run left.
    ///
    /// # Errors
    /// What the kernel refused; nothing was changed then.
    pub fn take_over(&mut self, model: &Model) -> Result<Applied, NftError> {
        let actual = Actual::read(&mut self.socket, &self.config)?;
        let orders = actual.as_ref().map(table::orders).unwrap_or_default();
        self.plan = Plan::build(model, orders);
        let applied = self.repair(actual)?;
        StaleFlows::all(&self.plan).delete(&mut self.socket, &self.plan)?;
        Ok(applied)
    }

    /// Applies what changed in these Services.
    ///
    /// # Errors
    /// What the kernel refused; the table is as it was, and [`Applier::verify`] tries the whole.
    pub fn update(&mut self, model: &Model, dirty: BTreeSet<Name>) -> Result<Applied, NftError> {
        let changes = self.plan.settle(model, dirty);
        if changes.is_empty() {
            return Ok(Applied::default());
        }
        let batch = table::batch(&self.config, &changes);
        self.socket.commit(&batch)?;
        self.forget_gone(&changes)?;
        Ok(Applied {
            commands: batch.len(),
            bytes: batch.wire_len(),
            repaired: false,
        })
    }

    /// Plans what changed in these Services without touching the kernel; [`Applier::verify`] does that.
    pub fn settle(&mut self, model: &Model, dirty: BTreeSet<Name>) {
        self.plan.settle(model, dirty);
    }

    /// Compares the table with the plan and mends it.
    ///
    /// # Errors
    /// What the kernel refused; nothing was changed then.
    pub fn verify(&mut self) -> Result<Applied, NftError> {
        let actual = Actual::read(&mut self.socket, &self.config)?;
        self.repair(actual)
    }

    fn repair(&mut self, mut actual: Option<Actual>) -> Result<Applied, NftError> {
        for _ in 1..REPAIR_ATTEMPTS {
            match self.try_repair(actual.take()) {
                Err(NftError::GenerationChanged { .. }) => {
                    actual = Actual::read(&mut self.socket, &self.config)?;
                }
                done => return done,
            }
        }
        self.try_repair(actual)
    }

    fn try_repair(&mut self, actual: Option<Actual>) -> Result<Applied, NftError> {
        let batch = table::repair(&self.config, &self.plan, actual.as_ref());
        self.socket.commit(&batch)?;
        if actual.is_some_and(|actual| actual.has_affinity()) {
            self.forget_clients()?;
        }
        Ok(Applied {
            commands: batch.len(),
            bytes: batch.wire_len(),
            repaired: !batch.is_empty(),
        })
    }

    /// Ends what still leads to endpoints that are gone: tracked UDP flows and remembered clients.
    fn forget_gone(&mut self, changes: &Changes) -> Result<(), NftError> {
        StaleFlows::of(changes).delete(&mut self.socket, &self.plan)?;
        let sticky = |target: &Target| target.affinity().is_some();
        if changes
            .frontends
            .iter()
            .any(|change| change.old.as_ref().is_some_and(sticky))
        {
            self.forget_clients()?;
        }
        Ok(())
    }

    fn forget_clients(&mut self) -> Result<(), NftError> {
        let clients = self.socket.elements(&self.config.table(), AFFINITY, false)?;
        for element in table::sticky_clients(&self.plan, clients) {
            let mut batch = knode_nft::Batch::new(self.config.table());
            batch.delete_elements(AFFINITY, [element]);
            match self.socket.commit(&batch) {
                // It timed out meanwhile.
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// Deletes the table; one that is not there is fine.
pub fn teardown(config: &TableConfig) -> Vec<NftError> {
    let delete = || {
        let mut socket = Socket::open()?;
        let table = config.table();
        if !socket.has_table(&table)? {
            return Ok(());
        }
        let mut batch = knode_nft::Batch::new(table);
        batch.delete_table();
        socket.commit(&batch)
    };
    match delete() {
        Err(error) if !error.is_not_found() => vec![error],
        _ => Vec::new(),
    }
}
