//! Compression told by the first bytes, not by media types, which are often wrong.

use std::io::{self, BufReader, Chain, Cursor, Read};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Bytes looked at, then the rest.
type Sniffed<R> = Chain<Cursor<Vec<u8>>, R>;

/// A decompressing (or plain) reader.
pub(crate) enum Decompressed<R: Read> {
    Plain(Sniffed<R>),
    Gzip(Box<flate2::read::MultiGzDecoder<Sniffed<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Sniffed<R>>>>),
}

impl<R: Read> Decompressed<R> {
    /// True when the bytes come as they are stored.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

/// Looks at the first bytes of `source` and takes the compression off that they show.
pub(crate) fn decompress<R: Read>(mut source: R) -> io::Result<Decompressed<R>> {
    let mut head = Vec::with_capacity(4);
    source.by_ref().take(4).read_to_end(&mut head)?;
    let gzip = head.starts_with(&GZIP);
    let zstd = head.starts_with(&ZSTD);
    let whole = Cursor::new(head).chain(source);
    Ok(match (gzip, zstd) {
        (true, _) => Decompressed::Gzip(Box::new(flate2::read::MultiGzDecoder::new(whole))),
        (_, true) => Decompressed::Zstd(Box::new(zstd::stream::read::Decoder::new(whole)?)),
        _ => Decompressed::Plain(whole),
    })
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}
