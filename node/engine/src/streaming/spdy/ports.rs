//! Forwarding ports: for each connection of the client a stream for data and one for errors.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::connection::{Incoming, Outgoing, header, split};
use super::headers::Headers;
use crate::streaming::ports::Dialer;

/// Data of one connection on its way into the pod; an empty piece ends it.
type Pipe = mpsc::Sender<Bytes>;

/// Pieces that may wait for a slow pod.
const DEPTH: usize = 64;

/// A connection of which only one stream is open yet.
#[derive(Default)]
struct Half {
    data: Option<u32>,
    error: Option<u32>,
    port: u16,
}

/// Forwards ports until the client is gone.
pub(in crate::streaming) async fn carry<S>(stream: S, dialer: Arc<Dialer>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, sender, writing) = split(stream);
    let mut forwarding = Forwarding {
        dialer,
        sender,
        halves: HashMap::new(),
        pipes: HashMap::new(),
        waiting: HashMap::new(),
    };
    while let Some(incoming) = reader.next().await? {
        match incoming {
            Incoming::Open { stream, headers, .. } => forwarding.open(stream, &headers).await?,
            Incoming::Data { stream, bytes, fin } => forwarding.take(stream, bytes, fin).await,
            Incoming::Reset { stream } => {
                forwarding.pipes.remove(&stream);
            }
            Incoming::Ping { id } => tell(&forwarding.sender, Outgoing::Pong { id }).await?,
            Incoming::GoAway => {}
        }
    }
    drop(forwarding);
    writing.await.map_err(io::Error::other)?
}

/// What one client has under way.
struct Forwarding {
    dialer: Arc<Dialer>,
    sender: mpsc::Sender<Outgoing>,
    /// By the identifiers of requests.
    halves: HashMap<String, Half>,
    /// By their streams of data.
    pipes: HashMap<u32, Pipe>,
    /// Data that came before its pipe was there, by stream.
    waiting: HashMap<u32, Vec<Bytes>>,
}

impl Forwarding {
    /// Takes a stream; the second of a connection begins it.
    async fn open(&mut self, stream: u32, headers: &Headers) -> io::Result<()> {
        let request = header(headers, "requestid").unwrap_or_default().to_string();
        let half = self.halves.entry(request.clone()).or_default();
        half.port = header(headers, "port")
            .and_then(|port| port.parse().ok())
            .unwrap_or(half.port);
        match header(headers, "streamtype") {
            Some("data") => half.data = Some(stream),
            Some("error") => half.error = Some(stream),
            _ => return tell(&self.sender, Outgoing::Reset { stream }).await,
        }
        let (data, error, port) = (half.data, half.error, half.port);
        tell(&self.sender, Outgoing::Accept { stream }).await?;
        if let (Some(data), Some(error)) = (data, error) {
            self.halves.remove(&request);
            self.connect(port, data, error);
        }
        Ok(())
    }

    /// Begins a connection into the pod, with what has come for it already.
    fn connect(&mut self, port: u16, data: u32, error: u32) {
        let (pipe, received) = mpsc::channel(DEPTH);
        for bytes in self.waiting.remove(&data).unwrap_or_default() {
            // Bounded by what one client sends before its second stream is open.
            let _ = pipe.try_send(bytes);
        }
        self.pipes.insert(data, pipe);
        let (dialer, sender) = (self.dialer.clone(), self.sender.clone());
        tokio::spawn(forward(dialer, port, data, error, received, sender));
    }

    /// Hands data on; an empty piece ends them.
    async fn take(&mut self, stream: u32, bytes: Bytes, fin: bool) {
        let parts = [
            Some(bytes).filter(|bytes| !bytes.is_empty()),
            fin.then(Bytes::new),
        ];
        for part in parts.into_iter().flatten() {
            match self.pipes.get(&stream) {
                // A connection that is over takes nothing any more.
                Some(pipe) => drop(pipe.send(part).await),
                None => self.waiting.entry(stream).or_default().push(part),
            }
        }
        if fin {
            self.pipes.remove(&stream);
        }
    }
}

async fn tell(sender: &mpsc::Sender<Outgoing>, outgoing: Outgoing) -> io::Result<()> {
    sender
        .send(outgoing)
        .await
        .map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// One connection into the pod.
async fn forward(
    dialer: Arc<Dialer>,
    port: u16,
    data: u32,
    error: u32,
    received: mpsc::Receiver<Bytes>,
    sender: mpsc::Sender<Outgoing>,
) {
    let result = match dialer.dial(port).await {
        Ok(connection) => copy(connection, data, received, &sender).await,
        Err(error) => Err(error),
    };
    let text = match result {
        Ok(()) => String::new(),
        Err(problem) => format!(
            "error forwarding port {port} to pod {}, uid : failed to execute portforward in network namespace: {problem}",
            dialer.sandbox()
        ),
    };
    let frames = [
        Outgoing::Data {
            stream: error,
            bytes: text.into(),
            fin: true,
        },
        Outgoing::Data {
            stream: data,
            bytes: Bytes::new(),
            fin: true,
        },
    ];
    for frame in frames {
        if sender.send(frame).await.is_err() {
            // The client is gone.
            return;
        }
    }
}

/// Copies both ways; each direction may end alone.
async fn copy(
    connection: TcpStream,
    data: u32,
    mut received: mpsc::Receiver<Bytes>,
    sender: &mpsc::Sender<Outgoing>,
) -> io::Result<()> {
    let (mut read, mut write) = connection.into_split();
    let inwards = async {
        while let Some(bytes) = received.recv().await {
            if bytes.is_empty() {
                break;
            }
            write.write_all(&bytes).await?;
        }
        write.shutdown().await
    };
    let outwards = async {
        let mut chunk = vec![0; 16 * 1024];
        loop {
            let count = read.read(&mut chunk).await?;
            if count == 0 {
                return Ok(());
            }
            let bytes = Bytes::copy_from_slice(&chunk[..count]);
            tell(
                sender,
                Outgoing::Data {
                    stream: data,
                    bytes,
                    fin: false,
                },
            )
            .await?;
        }
    };
    let mut inwards = std::pin::pin!(inwards);
    let mut outwards = std::pin::pin!(outwards);
    tokio::select! {
        // The pod has said all: what the client still sends goes nowhere.
        result = &mut outwards => result,
        result = &mut inwards => {
            // A pod that does not read any more may still be answering.
            let answered = outwards.await;
            result.and(answered)
        }
    }
}
