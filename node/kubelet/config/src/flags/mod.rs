//! Command lines as upstream's kubelet takes them (pflag), old ones included.

mod old;
mod parse;
mod shown;
mod table;
mod usage;
mod value;

use std::collections::BTreeMap;

use serde_json::Value;

pub use parse::parse;
pub use usage::usage;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// To run.
    #[default]
    Run,
    /// The list of flags.
    Help,
    /// The version.
    Version,
}

/// Flags that no configuration file has a field for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Own {
    /// `--config`: the configuration file.
    Config,
    /// `--config-dir`: the directory of drop-ins.
    ConfigDir,
    /// `--kubeconfig`: the node's, written by the bootstrap.
    Kubeconfig,
    /// `--bootstrap-kubeconfig`: the credential for the first certificate.
    BootstrapKubeconfig,
    /// `--hostname-override`: the node's name.
    HostnameOverride,
    /// `--node-ip`: its addresses, one of each family.
    NodeIp,
    /// `--node-labels`: labels to register with.
    NodeLabels,
    /// `--cert-dir`: where certificates are kept.
    CertDir,
    /// `--root-dir`: where the pods' files are kept.
    RootDir,
    /// `--cni-conf-dir`, of the time of docker.
    CniConfDir,
    /// `--cni-bin-dir`, of the time of docker.
    CniBinDir,
    /// `--image-credential-provider-config`: programs that give credentials for images.
    ProviderConfig,
    /// `--image-credential-provider-bin-dir`: where those programs are.
    ProviderBinDir,
    /// `--v`: how much is logged.
    Verbosity,
}

/// A command line, understood but not yet put over a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandLine {
    /// What is asked for.
    pub command: Command,
    /// Values of the flags without a field.
    pub own: BTreeMap<Own, String>,
    /// What was accepted and means something else than it says, or nothing.
    pub warnings: Vec<String>,
    /// Flags that speak of docker, which this kubelet doesn't use.
    pub docker: Vec<String>,
    /// Fields by path, each with the flag that set it.
    pub(crate) fields: BTreeMap<String, (Value, String)>,
}

impl CommandLine {
    /// Sets a field as if its flag had been given with this text; for callers with command lines of their own.
    ///
    /// # Errors
    /// [`crate::Error::UnknownFlag`], [`crate::Error::FlagValue`] and the others of a flag.
    pub fn set(&mut self, flag: &str, text: &str) -> crate::Result<()> {
        parse::set(self, flag, text)
    }

    /// Sets the field at a path by a flag that is the caller's own.
    ///
    /// # Errors
    /// As [`CommandLine::set`].
    pub fn set_field(&mut self, flag: &str, path: &str, text: &str) -> crate::Result<()> {
        parse::set_field(self, flag, path, text)
    }

    /// The value of a flag without a field.
    pub fn own(&self, flag: Own) -> Option<&str> {
        self.own
            .get(&flag)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests;
