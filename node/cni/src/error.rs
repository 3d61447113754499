//! What can go wrong.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::call::Command;
use crate::config::{Broken, Loaded};
use crate::result::ResultError;
use crate::version::Version;

/// An error of the CNI client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory holds no configuration.
    #[error("cni plugin not initialized: no network config found in {}", .0.display())]
    NoNetwork(PathBuf),
    /// The directory holds configurations, but none that can be used.
    #[error("cni config load failed: {}", join(&.0.broken))]
    Unusable(Arc<Loaded>),
    /// What is to be attached cannot be told to plugins.
    #[error("cni: {0}")]
    Attachment(String),
    /// A plugin failed; what had been done was taken back, except for what `undo` tells.
    #[error("{}{}", failure.heading(), more(undo))]
    Plugin {
        /// The plugin that failed, and how.
        #[source]
        failure: Box<Failure>,
        /// What could not be taken back.
        undo: Vec<Failure>,
    },
    /// The plugins did their part, but the container's interface has no address.
    #[error("cni: the result of network {network:?} has no address for interface {interface:?}")]
    NoAddress {
        /// The network.
        network: String,
        /// The interface that was to get one.
        interface: String,
    },
    /// CHECK is not part of the network's version.
    #[error("cni: version {0} of the specification does not have the CHECK command")]
    NoCheck(Version),
    /// A plugin of the network does not speak its version.
    #[error("cni: plugin {plugin:?} does not speak version {version} of the specification, only {}", spoken.join(", "))]
    PluginVersion {
        /// The plugin.
        plugin: String,
        /// The network's version.
        version: Version,
        /// What the plugin speaks.
        spoken: Vec<String>,
    },
    /// A record of an attachment could not be read or written.
    #[error("{doing} the record of an attachment, {}", path.display())]
    Cache {
        /// The operation.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// [`std::result::Result`] with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call of a plugin that failed.
#[derive(Debug)]
pub struct Failure {
    /// The plugin's type.
    pub plugin: String,
    /// The network's name.
    pub network: String,
    /// What it was asked.
    pub command: Command,
    /// How it failed.
    pub error: CallError,
}

impl Failure {
    /// Who failed at what, in upstream's words.
    fn heading(&self) -> String {
        let verb = self.command.verb();
        format!(
            "plugin type={:?} name={:?} failed ({verb})",
            self.plugin, self.network
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// How a call of a plugin failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No directory has the program.
    #[error("failed to find plugin {plugin:?} in path [{}]", shown(path))]
    NotFound {
        /// The plugin's type, which is the program's name.
        plugin: String,
        /// Where it was looked for.
        path: Vec<PathBuf>,
    },
    /// It could not be executed.
    #[error("execute {}", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("it did not end within {0:?} and was killed")]
    Timeout(Duration),
    /// It said too much and was killed.
    #[error("it printed more than {0} bytes and was killed")]
    TooMuch(usize),
    /// It said itself why.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// It ended badly without a reason in the specification's form.
    #[error("{status} without a reason; it printed {output:?}")]
    Silent {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed, standard error if standard output was empty.
        output: String,
    },
    /// Its result is not one.
    #[error("its result is not usable")]
    Result(#[from] ResultError),
}

/// Why a plugin failed, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PluginError {
    /// Number: below 100 the specification's, from 100 on the plugin's.
    pub code: u32,
    /// Short.
    pub msg: String,
    /// Long.
    pub details: String,
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        write!(f, " (code {})", self.code)
    }
}

impl std::error::Error for PluginError {}

fn join(broken: &[Broken]) -> String {
    broken
        .iter()
        .map(Broken::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

fn more(undo: &[Failure]) -> String {
    if undo.is_empty() {
        return String::new();
    }
    let told: Vec<_> = undo
        .iter()
        .map(|f| format!("{}: {}", f.heading(), chain(f)))
        .collect();
    format!(" (and was not undone: {})", told.join("; "))
}

fn shown(path: &[PathBuf]) -> String {
    path.iter()
        .map(|p| p.display().to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
