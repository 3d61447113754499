//! Bounds on what a tar archive can make its reader hold in memory.

use std::io::{self, Read};

use tar::{EntryType, Header, PaxExtensions};

/// Size of a tar block.
const BLOCK: usize = 512;
/// Largest extended header: long names and attributes of one entry. Linux's own bounds are far below.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// Blocks that list the pieces of one sparse file, 21 each.
const SPARSE_LIMIT: u32 = 4096;

/// Follows the headers of an archive that is read through it, and ends the reading before an extended header that is
/// too long: the archive reader takes those into memory whole, and compression makes them cheap to send.
pub(super) struct Guard<R> {
    inner: R,
    block: Box<[u8; BLOCK]>,
    filled: usize,
    state: State,
    /// The size that an extended header gives to the next entry.
    size: Option<u64>,
    extension: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// A header comes.
    Header,
    /// Content comes, rounded up to blocks; `pax` is kept to be looked into.
    Body { left: u64, pax: u64 },
    /// A block of a sparse file's list comes, then content.
    Sparse { blocks: u32, body: u64 },
    /// The end, or what the archive reader itself will refuse.
    End,
}

impl<R: Read> Guard<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            block: Box::new([0; BLOCK]),
            filled: 0,
            state: State::Header,
            size: None,
            extension: Vec::new(),
        }
    }

    fn observe(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.state {
                State::End => return Ok(()),
                State::Body { left: 0, .. } => self.state = State::Header,
                State::Body { left, pax } => {
                    let count = left.min(bytes.len() as u64) as usize;
                    let kept = pax.min(count as u64) as usize;
                    self.extension.extend_from_slice(&bytes[..kept]);
                    if kept > 0 && pax == kept as u64 {
                        self.size = size_of(&self.extension);
                    }
                    bytes = &bytes[count..];
                    self.state = State::Body {
                        left: left - count as u64,
                        pax: pax - kept as u64,
                    };
                }
                State::Header | State::Sparse { .. } => {
                    let count = (BLOCK - self.filled).min(bytes.len());
                    self.block[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
                    self.filled += count;
                    bytes = &bytes[count..];
                    if self.filled == BLOCK {
                        self.filled = 0;
                        self.state = self.next()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What follows the block at hand.
    fn next(&mut self) -> io::Result<State> {
        if let State::Sparse { blocks, body } = self.state {
            // The byte after 21 pieces of 24 bytes says whether another block follows.
            return match self.block[504] {
                1 if blocks >= SPARSE_LIMIT => Err(too_long("a list of sparse pieces", blocks.into())),
                1 => Ok(State::Sparse {
                    blocks: blocks + 1,
                    body,
                }),
                _ => Ok(State::Body { left: body, pax: 0 }),
            };
        }
        if self.block.iter().all(|byte| *byte == 0) {
            return Ok(State::End);
        }
        let header = Header::from_byte_slice(&*self.block);
        let Ok(size) = header.entry_size() else {
            return Ok(State::End);
        };
        let kind = header.entry_type();
        let extends = matches!(
            kind,
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader | EntryType::XGlobalHeader
        );
        if extends && size > EXTENSION_LIMIT {
            return Err(too_long("an extended header", size));
        }
        let size = match extends {
            true => size,
            false => self.size.take().unwrap_or(size),
        };
        let Some(left) = size.checked_next_multiple_of(BLOCK as u64) else {
            return Ok(State::End);
        };
        if kind == EntryType::XHeader {
            self.extension.clear();
            return Ok(State::Body { left, pax: size });
        }
        let continues = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        Ok(match kind == EntryType::GNUSparse && continues {
            true => State::Sparse {
                blocks: 1,
                body: left,
            },
            false => State::Body { left, pax: 0 },
        })
    }
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.observe(&buffer[..count])?;
        Ok(count)
    }
}

/// The first size that an extended header tells, as the archive reader takes it.
fn size_of(extension: &[u8]) -> Option<u64> {
    for record in PaxExtensions::new(extension) {
        let record = record.ok()?;
        if record.key_bytes() == b"size" {
            return record.value().ok()?.parse().ok();
        }
    }
    None
}

fn too_long(what: &str, size: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what} of {size} bytes or blocks is beyond any sensible size"),
    )
}
