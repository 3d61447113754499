//! One file's content (`libcni/conf.go`).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::list::{NetworkList, Plugin};
use crate::attachment::is_name;
use crate::version::{Version, VersionError};

/// Why a file is not a network's configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("{0}")]
    Unreadable(String),
    /// Not JSON; the message tells line and column.
    #[error(transparent)]
    Syntax(#[from] serde_json::Error),
    /// A field is missing or of the wrong kind.
    #[error("{at}: {problem}")]
    Field {
        /// Where, as a path such as `plugins[1].type`.
        at: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No version that is spoken.
    #[error("cniVersion: {0}")]
    Version(VersionError),
}

fn wrong(at: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Field {
        at: at.into(),
        problem: problem.into(),
    }
}

/// A list as it stands in its file, and whether files beside it may add plugins.
pub(super) struct Head {
    pub list: NetworkList,
    pub only_inlined: bool,
}

/// Reads a list that has all its plugins written out.
pub(crate) fn parse_list(bytes: &[u8]) -> Result<NetworkList, ConfigError> {
    finish(parse_head(bytes)?.list)
}

/// A network needs a plugin.
pub(super) fn finish(list: NetworkList) -> Result<NetworkList, ConfigError> {
    if list.plugins.is_empty() {
        return Err(wrong("plugins", "there are none"));
    }
    Ok(list)
}

/// Reads a `.conflist`.
pub(super) fn parse_head(bytes: &[u8]) -> Result<Head, ConfigError> {
    let raw = object(bytes)?;
    let only_inlined = flag(&raw, "loadOnlyInlinedPlugins")?;
    let plugins = match raw.get("plugins") {
        None if only_inlined => {
            return Err(wrong("plugins", "missing, while loadOnlyInlinedPlugins is true"));
        }
        None => Vec::new(),
        Some(Value::Array(entries)) if entries.is_empty() => {
            return Err(wrong("plugins", "the list is empty"));
        }
        Some(Value::Array(entries)) => {
            let entries = entries.iter().enumerate();
            let parsed = entries.map(|(n, entry)| plugin(entry, &format!("plugins[{n}]")));
            parsed.collect::<Result<_, _>>()?
        }
        Some(other) => {
            return Err(wrong(
                "plugins",
                format!("a list is needed, not {}", kind_of(other)),
            ));
        }
    };
    let list = NetworkList {
        name: name(&raw)?,
        version: version(&raw)?,
        disable_check: flag(&raw, "disableCheck")?,
        disable_gc: flag(&raw, "disableGC")?,
        plugins,
    };
    Ok(Head { list, only_inlined })
}

/// Reads a `.conf` or `.json`: one plugin, which is its network's only one.
pub(super) fn parse_single(bytes: &[u8]) -> Result<NetworkList, ConfigError> {
    let raw = object(bytes)?;
    if raw.contains_key("plugins") && !raw.contains_key("type") {
        let problem = "a list of plugins stands in a file whose name does not end in .conflist";
        return Err(wrong("plugins", problem));
    }
    let (name, version) = (name(&raw)?, version(&raw)?);
    let plugins = vec![plugin(&Value::Object(raw), "")?];
    Ok(NetworkList {
        name,
        version,
        disable_check: false,
        disable_gc: false,
        plugins,
    })
}

/// Reads a file that adds a plugin to a list.
pub(super) fn parse_plugin(bytes: &[u8]) -> Result<Plugin, ConfigError> {
    plugin(&Value::Object(object(bytes)?), "")
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    match serde_json::from_slice(bytes)? {
        Value::Object(map) => Ok(map),
        other => Err(wrong(
            "the whole",
            format!("an object is needed, not {}", kind_of(&other)),
        )),
    }
}

fn plugin(value: &Value, at: &str) -> Result<Plugin, ConfigError> {
    let path = |field: &str| match at {
        "" => field.to_owned(),
        at => format!("{at}.{field}"),
    };
    let Value::Object(config) = value else {
        return Err(wrong(at, format!("an object is needed, not {}", kind_of(value))));
    };
    let kind = match config.get("type") {
        Some(Value::String(kind)) if !kind.is_empty() => kind.clone(),
        Some(Value::String(_)) | None => return Err(wrong(path("type"), "missing")),
        Some(other) => {
            return Err(wrong(
                path("type"),
                format!("a string is needed, not {}", kind_of(other)),
            ));
        }
    };
    if kind.contains('/') {
        return Err(wrong(
            path("type"),
            format!("{kind:?} is not the name of a program"),
        ));
    }
    Ok(Plugin {
        kind,
        capabilities: capabilities(config.get("capabilities"), &path("capabilities"))?,
        config: config.clone(),
    })
}

fn capabilities(value: Option<&Value>, at: &str) -> Result<BTreeSet<String>, ConfigError> {
    match value {
        None | Some(Value::Null) => Ok(BTreeSet::new()),
        Some(Value::Object(map)) => {
            if let Some((name, other)) = map.iter().find(|(_, v)| !v.is_boolean()) {
                let problem = format!("true or false is needed, not {}", kind_of(other));
                return Err(wrong(format!("{at}.{name}"), problem));
            }
            let wanted = map.iter().filter(|(_, v)| **v == json!(true));
            Ok(wanted.map(|(name, _)| name.clone()).collect())
        }
        Some(other) => Err(wrong(at, format!("an object is needed, not {}", kind_of(other)))),
    }
}

fn name(raw: &Map<String, Value>) -> Result<String, ConfigError> {
    match raw.get("name") {
        Some(Value::String(name)) if is_name(name) => Ok(name.clone()),
        Some(Value::String(name)) => {
            let problem = format!(
                "{name:?} does not begin with a letter or digit, or has other characters than these and _.-"
            );
            Err(wrong("name", problem))
        }
        Some(other) => Err(wrong(
            "name",
            format!("a string is needed, not {}", kind_of(other)),
        )),
        None => Err(wrong("name", "missing")),
    }
}

fn version(raw: &Map<String, Value>) -> Result<Version, ConfigError> {
    let one = match raw.get("cniVersion") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(other) => {
            return Err(wrong(
                "cniVersion",
                format!("a string is needed, not {}", kind_of(other)),
            ));
        }
    };
    let many = match raw.get("cniVersions") {
        None => Vec::new(),
        Some(Value::Array(entries)) => {
            let texts = entries.iter().enumerate().map(|(n, entry)| {
                let text = entry.as_str().map(str::to_owned);
                let problem = || format!("a string is needed, not {}", kind_of(entry));
                text.ok_or_else(|| wrong(format!("cniVersions[{n}]"), problem()))
            });
            texts.collect::<Result<_, _>>()?
        }
        Some(other) => {
            return Err(wrong(
                "cniVersions",
                format!("a list is needed, not {}", kind_of(other)),
            ));
        }
    };
    Version::negotiate(one, &many).map_err(ConfigError::Version)
}

/// A boolean, which upstream also takes as a string.
fn flag(raw: &Map<String, Value>, key: &str) -> Result<bool, ConfigError> {
    match raw.get(key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => Err(wrong(key, format!("true or false is needed, not {other}"))),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
