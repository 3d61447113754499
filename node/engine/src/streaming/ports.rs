//! Connections into a sandbox's network.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use knode_cri::PortForwardRequest;
use tokio::net::TcpStream;

use crate::engine::Core;
use crate::error::Result;
use crate::sandbox::namespace_paths;

/// How long a connection may take: it stays on this machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to ports on a sandbox's own loopback.
pub(super) struct Dialer {
    sandbox: String,
    /// `None` for the host's network.
    namespace: Option<PathBuf>,
    /// Ports that may be asked for; empty for all.
    allowed: Vec<i32>,
}

impl Dialer {
    /// A dialer for the request.
    pub(super) fn new(core: &Core, request: &PortForwardRequest) -> Result<Self> {
        let record = core.sandbox(&request.pod_sandbox_id)?.record();
        Ok(Self {
            namespace: namespace_paths(&core.layout, &record).net,
            sandbox: record.id,
            allowed: request.port.clone(),
        })
    }

    /// A dialer for the host's own ports.
    #[cfg(test)]
    pub(super) fn to_host() -> Self {
        Self {
            sandbox: "test".into(),
            namespace: None,
            allowed: Vec::new(),
        }
    }

    /// Id of the sandbox.
    pub(super) fn sandbox(&self) -> &str {
        &self.sandbox
    }

    /// Connects to a port, by IPv4 if that answers, else by IPv6.
    ///
    /// # Errors
    /// Those of connecting, and for a port that was not asked for.
    pub(super) async fn dial(&self, port: u16) -> io::Result<TcpStream> {
        if !self.allowed.is_empty() && !self.allowed.contains(&i32::from(port)) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("port {port} was not requested"),
            ));
        }
        let namespace = self.namespace.clone();
        let connecting = move || match namespace {
            Some(path) => knode_linux::namespace::in_network(&path, move || connect(port)),
            None => connect(port),
        };
        let stream = tokio::task::spawn_blocking(connecting)
            .await
            .map_err(io::Error::other)??;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

fn connect(port: u16) -> io::Result<std::net::TcpStream> {
    let to = |address: SocketAddr| std::net::TcpStream::connect_timeout(&address, PATIENCE);
    let first = to(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    first.or_else(|error| to(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).map_err(|_| error))
}
