//! A connection that ends when the identity behind it has been replaced.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::identity::ClientIdentity;
use super::refusal::explained;

/// How long requests that are under way may go on when the identity has been replaced; watches then begin anew.
const GRACE: Duration = Duration::from_secs(15);

enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

/// Shared by the connection and the task that tells it to end.
#[derive(Default)]
struct Ending {
    requested: AtomicBool,
    waker: AtomicWaker,
}

pub(super) struct ClosingStream {
    stream: Stream,
    host: String,
    ending: Arc<Ending>,
    watcher: Option<tokio::task::AbortHandle>,
}

impl ClosingStream {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self {
            stream: Stream::Plain(TokioIo::new(stream)),
            host: String::new(),
            ending: Arc::default(),
            watcher: None,
        }
    }

    /// `seen` is the generation of the identity before the handshake began.
    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        host: &str,
        identity: Option<(&ClientIdentity, u64)>,
    ) -> Self {
        let ending = Arc::<Ending>::default();
        let watcher = identity.map(|(identity, seen)| {
            let mut generation = identity.generation();
            let ending = ending.clone();
            let watching = async move {
                // An identity that is gone can no longer be replaced: then the connection just lives on.
                if generation.wait_for(|current| *current != seen).await.is_ok() {
                    tokio::time::sleep(GRACE).await;
                    ending.requested.store(true, Ordering::Release);
                    ending.waker.wake();
                }
            };
            tokio::spawn(watching).abort_handle()
        });
        Self {
            stream: Stream::Tls(Box::new(TokioIo::new(stream))),
            host: host.to_owned(),
            ending,
            watcher,
        }
    }

    fn check(&self, context: &mut Context<'_>) -> io::Result<()> {
        if self.watcher.is_none() {
            return Ok(());
        }
        self.ending.waker.register(context.waker());
        if self.ending.requested.load(Ordering::Acquire) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "closed to reconnect with the new client certificate",
            ));
        }
        Ok(())
    }
}

impl Drop for ClosingStream {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

impl Connection for ClosingStream {
    fn connected(&self) -> Connected {
        match &self.stream {
            Stream::Plain(_) => Connected::new(),
            Stream::Tls(stream) => {
                let (_, session) = stream.inner().get_ref();
                if session.alpn_protocol() == Some(b"h2") {
                    Connected::new().negotiated_h2()
                } else {
                    Connected::new()
                }
            }
        }
    }
}

impl Read for ClosingStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(context)?;
        match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => {
                // The server's word on our certificate comes after the handshake.
                let read = Pin::new(stream.as_mut()).poll_read(context, buffer);
                read.map_err(|error| explained(error, &this.host))
            }
        }
    }
}

impl Write for ClosingStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, buffer),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, buffer),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
