use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::server::{Server, Step};
use crate::wire::Transport;

/// A connection without a question for so long is closed (CoreDNS: `idleTimeout`).
const IDLE: Duration = Duration::from_secs(10);
/// Connections at once; further ones wait.
const MOST: usize = 1000;

impl Server {
    /// Answers connections to a listener, for ever.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            if connections.len() >= MOST {
                connections.join_next().await;
            }
            match listener.accept().await {
                Ok((stream, client)) => {
                    let server = self.clone();
                    connections.spawn(async move {
                        if let Err(error) = server.converse(stream, client).await {
                            tracing::debug!(%error, "connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of descriptors, most likely: give others a chance to close theirs.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }

    /// Answers one question after the other.
    async fn converse(&self, mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Ok(question) = tokio::time::timeout(IDLE, read(&mut stream, &mut buffer)).await {
            if !question? {
                return Ok(());
            }
            let bytes = match self.step(&buffer, Transport::Tcp, client) {
                Step::Silence => return Ok(()),
                Step::Reply(bytes) => bytes,
                Step::Ask(ask) => self.ask(ask).await,
            };
            let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
            let message = [&length.to_be_bytes(), bytes.as_slice()].concat();
            tokio::time::timeout(IDLE, stream.write_all(&message)).await??;
        }
        Ok(())
    }
}

/// Reads a message; whether there was one.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let length = match stream.read_u16().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        length => length?,
    };
    buffer.resize(usize::from(length), 0);
    stream.read_exact(buffer).await?;
    Ok(true)
}
