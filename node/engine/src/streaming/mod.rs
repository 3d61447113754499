//! The streaming server: exec, attach and port forwarding over upgraded HTTP connections.
//!
//! The CRI answers such requests with a URL on loopback that carries a one-time token; whoever has the URL
//! connects there and speaks WebSocket or SPDY/3.1. Both become the same two channels ([`channel`]), behind
//! which [`process`] knows no protocol.

mod channel;
mod ports;
mod process;
mod server;
mod spdy;
mod tokens;
mod websocket;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use knode_cri::{AttachRequest, ExecRequest, PortForwardRequest};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::engine::Core;
use crate::error::{EngineError, Result};
pub(crate) use spdy::fuzz;
use tokens::{Tokens, Wanted};

/// The streaming server of an engine. It listens from the first stream on.
pub(crate) struct Streaming {
    wanted: SocketAddr,
    tokens: Tokens,
    running: Mutex<Option<Running>>,
}

struct Running {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Streaming {
    /// A server that will listen on this address.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for one that other machines can reach.
    pub(crate) fn new(wanted: SocketAddr) -> Result<Self> {
        if !wanted.ip().is_loopback() {
            let text = format!("the streaming server must listen on loopback, not {wanted}");
            return Err(EngineError::Invalid(text));
        }
        Ok(Self {
            wanted,
            tokens: Tokens::default(),
            running: Mutex::new(None),
        })
    }

    /// Where it listens.
    fn address(&self, core: &Arc<Core>) -> Result<SocketAddr> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            return Ok(running.address);
        }
        let start = || -> std::io::Result<Running> {
            let listener = std::net::TcpListener::bind(self.wanted)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let listener = TcpListener::from_std(listener)?;
            Ok(Running {
                address,
                task: tokio::spawn(server::accept(listener, Arc::downgrade(core))),
            })
        };
        let started = start().map_err(|source| EngineError::Streaming {
            address: self.wanted,
            source,
        })?;
        Ok(running.insert(started).address)
    }

    fn url(&self, core: &Arc<Core>, path: &str, wanted: Wanted) -> Result<String> {
        let address = self.address(core)?;
        let token = self.tokens.issue(wanted)?;
        Ok(format!("http://{address}/{path}/{token}"))
    }

    /// What a token stands for; it is of no use after that.
    pub(crate) fn redeem(&self, token: &str) -> Option<Wanted> {
        self.tokens.redeem(token)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running {
            running.task.abort();
        }
    }
}

impl Core {
    /// A URL that streams a command.
    pub(crate) fn exec_url(self: &Arc<Self>, mut request: ExecRequest) -> Result<String> {
        check_streams(request.stdin, request.stdout, request.stderr, request.tty)?;
        let container = self.container(&request.container_id)?;
        crate::container::check_running(&container)?;
        request.container_id.clone_from(&container.id);
        self.streaming.url(self, "exec", Wanted::Exec(request))
    }

    /// A URL that streams a container.
    pub(crate) fn attach_url(self: &Arc<Self>, mut request: AttachRequest) -> Result<String> {
        check_streams(request.stdin, request.stdout, request.stderr, request.tty)?;
        let container = self.container(&request.container_id)?;
        crate::container::check_running(&container)?;
        request.container_id.clone_from(&container.id);
        self.streaming.url(self, "attach", Wanted::Attach(request))
    }

    /// A URL that forwards ports.
    pub(crate) fn port_forward_url(self: &Arc<Self>, mut request: PortForwardRequest) -> Result<String> {
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        if !sandbox.is_ready() {
            return Err(EngineError::SandboxNotReady {
                sandbox: sandbox.id.clone(),
            });
        }
        request.pod_sandbox_id.clone_from(&sandbox.id);
        self.streaming
            .url(self, "portforward", Wanted::PortForward(request))
    }
}

fn check_streams(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<()> {
    if tty && stderr {
        return Err(EngineError::Invalid("tty and stderr cannot both be true".into()));
    }
    if stdin || stdout || stderr {
        return Ok(());
    }
    Err(EngineError::Invalid(
        "one of stdin, stdout, or stderr must be set".into(),
    ))
}
