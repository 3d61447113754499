//! Header blocks: name-value lists, compressed with one zlib stream a direction and a dictionary that both
//! sides know (draft 3.1, section 2.6.10).

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Headers in their order.
pub(super) type Headers = Vec<(String, String)>;

/// Largest header block that is accepted, in bytes.
const MAX_BLOCK: usize = 64 * 1024;

/// Words of the dictionary that stand with their length before them.
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// The rest of the dictionary.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

/// The dictionary of SPDY/3.
pub(super) fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS {
        bytes.put_u32(word.len() as u32);
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
}

/// Compresses header blocks of one direction.
pub(super) struct Encoder(Compress);

/// Decompresses header blocks of the other direction.
pub(super) struct Decoder {
    stream: Decompress,
    primed: bool,
}

impl Encoder {
    pub(super) fn new() -> io::Result<Self> {
        let mut stream = Compress::new(Compression::default(), true);
        stream.set_dictionary(&dictionary()).map_err(io::Error::other)?;
        Ok(Self(stream))
    }

    pub(super) fn encode(&mut self, headers: &[(&str, &str)]) -> io::Result<Bytes> {
        let mut plain = BytesMut::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(text.len() as u32);
                plain.put_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let start = self.0.total_in();
        loop {
            let done = (self.0.total_in() - start) as usize;
            self.0
                .compress_vec(&plain[done..], &mut out, FlushCompress::Sync)
                .map_err(io::Error::other)?;
            if (self.0.total_in() - start) as usize == plain.len() && out.len() < out.capacity() {
                return Ok(out.into());
            }
            out.reserve(256);
        }
    }
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            stream: Decompress::new(true),
            primed: false,
        }
    }

    pub(super) fn decode(&mut self, block: &[u8]) -> io::Result<Headers> {
        let plain = self.inflate(block)?;
        parse(&plain).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a header block is cut short"))
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(1024);
        let start = self.stream.total_in();
        loop {
            let done = (self.stream.total_in() - start) as usize;
            match self
                .stream
                .decompress_vec(&block[done..], &mut out, FlushDecompress::Sync)
            {
                Ok(Status::StreamEnd) => return Ok(out),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() && !self.primed => {
                    self.stream
                        .set_dictionary(&dictionary())
                        .map_err(io::Error::other)?;
                    self.primed = true;
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
            if (self.stream.total_in() - start) as usize == block.len() && out.len() < out.capacity() {
                return Ok(out);
            }
            if out.len() > MAX_BLOCK {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a header block is too large",
                ));
            }
            out.reserve(1024);
        }
    }
}

fn parse(mut plain: &[u8]) -> Option<Headers> {
    let count = number(&mut plain)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = text(&mut plain)?.to_lowercase();
        headers.push((name, text(&mut plain)?));
    }
    Some(headers)
}

fn number(plain: &mut &[u8]) -> Option<usize> {
    (plain.len() >= 4).then(|| plain.get_u32() as usize)
}

fn text(plain: &mut &[u8]) -> Option<String> {
    let length = number(plain)?;
    let bytes = plain.get(..length)?;
    *plain = &plain[length..];
    Some(String::from_utf8_lossy(bytes).into_owned())
}
