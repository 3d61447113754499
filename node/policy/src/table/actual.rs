use std::collections::HashMap;

use knode_nft::{Chain, Error, Rule, Set, Socket, TableRef};

use super::elements::Found;

/// The table as the kernel has it.
#[derive(Debug, Default)]
pub struct Actual {
    /// The generation of the ruleset that it was read at.
    pub generation: u32,
    /// Its sets by name; `None` for one that this program cannot have made.
    pub sets: HashMap<String, Option<Set>>,
    /// Its chains by name; `None` for one that this program cannot have made.
    pub chains: HashMap<String, Option<Chain>>,
    /// Its rules by chain, in order.
    pub rules: HashMap<String, Vec<Rule>>,
    /// The elements by set and key.
    pub elements: HashMap<String, HashMap<Vec<u8>, Found>>,
}

impl Actual {
    /// Reads the table; `None` if there is none. Nothing changes meanwhile, or it is read again.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn read(socket: &mut Socket, table: &TableRef) -> Result<Option<Self>, Error> {
        loop {
            let generation = socket.generation()?;
            let read = Self::read_once(socket, table);
            if socket.generation()? == generation {
                return Ok(read?.map(|actual| Self { generation, ..actual }));
            }
        }
    }

    fn read_once(socket: &mut Socket, table: &TableRef) -> Result<Option<Self>, Error> {
        if !socket.has_table(table)? {
            return Ok(None);
        }
        let mut actual = Self::default();
        for set in socket.sets(table)? {
            match set.object {
                Ok(set) => actual.sets.insert(set.name.clone(), Some(set)),
                Err(name) => actual.sets.insert(name, None),
            };
        }
        for chain in socket.chains(table)? {
            match chain.object {
                Ok(chain) => actual.chains.insert(chain.name.clone(), Some(chain)),
                Err(name) => actual.chains.insert(name, None),
            };
        }
        let rules = socket.rules(table)?.into_iter();
        for rule in rules.filter_map(|listed| listed.object.ok()) {
            actual.rules.entry(rule.chain.clone()).or_default().push(rule);
        }
        for set in actual.sets.values().flatten() {
            let elements = socket.elements(table, &set.name, set.interval)?.into_iter();
            let keyed = elements.map(|element| (element.key, (element.end, element.data)));
            actual.elements.insert(set.name.clone(), keyed.collect());
        }
        Ok(Some(actual))
    }
}
