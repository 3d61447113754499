//! One question to one server.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType};
use hickory_proto::serialize::binary::DecodeError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::wire::Transport;

const LARGEST: usize = u16::MAX as usize;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("cannot write the question")]
    Question(#[source] ProtoError),
    #[error("cannot talk to the server")]
    Io(#[from] io::Error),
    #[error("the answer cannot be read")]
    Answer(#[source] DecodeError),
    #[error("the answer is to another question")]
    Other,
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// Asks, and waits for the answer to this very question.
pub(super) async fn exchange(
    server: SocketAddr,
    question: &Message,
    transport: Transport,
    patience: Duration,
) -> Result<Message, ExchangeError> {
    let bytes = question.to_vec().map_err(ExchangeError::Question)?;
    let asked = async {
        match transport {
            Transport::Udp => by_datagram(server, question, &bytes).await,
            Transport::Tcp => by_connection(server, question, &bytes).await,
        }
    };
    let timed_out = |_| ExchangeError::TimedOut(patience);
    tokio::time::timeout(patience, asked).await.map_err(timed_out)?
}

/// Every question has a port of its own, so that nobody can guess what to answer to.
async fn by_datagram(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, ExchangeError> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = Vec::with_capacity(LARGEST);
    loop {
        buffer.clear();
        socket.recv_buf(&mut buffer).await?;
        // What does not fit the question is not from the server, or late.
        if let Ok(answer) = Message::from_vec(&buffer)
            && is_to(&answer, question)
        {
            return Ok(answer);
        }
    }
}

async fn by_connection(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
) -> Result<Message, ExchangeError> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(ExchangeError::Answer)?;
    is_to(&answer, question)
        .then_some(answer)
        .ok_or(ExchangeError::Other)
}

/// A server that cannot read the question may leave it out of its answer.
fn is_to(answer: &Message, question: &Message) -> bool {
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && (answer.queries == question.queries || answer.queries.is_empty())
}
