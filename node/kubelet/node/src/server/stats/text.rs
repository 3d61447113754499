//! Metrics as text; pure.

use std::fmt::Write;

/// Writes a metric with its lines, each from the labels on; nothing for none.
pub(super) fn family(out: &mut String, (name, kind): (&str, &str), help: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for line in lines {
        let _ = writeln!(out, "{name}{line}");
    }
}

/// Seconds of nanoseconds.
#[allow(clippy::cast_precision_loss)]
pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// A count as metrics have it.
#[allow(clippy::cast_precision_loss)]
pub(super) fn bytes(count: u64) -> f64 {
    count as f64
}
