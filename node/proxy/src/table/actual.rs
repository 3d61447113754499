use std::collections::HashMap;

use knode_nft::{Chain, Data, Error, Rule, Set, Socket};

use super::TableConfig;
use super::elements::{AFFINITY, AFFINITY_HERE, planned_sets};
use crate::model::IpFamily;

/// The table as the kernel has it.
#[derive(Debug, Default)]
pub struct Actual {
    /// Of which family's table.
    pub family: IpFamily,
    /// The generation of the ruleset that it was read at.
    pub generation: u32,
    /// Its sets by name; `None` for one that this program cannot have made.
    pub sets: HashMap<String, Option<Set>>,
    /// Its chains by name; `None` for one that this program cannot have made.
    pub chains: HashMap<String, Option<Chain>>,
    /// Its rules by chain, in order.
    pub rules: HashMap<String, Vec<Rule>>,
    /// The elements by set and key; those of the map of clients are not among them.
    pub elements: HashMap<&'static str, HashMap<Vec<u8>, Option<Data>>>,
}

impl Actual {
    /// Reads the table; `None` if there is none. Nothing changes meanwhile, or it is read again.
    pub fn read(socket: &mut Socket, config: &TableConfig, family: IpFamily) -> Result<Option<Self>, Error> {
        loop {
            let generation = socket.generation()?;
            let read = Self::read_once(socket, config, family);
            if socket.generation()? == generation {
                return Ok(read?.map(|actual| Self { generation, ..actual }));
            }
        }
    }

    fn read_once(socket: &mut Socket, config: &TableConfig, family: IpFamily) -> Result<Option<Self>, Error> {
        let table = config.table(family);
        if !socket.has_table(&table)? {
            return Ok(None);
        }
        let mut actual = Self {
            family,
            ..Self::default()
        };
        for set in socket.sets(&table)? {
            match set.object {
                Ok(set) => actual.sets.insert(set.name.clone(), Some(set)),
                Err(name) => actual.sets.insert(name, None),
            };
        }
        for chain in socket.chains(&table)? {
            match chain.object {
                Ok(chain) => actual.chains.insert(chain.name.clone(), Some(chain)),
                Err(name) => actual.chains.insert(name, None),
            };
        }
        for rule in socket
            .rules(&table)?
            .into_iter()
            .filter_map(|listed| listed.object.ok())
        {
            actual.rules.entry(rule.chain.clone()).or_default().push(rule);
        }
        for set in planned_sets() {
            if actual.sets.contains_key(set) {
                let elements = socket.elements(&table, set, false)?;
                let keyed = elements
                    .into_iter()
                    .map(|element| (element.key, element.data))
                    .collect();
                actual.elements.insert(set, keyed);
            }
        }
        Ok(Some(actual))
    }

    /// Whether the map of clients is there to be read.
    pub fn has_affinity(&self) -> bool {
        [AFFINITY, AFFINITY_HERE]
            .iter()
            .all(|set| self.sets.contains_key(*set))
    }
}
