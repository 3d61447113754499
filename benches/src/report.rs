//! The table of what was measured, beside what was aimed at.

/// One measured figure.
pub struct Figure {
    pub what: String,
    pub measured: String,
    pub target: &'static str,
}

impl Figure {
    pub fn new(what: impl Into<String>, measured: impl Into<String>, target: &'static str) -> Self {
        Self {
            what: what.into(),
            measured: measured.into(),
            target,
        }
    }
}

/// A Markdown table.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::from("| what | measured | target |\n|---|---|---|\n");
    for f in figures {
        text.push_str(&format!("| {} | {} | {} |\n", f.what, f.measured, f.target));
    }
    text
}

/// Nearest-rank percentile of milliseconds.
pub fn percentile(sorted: &[f64], p: usize) -> f64 {
    let rank = (sorted.len() * p).div_ceil(100).max(1) - 1;
    sorted.get(rank).copied().unwrap_or(f64::NAN)
}
