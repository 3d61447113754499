//! A process over SPDY: one stream each for input, outputs, errors and window sizes.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::connection::{Incoming, Outgoing, Reader, header, split};
use crate::streaming::channel::{ClientEvent, Dialect, FarEnds, Outcome, Output, ServerEvent, resize};

/// How long a client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);

/// How long a client may take to close the connection after the end.
const CLOSING: Duration = Duration::from_secs(10);

/// Which streams are expected, and what the error stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::streaming) struct Shape {
    pub(in crate::streaming) stdin: bool,
    pub(in crate::streaming) stdout: bool,
    pub(in crate::streaming) stderr: bool,
    pub(in crate::streaming) tty: bool,
    /// Version 4: a status object; earlier a text.
    pub(in crate::streaming) status_object: bool,
    /// From version 3 on there is a stream for window sizes.
    pub(in crate::streaming) resizes: bool,
}

impl Shape {
    fn expected(self) -> Vec<Role> {
        let mut roles = vec![Role::Error];
        let wanted = [
            (self.stdin, Role::Stdin),
            (self.stdout, Role::Output(Output::Stdout)),
            (self.stderr && !self.tty, Role::Output(Output::Stderr)),
            (self.tty && self.resizes, Role::Resize),
        ];
        roles.extend(
            wanted
                .into_iter()
                .filter(|(wanted, _)| *wanted)
                .map(|(_, role)| role),
        );
        roles
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    Error,
    Stdin,
    Output(Output),
    Resize,
}

fn role(name: &str) -> Option<Role> {
    match name {
        "error" => Some(Role::Error),
        "stdin" => Some(Role::Stdin),
        "stdout" => Some(Role::Output(Output::Stdout)),
        "stderr" => Some(Role::Output(Output::Stderr)),
        "resize" => Some(Role::Resize),
        _ => None,
    }
}

/// The streams that are open.
#[derive(Default)]
struct Streams {
    by_role: HashMap<Role, u32>,
    by_number: HashMap<u32, Role>,
    sizes: BytesMut,
}

impl Streams {
    fn open(&mut self, stream: u32, role: Role) {
        self.by_role.insert(role, stream);
        self.by_number.insert(stream, role);
    }

    /// What data of a stream means.
    fn events(&mut self, stream: u32, bytes: Bytes, fin: bool) -> Vec<ClientEvent> {
        let mut events = Vec::new();
        match self.by_number.get(&stream) {
            Some(Role::Stdin) => {
                if !bytes.is_empty() {
                    events.push(ClientEvent::Stdin(bytes));
                }
                if fin {
                    events.push(ClientEvent::StdinEnd);
                }
            }
            Some(Role::Resize) => {
                self.sizes.extend_from_slice(&bytes);
                events.extend(self.whole_sizes());
            }
            _ => {}
        }
        events
    }

    /// Sizes are JSON objects one after the other, in pieces that need not be whole.
    fn whole_sizes(&mut self) -> Vec<ClientEvent> {
        let mut events = Vec::new();
        while let Some(end) = self.sizes.iter().position(|byte| *byte == b'}') {
            events.extend(resize(&self.sizes.split_to(end + 1)));
        }
        events
    }
}

/// Carries a process over its streams until it is over or the client is gone. `ends` is asked for when all
/// streams are open, so that nothing is started before.
pub(in crate::streaming) async fn carry<S>(
    stream: S,
    shape: Shape,
    start: impl FnOnce() -> FarEnds,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, sender, writing) = split(stream);
    let mut streams = Streams::default();
    let mut early = Vec::new();
    let opening = open_all(&mut reader, &sender, shape, &mut streams, &mut early);
    let opened = tokio::time::timeout(OPENING, opening).await;
    opened.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client did not open its streams"))??;
    let ended = relay(&mut reader, &sender, shape, &mut streams, start(), early).await?;
    if let Some(outcome) = ended {
        finish(&sender, shape, &streams, &outcome).await;
    }
    drop(sender);
    // The client's close ends the connection in order.
    let _ = tokio::time::timeout(CLOSING, async { while let Ok(Some(_)) = reader.next().await {} }).await;
    writing.await.map_err(io::Error::other)?
}

async fn open_all<S: AsyncRead>(
    reader: &mut Reader<S>,
    sender: &mpsc::Sender<Outgoing>,
    shape: Shape,
    streams: &mut Streams,
    early: &mut Vec<ClientEvent>,
) -> io::Result<()> {
    let expected = shape.expected();
    while !expected.iter().all(|role| streams.by_role.contains_key(role)) {
        match reader.next().await? {
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Incoming::Open { stream, headers, .. }) => {
                match header(&headers, "streamtype").and_then(role) {
                    Some(role) => {
                        streams.open(stream, role);
                        tell(sender, Outgoing::Accept { stream }).await?;
                    }
                    None => tell(sender, Outgoing::Reset { stream }).await?,
                }
            }
            Some(Incoming::Data { stream, bytes, fin }) => early.extend(streams.events(stream, bytes, fin)),
            Some(Incoming::Ping { id }) => tell(sender, Outgoing::Pong { id }).await?,
            Some(Incoming::Reset { .. } | Incoming::GoAway) => {}
        }
    }
    Ok(())
}

async fn tell(sender: &mpsc::Sender<Outgoing>, outgoing: Outgoing) -> io::Result<()> {
    sender
        .send(outgoing)
        .await
        .map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// `None` when the client is gone before the end.
async fn relay<S: AsyncRead>(
    reader: &mut Reader<S>,
    sender: &mpsc::Sender<Outgoing>,
    shape: Shape,
    streams: &mut Streams,
    ends: FarEnds,
    early: Vec<ClientEvent>,
) -> io::Result<Option<Outcome>> {
    let FarEnds { events, mut output } = ends;
    for event in early {
        // A process that takes no input any more is no error.
        let _ = events.send(event).await;
    }
    loop {
        tokio::select! {
            event = output.recv() => match event {
                Some(ServerEvent::Data(kind, bytes)) => {
                    if let Some(stream) = streams.by_role.get(&Role::Output(kind)) {
                        tell(sender, Outgoing::Data { stream: *stream, bytes, fin: false }).await?;
                    }
                }
                Some(ServerEvent::End(outcome)) => return Ok(Some(outcome)),
                None => return Ok(Some(Outcome::Failed("the stream ended early".into()))),
            },
            incoming = reader.next() => match incoming? {
                None => return Ok(None),
                Some(Incoming::Data { stream, bytes, fin }) => {
                    for event in streams.events(stream, bytes, fin) {
                        // A process that has ended reads nothing any more.
                        let _ = events.send(event).await;
                    }
                }
                Some(Incoming::Open { stream, headers, .. }) => {
                    let role = header(&headers, "streamtype").and_then(role).filter(|role| *role == Role::Resize);
                    match role.filter(|_| shape.tty) {
                        Some(role) => {
                            streams.open(stream, role);
                            tell(sender, Outgoing::Accept { stream }).await?;
                        }
                        None => tell(sender, Outgoing::Reset { stream }).await?,
                    }
                }
                Some(Incoming::Ping { id }) => tell(sender, Outgoing::Pong { id }).await?,
                Some(Incoming::Reset { stream }) if streams.by_role.get(&Role::Stdin) == Some(&stream) => {
                    // As above.
                    let _ = events.send(ClientEvent::StdinEnd).await;
                }
                Some(Incoming::Reset { .. } | Incoming::GoAway) => {}
            },
        }
    }
}

/// Ends the outputs, says how it went, and ends the rest.
async fn finish(sender: &mpsc::Sender<Outgoing>, shape: Shape, streams: &Streams, outcome: &Outcome) {
    let of = |role: Role| streams.by_role.get(&role).copied();
    let mut frames = Vec::new();
    for kind in [Output::Stdout, Output::Stderr] {
        let end = |stream| Outgoing::Data {
            stream,
            bytes: Bytes::new(),
            fin: true,
        };
        frames.extend(of(Role::Output(kind)).map(end));
    }
    let text = match shape.status_object {
        true => outcome.status(Dialect::Spdy).to_string(),
        false => outcome.text(),
    };
    frames.extend(of(Role::Error).map(|stream| Outgoing::Data {
        stream,
        bytes: text.into(),
        fin: true,
    }));
    for role in [Role::Stdin, Role::Resize] {
        frames.extend(of(role).map(|stream| Outgoing::Reset { stream }));
    }
    let last = streams.by_number.keys().max().copied().unwrap_or(0);
    frames.push(Outgoing::GoAway { last });
    for frame in frames {
        if sender.send(frame).await.is_err() {
            // The client is gone.
            return;
        }
    }
}
