use knode_nft::Error as NftError;

use super::Applier;
use crate::model::{IpFamily, Name};
use crate::plan::Frontend;
use crate::table::{Decoder, counted_sets};

/// How many connections found a frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCount {
    /// The Service that has it.
    pub service: Name,
    /// In which family.
    pub family: IpFamily,
    /// Which one.
    pub frontend: Frontend,
    /// First packets of connections since the frontend's element was added: it is added anew when the Service gets
    /// its first endpoint, loses its last or changes in kind.
    pub connections: u64,
}

impl Applier {
    /// The frontends that any connection found, as the kernel counts them; the order is of no meaning.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn counts(&mut self) -> Result<Vec<ServiceCount>, NftError> {
        let mut counts = Vec::new();
        for family in IpFamily::ALL
            .into_iter()
            .filter(|family| self.halves[*family as usize].has_table)
        {
            let table = self.config.table(family);
            for set in counted_sets() {
                let read = match self.socket.counters(&table, set) {
                    Ok(read) => read,
                    // Someone has deleted it; it is being mended.
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error),
                };
                let plan = &self.halves[family as usize].plan;
                let named = read.into_iter().filter(|(_, count)| count.packets > 0);
                counts.extend(named.filter_map(|(key, count)| {
                    let frontend = Decoder(family).frontend(&key)?.0;
                    Some(ServiceCount {
                        service: plan.owner(&frontend)?.clone(),
                        family,
                        frontend,
                        connections: count.packets,
                    })
                }));
            }
        }
        Ok(counts)
    }
}
