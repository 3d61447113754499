//! WebSocket: `v5.channel.k8s.io` and `v4.channel.k8s.io` for processes, and a tunnel for SPDY.

use std::io;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::channel::{ClientEvent, Dialect, FarEnds, Output, ServerEvent, resize};

/// A WebSocket over an upgraded connection.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Protocols for processes, the best first.
const CHANNEL_PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Protocol for forwarding ports.
pub(super) const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

/// Chooses a protocol for a process out of those the client offers.
pub(super) fn choose(offered: &[String]) -> Option<&'static str> {
    CHANNEL_PROTOCOLS
        .into_iter()
        .find(|protocol| offered.iter().any(|other| other == protocol))
}

/// Speaks WebSocket over an upgraded connection.
pub(super) async fn open(upgraded: Upgraded) -> Socket {
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await
}

/// Carries a process over its channels until it is over or the client is gone.
pub(super) async fn carry(socket: Socket, ends: FarEnds) -> Result<(), Error> {
    let FarEnds { events, mut output } = ends;
    let (mut sink, mut stream) = socket.split();
    // Upstream says so as well: the client then knows that the process is being started.
    sink.send(message(STDOUT, b"")).await?;
    let mut events = Some(events);
    loop {
        tokio::select! {
            event = output.recv() => match event {
                Some(ServerEvent::Data(Output::Stdout, bytes)) => sink.send(message(STDOUT, &bytes)).await?,
                Some(ServerEvent::Data(Output::Stderr, bytes)) => sink.send(message(STDERR, &bytes)).await?,
                Some(ServerEvent::End(outcome)) => {
                    let status = outcome.status(Dialect::WebSocket).to_string();
                    sink.send(message(ERROR, status.as_bytes())).await?;
                    break;
                }
                None => break,
            },
            received = stream.next() => match received {
                Some(Ok(Message::Binary(bytes))) => {
                    if let (Some(event), Some(sender)) = (client_event(&bytes), &events)
                        && sender.send(event).await.is_err()
                    {
                        events = None;
                    }
                }
                // Text, ping and pong mean nothing here; the library answers pings.
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            },
        }
    }
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    sink.send(Message::Close(Some(close))).await?;
    // The client's own close ends the connection in order.
    while let Some(Ok(_)) = stream.next().await {}
    Ok(())
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut payload = Vec::with_capacity(bytes.len() + 1);
    payload.push(channel);
    payload.extend_from_slice(bytes);
    Message::Binary(payload.into())
}

fn client_event(payload: &Bytes) -> Option<ClientEvent> {
    let (channel, rest) = payload.split_first()?;
    match *channel {
        STDIN if rest.is_empty() => None,
        STDIN => Some(ClientEvent::Stdin(payload.slice(1..))),
        RESIZE => resize(rest),
        CLOSE if rest == [STDIN] => Some(ClientEvent::StdinEnd),
        _ => None,
    }
}

/// Makes a byte stream of the binary messages: what SPDY is spoken over inside a WebSocket.
pub(super) fn tunnel(socket: Socket) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        if let Err(error) = pump(socket, far).await {
            tracing::debug!(%error, "a tunnel through a WebSocket");
        }
    });
    near
}

async fn pump(socket: Socket, far: DuplexStream) -> io::Result<()> {
    let (mut sink, mut stream) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(far);
    let mut chunk = vec![0; 32 * 1024];
    loop {
        tokio::select! {
            received = stream.next() => match received {
                Some(Ok(Message::Binary(bytes))) => writer.write_all(&bytes).await?,
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(io::Error::other(error)),
            },
            count = reader.read(&mut chunk) => match count? {
                0 => break,
                count => {
                    let message = Message::Binary(Bytes::copy_from_slice(&chunk[..count]));
                    sink.send(message).await.map_err(io::Error::other)?;
                }
            },
        }
    }
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    sink.send(Message::Close(Some(close)))
        .await
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_read() {
        let of = |bytes: &'static [u8]| client_event(&Bytes::from_static(bytes));
        assert_eq!(of(b"\x00hi"), Some(ClientEvent::Stdin("hi".into())));
        assert_eq!(of(b"\x00"), None);
        assert_eq!(of(b"\xff\x00"), Some(ClientEvent::StdinEnd));
        assert_eq!(of(b"\xff\x01"), None);
        assert_eq!(
            of(b"\x04{\"Width\":1,\"Height\":2}"),
            Some(ClientEvent::Resize { columns: 1, rows: 2 })
        );
        assert_eq!(of(b""), None);
    }

    #[test]
    fn the_best_protocol_is_chosen() {
        let offer = |names: &[&str]| choose(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert_eq!(
            offer(&["v4.channel.k8s.io", "v5.channel.k8s.io"]),
            Some("v5.channel.k8s.io")
        );
        assert_eq!(offer(&["base64.channel.k8s.io"]), None);
    }
}
