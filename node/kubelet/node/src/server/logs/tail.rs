//! Where the last lines of a file begin.

use std::io::{self, Read, Seek, SeekFrom};

const BLOCK: u64 = 4096;

/// The offset at which the last `lines` lines begin. A last line without line feed counts as a line.
pub(super) fn tail_start<F: Read + Seek>(file: &mut F, lines: u64) -> io::Result<u64> {
    let size = file.seek(SeekFrom::End(0))?;
    if lines == 0 || size == 0 {
        return Ok(size);
    }
    let mut block = Vec::new();
    let mut end = size;
    let mut found = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.clear();
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let position = start + at as u64;
            // The line feed at the very end closes the last line.
            if *byte == b'\n' && position + 1 < size {
                found += 1;
                if found == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}
