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

    /// Which of these wishes none of its plugins declares, and so nobody will carry out.
    pub fn unheard<'a>(&self, capabilities: &'a Map<String, Value>) -> Vec<&'a str> {
        let wishes = ["portMappings", "bandwidth", "ips", "mac"];
        let names = capabilities.keys().map(String::as_str);
        let heard = |name: &str| self.plugins.iter().any(|p| p.capabilities.contains(name));
        names
            .filter(|name| wishes.contains(name) && !heard(name))
            .collect()
    }

    /// The types of its plugins, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().map(|p| p.kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_list;

    #[test]
    fn wishes_that_no_plugin_declares_are_named() {
        let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[
            {"type":"a"},{"type":"b","capabilities":{"portMappings":true,"mac":false}}]}"#;
        let list = parse_list(text.as_bytes()).unwrap();
        let told = [
            "bandwidth",
            "mac",
            "portMappings",
            "cgroupPath",
            "io.kubernetes.cri.pod-annotations",
        ];
        let told = told
            .map(|name| (name.to_owned(), Value::Null))
            .into_iter()
            .collect();
        assert_eq!(list.unheard(&told), ["bandwidth", "mac"]);
    }
}
