//! `KubeProxyConfiguration` v1alpha1 and upstream's flags, to [`ProxyConfig`]; pure.

mod file;
mod flags;
mod settle;

use std::net::SocketAddr;
use std::path::PathBuf;

use knode_client::Client;

pub use file::KubeProxyConfiguration;

use crate::edge::{ProxyConfig, ProxyOptions};
use crate::table::TableConfig;

/// Why a command line or a file cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag that no version of the program has.
    #[error("unknown flag: --{0}")]
    UnknownFlag(String),
    /// A flag that wants a value and has none.
    #[error("flag needs an argument: --{0}")]
    NoValue(String),
    /// A word that is no flag.
    #[error("unexpected argument {0:?}")]
    Argument(String),
    /// A value that is not what its name asks for.
    #[error("invalid value {value:?} for {name}: {problem}")]
    Value {
        /// The flag or field.
        name: String,
        /// What it was set to.
        value: String,
        /// What it should have been.
        problem: String,
    },
    /// Something that upstream has and this program has not.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("cannot parse the configuration")]
    Parse(#[source] serde_norway::Error),
}

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Serve.
    Run,
    /// Remove the tables and end.
    Cleanup,
    /// Say which version it is.
    Version,
    /// List the flags.
    Help,
}

/// A command line and its file, understood.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What to do.
    pub action: Action,
    /// The way to the API server; without it, that of the pod that the program runs in.
    pub kubeconfig: Option<PathBuf>,
    /// Where the API server is, if not where the kubeconfig says.
    pub master: Option<String>,
    /// The node's name, if not the host's.
    pub hostname_override: Option<String>,
    /// See [`ProxyConfig::health`].
    pub health: Option<SocketAddr>,
    /// See [`ProxyConfig::metrics`].
    pub metrics: Option<SocketAddr>,
    /// See [`ProxyConfig::table`].
    pub table: TableConfig,
    /// See [`ProxyConfig::options`].
    pub options: ProxyOptions,
    /// How much is logged, as `--v` counts.
    pub verbosity: u8,
    /// What was accepted, and what it does not do.
    pub warnings: Vec<String>,
}

impl Settings {
    /// What the flags listed by `--help` are.
    pub const USAGE: &'static str = flags::USAGE;

    /// Understands a command line; `read` reads the file that it names.
    ///
    /// # Errors
    /// [`ConfigError`], naming the flag or field.
    pub fn parse(
        args: &[String],
        read: impl Fn(&std::path::Path) -> std::io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let mut line = flags::CommandLine::parse(args)?;
        if let Some(path) = line.config_file.take() {
            let text = read(&path).map_err(|source| ConfigError::Read { path, source })?;
            line.take_file(KubeProxyConfiguration::parse(&text)?);
        }
        settle::settle(line)
    }

    /// The configuration for a node of this name.
    pub fn proxy_config(&self, client: Client, node_name: String) -> ProxyConfig {
        ProxyConfig {
            client,
            node_name,
            table: self.table.clone(),
            health: self.health,
            metrics: self.metrics,
            options: self.options.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
