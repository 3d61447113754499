use std::collections::BTreeMap;

use super::{Chains, Table};

/// What `iptables-save` prints of one table or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    is_nf_tables: bool,
    tables: BTreeMap<String, Chains>,
}

impl Saved {
    /// Reads the output; lines of other kinds, such as comments, say nothing.
    pub fn parse(text: &str) -> Self {
        let mut saved = Self {
            // The first line names the program with what it is built on.
            is_nf_tables: text
                .lines()
                .next()
                .is_some_and(|line| line.contains("(nf_tables)")),
            ..Self::default()
        };
        let mut table = String::new();
        for line in text.lines() {
            let chains = saved.tables.entry(table.clone()).or_default();
            if let Some(name) = line.strip_prefix('*') {
                table = name.to_owned();
            } else if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split(' ').next().unwrap_or_default();
                chains.entry(name.to_owned()).or_default();
            } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rule| rule.split_once(' '))
            {
                chains.entry(chain.to_owned()).or_default().push(rule.to_owned());
            }
        }
        saved.tables.retain(|_, chains| !chains.is_empty());
        saved
    }

    /// Whether this iptables is built on nf_tables.
    pub fn is_nf_tables(&self) -> bool {
        self.is_nf_tables
    }

    /// The chains of a table.
    pub fn table(&self, table: Table) -> Option<&Chains> {
        self.tables.get(&table.to_string())
    }

    /// All tables by name.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &Chains)> {
        self.tables.iter().map(|(name, chains)| (name.as_str(), chains))
    }
}
