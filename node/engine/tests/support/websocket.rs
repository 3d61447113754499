//! A WebSocket client for the streaming server.

use std::collections::BTreeMap;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::BOUND;

pub type Client = WebSocketStream<TcpStream>;

pub async fn connect(url: &str, protocol: &str) -> Client {
    let mut request = url.replace("http://", "ws://").into_client_request().unwrap();
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", HeaderValue::from_str(protocol).unwrap());
    let address = url.trim_start_matches("http://").split('/').next().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], protocol);
    client
}

/// Everything the server says until it closes, by channel.
pub async fn listen(client: &mut Client) -> BTreeMap<u8, String> {
    let mut said = BTreeMap::new();
    loop {
        let message = tokio::time::timeout(BOUND, client.next())
            .await
            .expect("the server goes on");
        match message.expect("a close frame").unwrap() {
            Message::Binary(bytes) => {
                let text: &mut String = said.entry(bytes[0]).or_default();
                text.push_str(&String::from_utf8_lossy(&bytes[1..]));
            }
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                return said;
            }
            other => panic!("{other:?}"),
        }
    }
}

pub async fn say(client: &mut Client, channel: u8, text: &[u8]) {
    let mut bytes = vec![channel];
    bytes.extend_from_slice(text);
    client.send(Message::Binary(bytes.into())).await.unwrap();
}

/// The bytes of the messages in both directions as one stream, for what is tunnelled.
pub fn tunnel(client: Client) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut sink, mut source) = client.split();
    let (mut reader, mut writer) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some(Ok(Message::Binary(bytes))) = source.next().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // Whoever reads learns of the end.
        let _ = writer.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            let message = Message::Binary(buffer[..count].to_vec().into());
            if sink.send(message).await.is_err() {
                return;
            }
        }
    });
    near
}
