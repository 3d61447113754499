//! A SPDY client for the streaming server: what kubectl does.
#![allow(unused_imports, reason = "each test file uses its own part of this")]

#[path = "../../src/streaming/spdy/client.rs"]
mod client;
#[path = "../../src/streaming/spdy/frame.rs"]
mod frame;
#[path = "../../src/streaming/spdy/headers.rs"]
mod headers;

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use client::Client;

/// Asks for an upgrade; gives the head of the answer and the connection.
pub async fn upgrade(url: &str, protocols: &[&str]) -> (String, TcpStream) {
    let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let offered: String = protocols
        .iter()
        .map(|protocol| format!("X-Stream-Protocol-Version: {protocol}\r\n"))
        .collect();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{offered}Content-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap().to_lowercase(), stream)
}

/// The streams of a command or a container's own, by what they carry.
pub struct Process {
    client: Client<TcpStream>,
    streams: BTreeMap<String, u32>,
}

impl Process {
    /// Connects and opens these streams besides that for errors.
    pub async fn open(url: &str, kinds: &[&str]) -> Self {
        let (head, stream) = upgrade(url, &["v4.channel.k8s.io"]).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        let mut client = Client::new(stream);
        let mut streams = BTreeMap::new();
        for kind in ["error"].iter().chain(kinds) {
            let stream = client.open(&[("streamtype", kind)]).await;
            streams.insert((*kind).to_owned(), stream);
        }
        Self { client, streams }
    }

    pub async fn say(&mut self, kind: &str, text: &str, last: bool) {
        self.client.data(self.streams[kind], text, last).await;
    }

    /// What this stream has said so far.
    pub fn said(&self, kind: &str) -> String {
        let said = self.client.said.get(&self.streams[kind]);
        said.map(|(text, _)| text.clone()).unwrap_or_default()
    }

    /// Waits until a stream has said this.
    pub async fn until_said(&mut self, kind: &str, wanted: &str) {
        while !self.said(kind).contains(wanted) {
            assert!(
                !self.client.over,
                "{wanted:?} was not said: {:?}",
                self.client.said
            );
            self.client.next_frame().await;
        }
    }

    /// Waits for the end; gives what the stream for errors has said: a status object.
    pub async fn end(&mut self) -> String {
        self.client.until_ended(&[self.streams["error"]]).await;
        self.said("error")
    }
}

/// Connects to a port of a pod over an upgraded connection, says something, and gives what comes back, with what the
/// stream for errors says.
pub async fn forward<S: AsyncRead + AsyncWrite + Unpin>(stream: S, port: u16, say: &str) -> (String, String) {
    let mut client = Client::new(stream);
    let port = port.to_string();
    let headers = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", "0")];
    let errors = client.open(&headers("error")).await;
    client.data(errors, "", true).await;
    let data = client.open(&headers("data")).await;
    client.data(data, say, true).await;
    client.until_ended(&[errors, data]).await;
    let said = |stream| {
        client
            .said
            .get(&stream)
            .map(|(text, _)| text.clone())
            .unwrap_or_default()
    };
    (said(data), said(errors))
}
