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

/// A Markdown table with a column for each runtime; the figures of the first decide which rows there are.
pub fn beside(columns: &[(&str, Vec<Figure>)]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut text = format!("| what | target | {} |\n|---|---|", names.join(" | "));
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    for f in columns.first().map(|(_, figures)| figures).into_iter().flatten() {
        text.push_str(&format!("| {} | {} |", f.what, f.target));
        for (_, figures) in columns {
            let same = figures.iter().find(|other| other.what == f.what);
            text.push_str(&format!(" {} |", same.map_or("–", |f| f.measured.as_str())));
        }
        text.push('\n');
    }
    text
}

/// Nearest-rank percentile of milliseconds.
pub fn percentile(sorted: &[f64], p: usize) -> f64 {
    let rank = (sorted.len() * p).div_ceil(100).max(1) - 1;
    sorted.get(rank).copied().unwrap_or(f64::NAN)
}
