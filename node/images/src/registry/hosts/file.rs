//! What `hosts.toml` says, as a value.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::endpoint::TlsFiles;

/// A whole file: the registry's own entry and those of its mirrors, in the file's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostsFile {
    pub server: HostEntry,
    pub hosts: Vec<(String, HostEntry)>,
}

/// The fields of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostEntry {
    /// The field `server`, of the registry's own entry alone.
    pub url: Option<String>,
    pub resolve: bool,
    pub pull: bool,
    pub tls: TlsFiles,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub override_path: bool,
    pub dial_timeout: Option<Duration>,
}

impl Default for HostEntry {
    fn default() -> Self {
        Self {
            url: None,
            resolve: true,
            pull: true,
            tls: TlsFiles::default(),
            headers: Vec::new(),
            override_path: false,
            dial_timeout: None,
        }
    }
}
