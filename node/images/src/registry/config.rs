//! How registries are reached.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::retry::RetryPolicy;
use crate::reference::Reference;

/// How registries are reached: HTTPS, but for loopback names and those listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// Registries (`host` or `host:port`) spoken to without TLS. Loopback addresses need not be listed.
    pub plain_http: Vec<String>,
    /// A directory of containerd's `certs.d` layout, or several with colons between them, read anew for each pull:
    /// `<dir>/<host[:port]>/hosts.toml`, or Docker's `*.crt`, `*.cert` and `*.key` there; `_default` stands for
    /// registries without a directory of their own. The first that has something for a registry counts.
    pub certs_dir: Option<PathBuf>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How often a broken transfer is taken up again.
    pub retry: RetryPolicy,
}

/// How long to wait for a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection with its TLS handshake.
    pub connect: Duration,
    /// For the head of an answer.
    pub answer: Duration,
    /// For the next kilobyte of a body.
    pub stall: Duration,
}

impl Default for Timeouts {
    /// 30 s each for a connection, and as Docker's client does; 60 s for the head of an answer, for registries that
    /// fetch from elsewhere first.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(30),
        }
    }
}

impl Registries {
    /// True when this registry is spoken to without TLS, unless its directory says otherwise.
    pub fn is_plain(&self, reference: &Reference) -> bool {
        let host = reference.host();
        let loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        loopback
            || self
                .plain_http
                .iter()
                .any(|name| *name == reference.domain || name == host)
    }
}
