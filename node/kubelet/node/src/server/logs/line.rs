//! Lines in CRI format and what is shown of them (`pkg/kubelet/kuberuntime/logs`); pure.

use jiff::Timestamp;

use super::options::{LogOptions, StreamKind};

/// `<time> <stream> <P|F> <text>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// When it was written.
    pub time: Timestamp,
    /// `stdout` or `stderr`.
    pub stream: &'a str,
    /// Whether the line goes on in the next one.
    pub partial: bool,
    /// The text without line feed.
    pub text: &'a [u8],
}

impl<'a> LogLine<'a> {
    /// Reads a line without its line feed; none if it is not in the format.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let stream = std::str::from_utf8(parts.next()?).ok()?;
        // Tags after the first are reserved and separated by colons.
        let tag = parts.next()?.split(|byte| *byte == b':').next()?;
        let partial = tag == b"P";
        (matches!(stream, "stdout" | "stderr")).then_some(())?;
        Some(Self {
            time,
            stream,
            partial,
            text: parts.next().unwrap_or_default(),
        })
    }
}

/// Cuts bytes into lines, whatever the pieces they come in.
#[derive(Debug, Default)]
pub struct LineSplitter {
    rest: Vec<u8>,
}

impl LineSplitter {
    /// Takes bytes in and hands each whole line (without line feed) to `each`.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            if self.rest.is_empty() {
                each(&bytes[..at]);
            } else {
                self.rest.extend_from_slice(&bytes[..at]);
                each(&self.rest);
                self.rest.clear();
            }
            bytes = &bytes[at + 1..];
        }
        self.rest.extend_from_slice(bytes);
    }

    /// What is left without a line feed.
    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }
}

/// Turns lines into what the client gets.
#[derive(Debug)]
pub struct LogWriter {
    since: Option<Timestamp>,
    timestamps: bool,
    stream: StreamKind,
    remaining: u64,
    at_line_start: bool,
}

impl LogWriter {
    /// A writer for these options.
    pub fn new(options: &LogOptions) -> Self {
        Self {
            since: options.since,
            timestamps: options.timestamps,
            stream: options.stream,
            remaining: options.limit.unwrap_or(u64::MAX),
            at_line_start: true,
        }
    }

    /// Appends what is shown of a raw line; a line that is not in the format is left out.
    pub fn write(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let Some(line) = LogLine::parse(raw) else {
            if !raw.is_empty() {
                tracing::debug!(line = %String::from_utf8_lossy(raw), "not a CRI log line");
            }
            return;
        };
        if !self.wants(line.stream) || self.since.is_some_and(|since| line.time < since) {
            return;
        }
        if self.timestamps && self.at_line_start {
            let prefix = format!("{:.9} ", line.time);
            self.append(prefix.as_bytes(), out);
        }
        self.append(line.text, out);
        if !line.partial {
            self.append(b"\n", out);
        }
        self.at_line_start = !line.partial;
    }

    /// Whether the limit of bytes has been reached.
    pub fn is_full(&self) -> bool {
        self.remaining == 0
    }

    fn wants(&self, stream: &str) -> bool {
        match self.stream {
            StreamKind::All => true,
            StreamKind::Stdout => stream == "stdout",
            StreamKind::Stderr => stream == "stderr",
        }
    }

    fn append(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let room = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        out.extend_from_slice(&bytes[..room]);
        self.remaining = self.remaining.saturating_sub(room as u64);
    }
}
