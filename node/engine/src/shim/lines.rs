//! CRI log lines out of a stream of bytes.

use std::io::Write;

/// Longest text of one log line, in bytes; longer lines are written in parts (tag `P`).
pub const MAX_LINE: usize = 16 * 1024;

/// Cuts one stream of a container into log lines.
#[derive(Debug)]
pub struct Lines {
    stream: &'static str,
    pending: Vec<u8>,
}

impl Lines {
    /// A cutter for `stdout` or `stderr`.
    pub fn new(stream: &'static str) -> Self {
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// Takes `bytes` that came at `time` (RFC 3339 with nanoseconds) and appends each line that is whole,
    /// or too long to wait for, to `log`.
    pub fn feed(&mut self, time: &str, mut bytes: &[u8], log: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.pending.len();
            let end = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            match end {
                Some(end) => {
                    self.pending.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    self.write(time, 'F', log);
                }
                None if bytes.len() > room => {
                    self.pending.extend_from_slice(&bytes[..room]);
                    bytes = &bytes[room..];
                    self.write(time, 'P', log);
                }
                None => {
                    self.pending.extend_from_slice(bytes);
                    bytes = &[];
                }
            }
        }
    }

    /// The stream has ended: what is left is part of a line that never was whole, as containerd says it too, so that
    /// a reader gives what the program wrote and no more.
    pub fn finish(&mut self, time: &str, log: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.write(time, 'P', log);
        }
        self.pending = Vec::new();
    }

    fn write(&mut self, time: &str, tag: char, log: &mut Vec<u8>) {
        // Writing to memory does not fail.
        let _ = write!(log, "{time} {} {tag} ", self.stream);
        log.extend_from_slice(&self.pending);
        log.push(b'\n');
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(chunks: &[&[u8]]) -> String {
        let mut lines = Lines::new("stdout");
        let mut log = Vec::new();
        for chunk in chunks {
            lines.feed("T", chunk, &mut log);
        }
        lines.finish("T", &mut log);
        String::from_utf8(log).unwrap()
    }

    #[test]
    fn a_line_is_written_when_it_is_whole() {
        assert_eq!(
            run(&[b"one\ntw", b"o\n\nend"]),
            "T stdout F one\nT stdout F two\nT stdout F \nT stdout P end\n"
        );
        assert_eq!(run(&[]), "");
    }

    #[test]
    fn a_long_line_comes_in_parts() {
        let long = vec![b'x'; MAX_LINE * 2 + 5];
        let text = run(&[&long, b"\nnext\n"]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].starts_with("T stdout P xxx") && lines[0].len() == MAX_LINE + 11);
        assert!(lines[1].starts_with("T stdout P "));
        assert_eq!(lines[2], "T stdout F xxxxx");
        assert_eq!(lines[3], "T stdout F next");
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_whole() {
        let mut exact = vec![b'y'; MAX_LINE];
        exact.push(b'\n');
        let text = run(&[&exact]);
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("T stdout F "));
    }
}
