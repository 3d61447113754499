//! Termination messages (upstream: `getTerminationMessage`).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use knode_cri as cri;

use crate::model::{ContainerRecord, ContainerState};
use crate::spec::labels;

/// Longest message from the file, in bytes.
const MAX_FILE: u64 = 4096;
/// Longest message from the log, in bytes and lines.
const MAX_LOG: usize = 2048;
const MAX_LINES: usize = 80;
/// How much of the log's end is read.
const LOG_TAIL: u64 = 64 * 1024;

/// Puts the message of an ended container into its record.
pub(super) fn fill_in(record: &mut ContainerRecord, status: &cri::ContainerStatus) {
    if record.state != ContainerState::Exited {
        return;
    }
    let path = status.annotations.get(labels::MESSAGE_PATH);
    let mount = path.and_then(|path| status.mounts.iter().find(|mount| mount.container_path == *path));
    let mut text = match mount.map(|mount| read_start(Path::new(&mount.host_path))) {
        Some(Ok(text)) => text,
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
            format!(
                "Error on reading termination log {}: {error}",
                mount.map(|one| one.host_path.as_str()).unwrap_or_default()
            )
        }
        _ => String::new(),
    };
    let fallback = status
        .annotations
        .get(labels::MESSAGE_POLICY)
        .is_some_and(|policy| policy == "FallbackToLogsOnError");
    if text.is_empty() && fallback && record.exit_code != 0 {
        text = read_log(Path::new(&status.log_path)).unwrap_or_else(|error| {
            tracing::debug!(path = status.log_path, %error, "no log for the termination message");
            String::new()
        });
    }
    if !text.is_empty() {
        record.message = text;
    }
}

fn read_start(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The end of a log in the CRI's format, without its stamps.
fn read_log(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    let cut = length > LOG_TAIL;
    Ok(last_lines(&String::from_utf8_lossy(&bytes), cut))
}

fn last_lines(text: &str, cut: bool) -> String {
    let lines: Vec<&str> = text.lines().skip(usize::from(cut)).collect();
    let first = lines.len().saturating_sub(MAX_LINES);
    let mut out = String::new();
    for line in &lines[first..] {
        let mut parts = line.splitn(4, ' ');
        let tag = parts.nth(2);
        if let (Some(tag), Some(content)) = (tag, parts.next()) {
            out.push_str(content);
            if tag != "P" {
                out.push('\n');
            }
        }
    }
    let excess = out.len().saturating_sub(MAX_LOG);
    let start = (excess..=out.len())
        .find(|at| out.is_char_boundary(*at))
        .unwrap_or(0);
    out.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_taken_off_and_parts_joined() {
        let log = "2026-11-22T14:49:29.1Z stdout F one\n2026-11-22T14:49:29.2Z stderr P tw\n2026-11-22T14:49:29.3Z stderr F o\n";
        assert_eq!(last_lines(log, false), "one\ntwo\n");
        assert_eq!(last_lines(log, true), "two\n");
    }

    #[test]
    fn only_the_end_is_kept() {
        let line = format!("t stdout F {}\n", "x".repeat(99));
        let text = last_lines(&line.repeat(100), false);
        assert_eq!(text.len(), MAX_LOG);
    }
}
