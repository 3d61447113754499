//! A SPDY client for tests: what kubectl does.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frame::{Frame, decode, encode};
use super::headers::{Decoder, Encoder};

pub(super) struct Client<S> {
    stream: S,
    encoder: Encoder,
    decoder: Decoder,
    buffer: BytesMut,
    next: u32,
    /// What each stream has said, and whether it has ended.
    pub(super) said: BTreeMap<u32, (String, bool)>,
    pub(super) over: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            encoder: Encoder::new().unwrap(),
            decoder: Decoder::new(),
            buffer: BytesMut::new(),
            next: 1,
            said: BTreeMap::new(),
            over: false,
        }
    }

    async fn send(&mut self, frame: &Frame) {
        let mut wire = BytesMut::new();
        encode(frame, &mut wire);
        self.stream.write_all(&wire).await.unwrap();
    }

    /// Opens a stream and waits until it is accepted.
    pub(super) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.next;
        self.next += 2;
        let headers = self.encoder.encode(headers).unwrap();
        self.send(&Frame::SynStream {
            stream,
            fin: false,
            headers,
        })
        .await;
        loop {
            if let Frame::SynReply { stream: accepted, .. } = self.next_frame().await
                && accepted == stream
            {
                return stream;
            }
        }
    }

    pub(super) async fn data(&mut self, stream: u32, text: &str, fin: bool) {
        self.send(&Frame::Data {
            stream,
            fin,
            bytes: Bytes::from(text.to_string()),
        })
        .await;
    }

    pub(super) async fn ping(&mut self, id: u32) {
        self.send(&Frame::Ping { id }).await;
        while self.next_frame().await != (Frame::Ping { id }) {}
    }

    /// The next frame; data is written down as well.
    pub(super) async fn next_frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = decode(&mut self.buffer).unwrap() {
                self.note(&frame);
                return frame;
            }
            let read = self.stream.read_buf(&mut self.buffer);
            let count = tokio::time::timeout(Duration::from_secs(10), read)
                .await
                .expect("the server goes on");
            if count.unwrap() == 0 {
                self.over = true;
                return Frame::Other;
            }
        }
    }

    fn note(&mut self, frame: &Frame) {
        match frame {
            Frame::SynReply { headers, .. } => drop(self.decoder.decode(headers).unwrap()),
            Frame::Data { stream, fin, bytes } => {
                let (text, ended) = self.said.entry(*stream).or_default();
                text.push_str(&String::from_utf8_lossy(bytes));
                *ended |= fin;
            }
            _ => {}
        }
    }

    /// Reads until these streams have ended.
    pub(super) async fn until_ended(&mut self, streams: &[u32]) {
        while !streams
            .iter()
            .all(|stream| self.said.get(stream).is_some_and(|(_, ended)| *ended))
        {
            assert!(!self.over, "the connection ended early: {:?}", self.said);
            self.next_frame().await;
        }
    }
}
