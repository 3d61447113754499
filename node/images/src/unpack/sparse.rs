//! Files with their runs of zeros as holes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes read and written at once, and the smallest hole that is made.
const CHUNK: usize = 64 << 10;

static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// Bytes of a copied file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// Its length.
    pub length: u64,
    /// Of these, bytes that were written.
    pub written: u64,
}

/// Copies with a buffer that is used again.
pub(super) struct Copier {
    buffer: Box<[u8]>,
}

impl Default for Copier {
    fn default() -> Self {
        Self {
            buffer: vec![0; CHUNK].into_boxed_slice(),
        }
    }
}

impl Copier {
    /// Copies all of `from` into the new file `to`. Whole chunks of zeros are left out, so that a claim of many zeros
    /// costs no disk.
    pub(super) fn copy(&mut self, from: &mut impl Read, to: &mut File) -> io::Result<Copied> {
        let mut copied = Copied::default();
        let mut hole = false;
        loop {
            let count = fill(from, &mut self.buffer)?;
            let chunk = &self.buffer[..count];
            hole = count > 0 && *chunk == ZEROS[..count] && (count == CHUNK || hole);
            if hole {
                to.seek(SeekFrom::Current(count as i64))?;
            } else {
                to.write_all(chunk)?;
                copied.written += count as u64;
            }
            copied.length += count as u64;
            if count < CHUNK {
                break;
            }
        }
        if copied.written < copied.length {
            to.set_len(copied.length)?;
        }
        Ok(copied)
    }
}

/// Reads until the buffer is full or the end.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use knode_testkit::Scratch;

    use super::*;

    fn copied(content: &[u8]) -> (Copied, u64) {
        let scratch = Scratch::new("sparse");
        let path = scratch.join("file");
        let mut file = File::create(&path).unwrap();
        let copied = Copier::default().copy(&mut &content[..], &mut file).unwrap();
        assert!(
            std::fs::read(&path).unwrap() == content,
            "another content came out"
        );
        (copied, std::fs::metadata(&path).unwrap().blocks() * 512)
    }

    #[test]
    fn runs_of_zeros_become_holes_and_nothing_else_changes() {
        let mut mixed = vec![0; 5 * CHUNK + 17];
        mixed[2 * CHUNK + 5] = 1;
        let (found, blocks) = copied(&mixed);
        assert_eq!((found.length, found.written), (mixed.len() as u64, CHUNK as u64));
        assert!(blocks <= 2 * CHUNK as u64, "{blocks}");
        let (found, _) = copied(&[7; CHUNK + 1]);
        assert_eq!(found.written, CHUNK as u64 + 1);
        assert_eq!(copied(&[0; 10]).0.written, 10);
        assert_eq!(copied(&[]).0, Copied::default());
        let (found, blocks) = copied(&vec![0; 3 * CHUNK]);
        assert_eq!((found.written, blocks), (0, 0));
    }
}
