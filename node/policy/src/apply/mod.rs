//! Puts the plan into the kernel: applies differences, takes over what is there, mends what others broke.

use std::path::Path;

use knode_nft::{Applied, Batch, Error as NftError, Socket, TableRef};

use crate::model::IpFamily;
use crate::plan::{Changes, Planner};
use crate::table::{self, Actual};

/// How often a repair is begun again because others changed the ruleset meanwhile.
const REPAIR_ATTEMPTS: usize = 16;

/// Is there where the kernel has IPv6.
const IPV6_ADDRESSES: &str = "/proc/net/if_inet6";

/// The hand on the kernel, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Applier {
    socket: Socket,
    name: String,
    /// By family. Where nobody is isolated there is no table, and no connection is tracked for it.
    has_table: [bool; 2],
    /// Without IPv6 in the kernel there can be no packet of it, and no table.
    has_ipv6: bool,
}

impl Applier {
    /// Opens netlink in the calling thread's network namespace, for tables of this name; changes nothing.
    ///
    /// # Errors
    /// No right to netlink, or no nf_tables in the kernel.
    pub fn open(name: &str) -> Result<Self, NftError> {
        Ok(Self {
            socket: Socket::open()?,
            name: name.to_owned(),
            has_table: [false; 2],
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
            .any(|family| table::table(&self.name, *family) == *table)
    }

    /// Whether there is any table.
    pub fn has_table(&self) -> bool {
        self.has_table.contains(&true)
    }

    /// Applies what changed since the last time.
    ///
    /// # Errors
    /// What the kernel refused; that table is as it was, and [`Applier::verify`] tries the whole.
    pub fn update(&mut self, plan: &Planner, changes: &Changes) -> Result<Applied, NftError> {
        let mut applied = Applied::default();
        for family in IpFamily::ALL {
            applied = applied + self.update_family(plan, changes, family)?;
        }
        Ok(applied)
    }

    fn update_family(
        &mut self,
        plan: &Planner,
        changes: &Changes,
        family: IpFamily,
    ) -> Result<Applied, NftError> {
        match (self.has_table[family as usize], self.is_wanted(plan, family)) {
            (false, false) => Ok(Applied::default()),
            (true, true) => self.commit(&table::batch(&self.name, family, plan, changes), false),
            _ => self.repair(plan, family),
        }
    }

    fn is_wanted(&self, plan: &Planner, family: IpFamily) -> bool {
        plan.is_isolated(family) && (family == IpFamily::V4 || self.has_ipv6)
    }

    fn commit(&mut self, batch: &Batch, repaired: bool) -> Result<Applied, NftError> {
        self.socket.commit(batch)?;
        Ok(Applied {
            commands: batch.len(),
            bytes: batch.wire_len(),
            repaired,
        })
    }

    /// Compares the tables with the plan and mends them; takes over what an earlier run left.
    ///
    /// # Errors
    /// What the kernel refused; nothing was changed in that table then.
    pub fn verify(&mut self, plan: &Planner) -> Result<Applied, NftError> {
        let mut applied = Applied::default();
        for family in IpFamily::ALL {
            applied = applied + self.repair(plan, family)?;
        }
        Ok(applied)
    }

    fn repair(&mut self, plan: &Planner, family: IpFamily) -> Result<Applied, NftError> {
        for _ in 1..REPAIR_ATTEMPTS {
            match self.try_repair(plan, family) {
                Err(NftError::GenerationChanged { .. }) => {}
                done => return done,
            }
        }
        self.try_repair(plan, family)
    }

    fn try_repair(&mut self, plan: &Planner, family: IpFamily) -> Result<Applied, NftError> {
        let table = table::table(&self.name, family);
        let actual = Actual::read(&mut self.socket, &table)?;
        let is_wanted = self.is_wanted(plan, family);
        let batch = match &actual {
            actual if is_wanted => table::repair(&self.name, family, plan, actual.as_ref()),
            Some(actual) => {
                let mut batch = Batch::new(table);
                batch.delete_table();
                batch.expect_generation(actual.generation);
                batch
            }
            None => Batch::new(table),
        };
        let applied = self.commit(&batch, !batch.is_empty())?;
        self.has_table[family as usize] = is_wanted;
        Ok(applied)
    }
}

/// Deletes the tables; those that are not there are fine.
pub fn teardown(name: &str) -> Vec<NftError> {
    let delete = |family| {
        let mut socket = Socket::open()?;
        let table = table::table(name, family);
        if !socket.has_table(&table)? {
            return Ok(());
        }
        let mut batch = Batch::new(table);
        batch.delete_table();
        socket.commit(&batch)
    };
    IpFamily::ALL
        .into_iter()
        .filter_map(|family| delete(family).err())
        .filter(|error| !error.is_not_found())
        .collect()
}
