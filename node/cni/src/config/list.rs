//! A network: plugins that are called one after the other.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::version::Version;

/// A network's configuration, with every plugin in it.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    /// Its name.
    pub name: String,
    /// The version of the specification that its plugins are spoken to in.
    pub version: Version,
    /// CHECK must not be called.
    pub disable_check: bool,
    /// GC must not be called: others attach containers to this network too.
    pub disable_gc: bool,
    /// In the order of ADD; never empty.
    pub plugins: Vec<Plugin>,
}

/// A plugin's part of a network's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// The name of its program.
    pub kind: String,
    /// What it wants to be told of.
    pub capabilities: BTreeSet<String>,
    /// Everything, as it was written.
    pub config: Map<String, Value>,
}

impl NetworkList {
    /// The configuration as one list, plugins of other files written out: what an attachment is recorded with.
    pub fn to_json(&self) -> Value {
        let plugins: Vec<_> = self.plugins.iter().map(|p| &p.config).collect();
        json!({
            "cniVersion": self.version.as_str(),
            "name": self.name,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "loadOnlyInlinedPlugins": true,
            "plugins": plugins,
        })
    }

    /// The types of its plugins, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().map(|p| p.kind.as_str())
    }
}
