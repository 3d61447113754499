//! One connection: frames in, frames out.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::frame::{self, Frame};
use super::headers::{Decoder, Encoder, Headers};

/// Most data in one frame that is sent, in bytes.
const MAX_DATA: usize = 32 * 1024;

/// What a peer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Incoming {
    /// It opens a stream.
    Open {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    /// It sends data.
    Data { stream: u32, bytes: Bytes, fin: bool },
    /// It gives a stream up.
    Reset { stream: u32 },
    /// It must be answered.
    Ping { id: u32 },
    /// It opens no more streams.
    GoAway,
}

/// What is sent to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// A stream is accepted.
    Accept { stream: u32 },
    /// Data, and perhaps the end of the stream in this direction.
    Data { stream: u32, bytes: Bytes, fin: bool },
    /// A stream is given up.
    Reset { stream: u32 },
    /// The answer to a ping.
    Pong { id: u32 },
    /// No more streams are accepted.
    GoAway { last: u32 },
}

/// Gives up a stream of which nothing is wanted any more.
const CANCEL: u32 = 5;

/// The reading half.
pub(super) struct Reader<S> {
    half: ReadHalf<S>,
    buffer: BytesMut,
    decoder: Decoder,
}

impl<S: AsyncRead> Reader<S> {
    /// What the peer does next; `None` at the end of the connection.
    ///
    /// # Errors
    /// Those of the connection, and frames that are none.
    pub(super) async fn next(&mut self) -> io::Result<Option<Incoming>> {
        loop {
            while let Some(frame) = frame::decode(&mut self.buffer)? {
                if let Some(incoming) = self.interpret(frame)? {
                    return Ok(Some(incoming));
                }
            }
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn interpret(&mut self, frame: Frame) -> io::Result<Option<Incoming>> {
        Ok(match frame {
            Frame::SynStream { stream, fin, headers } => Some(Incoming::Open {
                stream,
                headers: self.decoder.decode(&headers)?,
                fin,
            }),
            Frame::SynReply { headers, .. } | Frame::Headers { headers, .. } => {
                self.decoder.decode(&headers)?;
                None
            }
            Frame::Data { stream, fin, bytes } => Some(Incoming::Data { stream, bytes, fin }),
            Frame::Reset { stream, .. } => Some(Incoming::Reset { stream }),
            Frame::Ping { id } => Some(Incoming::Ping { id }),
            Frame::GoAway { .. } => Some(Incoming::GoAway),
            Frame::Other => None,
        })
    }
}

/// Splits a connection into its reading half and a queue of what to send. The task ends when all senders
/// are gone and everything is written; it then closes the writing half.
pub(super) fn split<S>(stream: S) -> (Reader<S>, mpsc::Sender<Outgoing>, JoinHandle<io::Result<()>>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let (sender, receiver) = mpsc::channel(super::super::channel::DEPTH);
    let task = tokio::spawn(send(write, receiver));
    (
        Reader {
            half: read,
            buffer: BytesMut::new(),
            decoder: Decoder::new(),
        },
        sender,
        task,
    )
}

async fn send<S: AsyncWrite>(mut half: WriteHalf<S>, mut queue: mpsc::Receiver<Outgoing>) -> io::Result<()> {
    let mut encoder = Encoder::new()?;
    let mut buffer = BytesMut::new();
    while let Some(outgoing) = queue.recv().await {
        put(outgoing, &mut encoder, &mut buffer)?;
        half.write_all_buf(&mut buffer).await?;
        half.flush().await?;
    }
    half.shutdown().await
}

fn put(outgoing: Outgoing, encoder: &mut Encoder, buffer: &mut BytesMut) -> io::Result<()> {
    match outgoing {
        Outgoing::Accept { stream } => {
            let headers = encoder.encode(&[])?;
            frame::encode(
                &Frame::SynReply {
                    stream,
                    fin: false,
                    headers,
                },
                buffer,
            );
        }
        Outgoing::Data {
            stream,
            mut bytes,
            fin,
        } => {
            while bytes.len() > MAX_DATA {
                let part = bytes.split_to(MAX_DATA);
                frame::encode(
                    &Frame::Data {
                        stream,
                        fin: false,
                        bytes: part,
                    },
                    buffer,
                );
            }
            frame::encode(&Frame::Data { stream, fin, bytes }, buffer);
        }
        Outgoing::Reset { stream } => frame::encode(
            &Frame::Reset {
                stream,
                status: CANCEL,
            },
            buffer,
        ),
        Outgoing::Pong { id } => frame::encode(&Frame::Ping { id }, buffer),
        Outgoing::GoAway { last } => frame::encode(&Frame::GoAway { last, status: 0 }, buffer),
    }
    Ok(())
}

/// The value of a header.
pub(super) fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(other, _)| other == name)
        .map(|(_, value)| value.as_str())
}
