use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::server::{Server, Step};
use crate::wire::Transport;

/// No question is longer.
const LARGEST: usize = 4096;

impl Server {
    /// Answers on a socket, for ever.
    pub async fn serve_udp(self: Arc<Self>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut asking = JoinSet::new();
        let mut buffer = vec![0; LARGEST];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "cannot receive");
                    // What a client refused to take is reported here, once; other errors may last.
                    if error.kind() != ErrorKind::ConnectionRefused {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    continue;
                }
            };
            match self.step(&buffer[..length], Transport::Udp, client) {
                Step::Silence => {}
                Step::Reply(bytes) => {
                    let sent = match socket.try_send_to(&bytes, client) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            socket.send_to(&bytes, client).await
                        }
                        sent => sent,
                    };
                    log(sent);
                }
                Step::Ask(ask) => {
                    let (server, socket) = (self.clone(), socket.clone());
                    asking.spawn(async move {
                        let bytes = server.ask(ask).await;
                        log(socket.send_to(&bytes, client).await);
                    });
                }
            }
            while asking.try_join_next().is_some() {}
        }
    }
}

/// A client that is gone asks again when it is back.
fn log(sent: std::io::Result<usize>) {
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer was not sent");
    }
}
