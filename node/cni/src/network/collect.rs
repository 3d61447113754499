//! Garbage: attachments of containers that are no more.

use std::collections::HashSet;

use super::Cni;
use super::status::failure;
use crate::call::{self, Command};
use crate::error::{Error, Result};
use crate::version::Version;

/// What a collection did.
#[derive(Debug, Default)]
pub struct Collected {
    /// Containers that were detached.
    pub detached: Vec<String>,
    /// What failed; the rest was done.
    pub errors: Vec<Error>,
}

impl Cni {
    /// Detaches every container that this client attached but the living, from whatever it was attached to; then
    /// tells the network's plugins which attachments are left (GC), where their version has that and the network does
    /// not forbid it.
    ///
    /// # Errors
    /// [`Error::Cache`] when the attachments cannot be listed.
    pub async fn gc(&self, live: &HashSet<String>) -> Result<Collected> {
        let _alone = self.inner.turn.write().await;
        let mut collected = Collected::default();
        for record in self.inner.cache.all()? {
            if live.contains(&record.container_id) {
                continue;
            }
            match self.detach(&record).await {
                Ok(()) => collected.detached.push(record.container_id),
                Err(error) => collected.errors.push(error),
            }
        }
        self.tell(&mut collected).await?;
        Ok(collected)
    }

    async fn tell(&self, collected: &mut Collected) -> Result<()> {
        let Ok(network) = self.network() else {
            return Ok(());
        };
        let list = network.list;
        if list.version < Version::V1_1_0 || list.disable_gc {
            return Ok(());
        }
        let records = self
            .inner
            .cache
            .all()?
            .into_iter()
            .filter(|r| r.network == list.name);
        let valid: Vec<_> = records.map(|r| (r.container_id, r.interface)).collect();
        let executor = self.current();
        for plugin in &list.plugins {
            let answer = executor.call(&call::gc(&list, plugin, &valid)).await;
            let failed = answer.err().map(|e| failure(&list, plugin, Command::Gc, e));
            collected.errors.extend(failed);
        }
        Ok(())
    }
}
