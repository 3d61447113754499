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
use std::sync::{Mutex, PoisonError, Weak};

use knode_cri::{AttachRequest, ExecRequest, PortForwardRequest};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::engine::Core;
use crate::error::{EngineError, Result};
use tokens::{Tokens, Wanted};

/// The streaming server of an engine.
pub(crate) struct Streaming {
    address: SocketAddr,
    tokens: Tokens,
    listener: Mutex<Option<TcpListener>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Streaming {
    /// Takes the address.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self> {
        if !address.ip().is_loopback() {
            return Err(EngineError::Invalid(format!(
                "the streaming server must listen on loopback, not {address}"
            )));
        }
        let failed = |source| EngineError::Streaming { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            tokens: Tokens::default(),
            listener: Mutex::new(Some(listener)),
            task: Mutex::new(None),
        })
    }

    /// Serves until the engine goes.
    pub(crate) fn serve(&self, core: Weak<Core>) {
        let listener = self
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(listener) = listener {
            let task = tokio::spawn(server::accept(listener, core));
            *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        }
    }

    fn url(&self, path: &str, wanted: Wanted) -> Result<String> {
        let token = self.tokens.issue(wanted)?;
        Ok(format!("http://{}/{path}/{token}", self.address))
    }

    /// What a token stands for; it is of no use after that.
    pub(crate) fn redeem(&self, token: &str) -> Option<Wanted> {
        self.tokens.redeem(token)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Core {
    /// A URL that streams a command.
    pub(crate) fn exec_url(&self, mut request: ExecRequest) -> Result<String> {
        check_streams(request.stdin, request.stdout, request.stderr, request.tty)?;
        let container = self.container(&request.container_id)?;
        crate::container::check_running(&container)?;
        request.container_id.clone_from(&container.id);
        self.streaming.url("exec", Wanted::Exec(request))
    }

    /// A URL that streams a container.
    pub(crate) fn attach_url(&self, mut request: AttachRequest) -> Result<String> {
        check_streams(request.stdin, request.stdout, request.stderr, request.tty)?;
        let container = self.container(&request.container_id)?;
        crate::container::check_running(&container)?;
        request.container_id.clone_from(&container.id);
        self.streaming.url("attach", Wanted::Attach(request))
    }

    /// A URL that forwards ports.
    pub(crate) fn port_forward_url(&self, mut request: PortForwardRequest) -> Result<String> {
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        if !sandbox.is_ready() {
            return Err(EngineError::SandboxNotReady {
                sandbox: sandbox.id.clone(),
            });
        }
        request.pod_sandbox_id.clone_from(&sandbox.id);
        self.streaming.url("portforward", Wanted::PortForward(request))
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
