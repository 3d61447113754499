//! A map of the kernel's that follows what is wanted of it.

use std::collections::BTreeMap;

use knode_bpf::HashMap;

use crate::error::{Error, Result};

/// A map and what is in it.
#[derive(Debug)]
pub(crate) struct Table<const K: usize, const V: usize> {
    map: HashMap<K, V>,
    entries: BTreeMap<[u8; K], [u8; V]>,
}

impl<const K: usize, const V: usize> Table<K, V> {
    /// An empty one.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn new(name: &'static str, capacity: u32) -> Result<Self> {
        Ok(Self {
            map: HashMap::new(name, capacity).map_err(Error::kernel("make a map of tunnels"))?,
            entries: BTreeMap::new(),
        })
    }

    pub fn map(&self) -> &HashMap<K, V> {
        &self.map
    }

    /// Brings the map to this; what is no longer wanted goes first.
    ///
    /// # Errors
    /// [`Error::Kernel`]; what was done before stays known.
    pub fn bring(&mut self, wanted: BTreeMap<[u8; K], [u8; V]>) -> Result<()> {
        let failed = || Error::kernel("change a map of tunnels");
        let gone = self.entries.keys().filter(|key| !wanted.contains_key(*key));
        for key in gone.copied().collect::<Vec<_>>() {
            self.map.remove(&key).map_err(failed())?;
            self.entries.remove(&key);
        }
        for (key, value) in wanted {
            if self.entries.get(&key) != Some(&value) {
                self.map.insert(&key, &value).map_err(failed())?;
                self.entries.insert(key, value);
            }
        }
        Ok(())
    }
}
