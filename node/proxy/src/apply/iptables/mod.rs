//! Puts the plan into iptables: whole at the start and after a failure, else only the chains that changed.

mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use knode_nft::iptables::Programs;
use knode_nft::{Applied, Socket};

pub use error::IptablesError;

use super::stale::StaleFlows;
use super::{IPV6_ADDRESSES, is_needed};
use crate::iptables::{CANARY, CANARY_TABLES, Forwarding, Fragment, Saved, Tables, full, partial};
use crate::model::{IpFamily, Model, Name};
use crate::plan::{Changes, Plan};
use crate::table::TableConfig;

/// The proxy's hand on iptables, in the network namespace of the thread that uses it.
#[derive(Debug)]
pub struct IptablesApplier {
    socket: Socket,
    config: TableConfig,
    forwarding: Forwarding,
    halves: [Half; 2],
    has_ipv6: bool,
}

/// One family.
#[derive(Debug)]
struct Half {
    programs: Programs,
    plan: Plan,
    /// What every Service contributes.
    fragments: BTreeMap<Name, Fragment>,
    /// Whether the tables are written; one that nobody needs would cost for nothing.
    is_written: bool,
    took: Option<Duration>,
}

impl IptablesApplier {
    /// Looks for the programs and opens netlink for the tracked flows; changes nothing.
    ///
    /// # Errors
    /// [`IptablesError::Missing`], or no right to netlink.
    pub fn open(config: TableConfig, forwarding: Forwarding) -> Result<Self, IptablesError> {
        let half = |family| Half {
            programs: Programs::of(family, ""),
            plan: Plan::empty(family),
            fragments: BTreeMap::new(),
            is_written: false,
            took: None,
        };
        let halves = IpFamily::ALL.map(half);
        let has_ipv6 = Path::new(IPV6_ADDRESSES).exists();
        for half in halves
            .iter()
            .filter(|half| half.plan.family() == IpFamily::V4 || has_ipv6)
        {
            half.programs.check()?;
        }
        Ok(Self {
            socket: Socket::open().map_err(IptablesError::Conntrack)?,
            config,
            forwarding,
            halves,
            has_ipv6,
        })
    }

    /// The frontends of a family as they were applied last.
    pub fn plan(&self, family: IpFamily) -> &Plan {
        &self.halves[family as usize].plan
    }

    /// What the tables of a family are to be.
    pub fn tables(&self, family: IpFamily) -> Tables {
        let half = &self.halves[family as usize];
        Tables::of(&half.fragments, family, &self.config, self.forwarding)
    }

    /// How long the last step took for a family; `None` if it had nothing to do.
    pub fn took(&self, family: IpFamily) -> Option<Duration> {
        self.halves[family as usize].took
    }

    /// Whether there are tables for a family.
    pub fn serves(&self, family: IpFamily) -> bool {
        self.halves[family as usize].is_written
    }

    /// The configuration.
    pub fn config(&self) -> &TableConfig {
        &self.config
    }

    /// Takes another configuration; [`IptablesApplier::verify`] puts it into the tables. Says whether it differs.
    pub fn configure(&mut self, config: TableConfig) -> bool {
        let differs = self.config != config;
        self.config = config;
        differs
    }

    /// Plans the whole model and writes the tables, removing what an earlier run left.
    ///
    /// # Errors
    /// What iptables or the kernel refused; [`IptablesApplier::verify`] tries again.
    pub async fn take_over(&mut self, model: &Model) -> Result<Applied, IptablesError> {
        let mut applied = Applied::default();
        for family in IpFamily::ALL {
            let half = &mut self.halves[family as usize];
            half.plan = Plan::build(model, family, std::collections::HashMap::new());
            half.fragments.clear();
            let names = model.names().cloned().collect();
            half.rewrite(model, &names, &self.config);
            applied = applied + self.write(family).await?;
            let plan = &self.halves[family as usize].plan;
            let stale = StaleFlows::all(plan);
            stale
                .delete(&mut self.socket, plan)
                .map_err(IptablesError::Conntrack)?;
        }
        Ok(applied)
    }

    /// Applies what changed in these Services.
    ///
    /// # Errors
    /// What iptables or the kernel refused; [`IptablesApplier::verify`] tries the whole.
    pub async fn update(&mut self, model: &Model, dirty: BTreeSet<Name>) -> Result<Applied, IptablesError> {
        let steps = self.plan_step(model, &dirty);
        let mut applied = Applied::default();
        for (changes, before) in steps {
            let family = changes.family;
            let began = Instant::now();
            let half = &mut self.halves[family as usize];
            half.took = None;
            if !half.is_written {
                applied = applied + self.write(family).await?;
                continue;
            }
            let text = partial(&before, &half.fragments);
            if text.is_empty() {
                continue;
            }
            half.programs.restore(&text).await?;
            half.took = Some(began.elapsed());
            applied = applied + size_of_text(&text, false);
            let flows = StaleFlows::of(&changes);
            flows
                .delete(&mut self.socket, &half.plan)
                .map_err(IptablesError::Conntrack)?;
        }
        Ok(applied)
    }

    /// Plans what changed in these Services without touching the tables; [`IptablesApplier::verify`] does that.
    pub fn settle(&mut self, model: &Model, dirty: &BTreeSet<Name>) {
        self.plan_step(model, dirty);
    }

    /// Writes the tables anew, which mends what others did to them.
    ///
    /// # Errors
    /// What iptables refused.
    pub async fn verify(&mut self, model: &Model) -> Result<Applied, IptablesError> {
        let mut applied = Applied::default();
        for family in IpFamily::ALL {
            let half = &mut self.halves[family as usize];
            // The configuration may be another one.
            let names = half.fragments.keys().cloned().collect();
            half.rewrite(model, &names, &self.config);
            applied = applied + self.write(family).await?;
        }
        Ok(applied)
    }

    /// Whether the chains are still there by whose absence it is noticed that others have flushed the tables.
    ///
    /// # Errors
    /// What keeps the program from running.
    pub async fn is_intact(&self) -> Result<bool, IptablesError> {
        for half in self.halves.iter().filter(|half| half.is_written) {
            for table in CANARY_TABLES {
                if !half.programs.has_chain(&table.to_string(), CANARY).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The changes of the frontends, and what the Services contributed before, for each family.
    fn plan_step(
        &mut self,
        model: &Model,
        dirty: &BTreeSet<Name>,
    ) -> Vec<(Changes, BTreeMap<Name, Fragment>)> {
        let config = &self.config;
        let step = |half: &mut Half| {
            let changes = half.plan.settle(model, dirty.iter().cloned());
            (changes, half.rewrite(model, dirty, config))
        };
        self.halves.iter_mut().map(step).collect()
    }

    async fn write(&mut self, family: IpFamily) -> Result<Applied, IptablesError> {
        let began = Instant::now();
        let half = &self.halves[family as usize];
        let can_be = family == IpFamily::V4 || self.has_ipv6;
        let is_wanted = half.is_written || (can_be && is_needed(&self.config, &half.plan));
        if !is_wanted {
            return Ok(Applied::default());
        }
        let saved = Saved::parse(&half.programs.save().await?);
        let texts = full(&self.tables(family), &saved);
        let half = &mut self.halves[family as usize];
        let mut applied = Applied::default();
        for text in &texts {
            half.programs.restore(text).await?;
            applied = applied + size_of_text(text, true);
        }
        half.is_written = true;
        half.took = Some(began.elapsed());
        Ok(applied)
    }
}

impl Half {
    /// Plans these Services anew; returns what they contributed before.
    fn rewrite(
        &mut self,
        model: &Model,
        names: &BTreeSet<Name>,
        config: &TableConfig,
    ) -> BTreeMap<Name, Fragment> {
        let family = self.plan.family();
        let mut before = BTreeMap::new();
        for name in names {
            let new = Fragment::of(model, name, family, config);
            let old = if new.is_empty() {
                self.fragments.remove(name)
            } else {
                self.fragments.insert(name.clone(), new)
            };
            before.insert(name.clone(), old.unwrap_or_default());
        }
        before
    }
}

fn size_of_text(text: &str, repaired: bool) -> Applied {
    Applied {
        commands: text.lines().count(),
        bytes: text.len(),
        repaired,
    }
}
