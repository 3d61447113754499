//! The Prometheus text format.

use std::fmt::Write as _;

/// Writing to a String cannot fail.
pub(super) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// What comes before the values of a metric.
pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

/// Counts of values up to each bound.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    bounds: Vec<f64>,
    counts: Vec<u64>,
    sum: f64,
    total: u64,
}

impl Histogram {
    pub fn new(bounds: Vec<f64>) -> Self {
        let counts = vec![0; bounds.len()];
        Self {
            bounds,
            counts,
            sum: 0.0,
            total: 0,
        }
    }

    pub fn observe(&mut self, value: f64) {
        self.sum += value;
        self.total += 1;
        for (count, bound) in self.counts.iter_mut().zip(&self.bounds) {
            *count += u64::from(value <= *bound);
        }
    }

    /// Writes it with these labels.
    pub fn write(&self, out: &mut String, name: &str, labels: &str) {
        let bounds = self
            .bounds
            .iter()
            .map(ToString::to_string)
            .chain(["+Inf".to_owned()]);
        for (count, bound) in self.counts.iter().chain([&self.total]).zip(bounds) {
            line(
                out,
                format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {count}"),
            );
        }
        line(out, format_args!("{name}_sum{{{labels}}} {}", self.sum));
        line(out, format_args!("{name}_count{{{labels}}} {}", self.total));
    }
}
