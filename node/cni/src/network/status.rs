//! Whether containers can be attached.

use std::sync::Arc;

use serde::Deserialize;

use super::{Cni, lock};
use crate::call::{self, Command};
use crate::config::{NetworkList, Plugin};
use crate::error::{CallError, Error, Failure, Result};
use crate::exec::Executor;
use crate::version::Version;

/// What VERSION answers.
#[derive(Deserialize)]
struct Spoken {
    #[serde(default, rename = "supportedVersions")]
    versions: Vec<String>,
}

impl Cni {
    /// Whether containers can be attached now: there is a network, its plugins are there and speak its version, and
    /// from 1.1.0 on they say so themselves.
    ///
    /// # Errors
    /// Why not.
    pub async fn status(&self) -> Result<()> {
        let list = self.network()?.list;
        let executor = self.current();
        for plugin in &list.plugins {
            let found = executor.find(&plugin.kind);
            found.map_err(|error| failure(&list, plugin, Command::Status, error))?;
        }
        self.speak(&executor, &list).await?;
        if list.version < Version::V1_1_0 {
            return Ok(());
        }
        for plugin in &list.plugins {
            let answer = executor.call(&call::status(&list, plugin)).await;
            answer.map_err(|error| failure(&list, plugin, Command::Status, error))?;
        }
        Ok(())
    }

    /// Asks the plugins for their versions, once for each network that comes.
    async fn speak(&self, executor: &Executor, list: &Arc<NetworkList>) -> Result<()> {
        if lock(&self.inner.asked)
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, list))
        {
            return Ok(());
        }
        for plugin in &list.plugins {
            let answer = executor.call(&call::version(list, plugin)).await;
            let spoken = answer.and_then(|output| {
                let spoken: Spoken =
                    serde_json::from_slice(&output).map_err(crate::result::ResultError::from)?;
                Ok(spoken.versions)
            });
            let spoken = spoken.map_err(|error| failure(list, plugin, Command::Version, error))?;
            if !spoken.iter().any(|v| v == list.version.as_str()) {
                return Err(Error::PluginVersion {
                    plugin: plugin.kind.clone(),
                    version: list.version,
                    spoken,
                });
            }
        }
        *lock(&self.inner.asked) = Some(list.clone());
        Ok(())
    }

    pub(super) fn current(&self) -> Executor {
        Executor {
            path: self.inner.config.bin_dirs.clone(),
            bound: self.inner.config.bound,
        }
    }
}

pub(super) fn failure(list: &NetworkList, plugin: &Plugin, command: Command, error: CallError) -> Error {
    Error::Plugin {
        failure: Box::new(Failure {
            plugin: plugin.kind.clone(),
            network: list.name.clone(),
            command,
            error,
        }),
        undo: Vec::new(),
    }
}
