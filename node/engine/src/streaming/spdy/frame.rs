//! Frames of SPDY/3.1 (draft 3.1, section 2.6), header blocks still compressed.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u16 = 3;
const CONTROL: u32 = 0x8000_0000;
const STREAM_MASK: u32 = 0x7fff_ffff;

/// Largest frame that is accepted, in bytes; the format allows 16 MiB.
const MAX_FRAME: usize = 4 * 1024 * 1024;

/// The last frame of a stream in this direction.
const FIN: u8 = 1;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// Opens a stream.
    SynStream { stream: u32, fin: bool, headers: Bytes },
    /// Accepts one.
    SynReply { stream: u32, fin: bool, headers: Bytes },
    /// Ends one at once.
    Reset { stream: u32, status: u32 },
    /// Must be answered as it is.
    Ping { id: u32 },
    /// No more streams.
    GoAway { last: u32, status: u32 },
    /// More headers of a stream; only read to keep the compression in step.
    Headers { stream: u32, fin: bool, headers: Bytes },
    /// Data of a stream.
    Data { stream: u32, fin: bool, bytes: Bytes },
    /// Settings and window updates, which mean nothing here.
    Other,
}

/// Takes the first whole frame out of `buffer`; `None` when there is none yet.
pub(super) fn decode(buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    let Some(head) = buffer.first_chunk::<8>() else {
        return Ok(None);
    };
    let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
    if length > MAX_FRAME {
        return Err(invalid("a frame is too large"));
    }
    if buffer.len() < 8 + length {
        return Ok(None);
    }
    let mut head = buffer.split_to(8);
    let body = buffer.split_to(length).freeze();
    let word = head.get_u32();
    let fin = head[0] & FIN != 0;
    if word & CONTROL == 0 {
        return Ok(Some(Frame::Data {
            stream: word,
            fin,
            bytes: body,
        }));
    }
    if (word >> 16) as u16 & 0x7fff != VERSION {
        return Err(invalid("not SPDY/3"));
    }
    control(word as u16, fin, body).map(Some)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn control(kind: u16, fin: bool, mut body: Bytes) -> io::Result<Frame> {
    let need = match kind {
        1 => 10,
        2 | 6 | 8 => 4,
        3 | 7 => 8,
        _ => 0,
    };
    if body.len() < need {
        return Err(invalid("a frame is too short"));
    }
    Ok(match kind {
        1 => {
            let stream = body.get_u32() & STREAM_MASK;
            body.advance(6);
            Frame::SynStream {
                stream,
                fin,
                headers: body,
            }
        }
        2 => Frame::SynReply {
            stream: body.get_u32() & STREAM_MASK,
            fin,
            headers: body,
        },
        3 => Frame::Reset {
            stream: body.get_u32() & STREAM_MASK,
            status: body.get_u32(),
        },
        6 => Frame::Ping { id: body.get_u32() },
        7 => Frame::GoAway {
            last: body.get_u32() & STREAM_MASK,
            status: body.get_u32(),
        },
        8 => Frame::Headers {
            stream: body.get_u32() & STREAM_MASK,
            fin,
            headers: body,
        },
        _ => Frame::Other,
    })
}

/// Appends a frame to `buffer`.
pub(super) fn encode(frame: &Frame, buffer: &mut BytesMut) {
    match frame {
        Frame::SynStream { stream, fin, headers } => {
            control_head(buffer, 1, *fin, 10 + headers.len());
            buffer.put_u32(*stream);
            buffer.put_u32(0);
            buffer.put_u16(0);
            buffer.put_slice(headers);
        }
        Frame::SynReply { stream, fin, headers } => {
            control_head(buffer, 2, *fin, 4 + headers.len());
            buffer.put_u32(*stream);
            buffer.put_slice(headers);
        }
        Frame::Reset { stream, status } => {
            control_head(buffer, 3, false, 8);
            buffer.put_u32(*stream);
            buffer.put_u32(*status);
        }
        Frame::Ping { id } => {
            control_head(buffer, 6, false, 4);
            buffer.put_u32(*id);
        }
        Frame::GoAway { last, status } => {
            control_head(buffer, 7, false, 8);
            buffer.put_u32(*last);
            buffer.put_u32(*status);
        }
        Frame::Headers { stream, fin, headers } => {
            control_head(buffer, 8, *fin, 4 + headers.len());
            buffer.put_u32(*stream);
            buffer.put_slice(headers);
        }
        Frame::Data { stream, fin, bytes } => {
            buffer.put_u32(*stream & STREAM_MASK);
            flags_and_length(buffer, *fin, bytes.len());
            buffer.put_slice(bytes);
        }
        Frame::Other => {}
    }
}

fn control_head(buffer: &mut BytesMut, kind: u16, fin: bool, length: usize) {
    buffer.put_u16(0x8000 | VERSION);
    buffer.put_u16(kind);
    flags_and_length(buffer, fin, length);
}

fn flags_and_length(buffer: &mut BytesMut, fin: bool, length: usize) {
    buffer.put_u8(u8::from(fin) * FIN);
    buffer.put_uint(length as u64, 3);
}
