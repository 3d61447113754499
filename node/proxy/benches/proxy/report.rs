//! What was measured, as it comes and in the end as a table.

use std::time::Duration;

/// A table that grows by columns.
#[derive(Debug, Default)]
pub struct Report {
    columns: Vec<String>,
    /// What was measured, and the figure of each column.
    rows: Vec<(String, Vec<String>)>,
}

impl Report {
    /// Begins the next column.
    pub fn column(&mut self, title: &str) {
        println!("\n{title}");
        self.columns.push(title.to_owned());
    }

    /// Notes a figure of the current column.
    pub fn note(&mut self, what: &str, figure: impl Into<String>) {
        let figure = figure.into();
        println!("  {what:<66} {figure}");
        let at = match self.rows.iter().position(|(known, _)| known == what) {
            Some(at) => at,
            None => {
                self.rows.push((what.to_owned(), Vec::new()));
                self.rows.len() - 1
            }
        };
        let figures = &mut self.rows[at].1;
        figures.resize(self.columns.len(), String::new());
        if let Some(last) = figures.last_mut() {
            *last = figure;
        }
    }

    /// Notes the median and the 99th percentile.
    pub fn spread(&mut self, what: &str, times: Vec<Duration>) {
        let figure = spread(times);
        self.note(what, figure);
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("| Services × endpoints | {} |\n", self.columns.join(" | "));
        text.push_str(&"|---".repeat(self.columns.len() + 1));
        text.push_str("|\n");
        for (what, figures) in &self.rows {
            let mut figures = figures.clone();
            figures.resize(self.columns.len(), String::new());
            let shown = figures.iter().map(|one| if one.is_empty() { "–" } else { one });
            let shown: Vec<&str> = shown.collect();
            text.push_str(&format!("| {what} | {} |\n", shown.join(" | ")));
        }
        text
    }
}

/// Milliseconds, or microseconds where those say more.
pub fn shown(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1000.0 => format!("{micros:.0} µs"),
        1000.0..100_000.0 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.0} ms", micros / 1e3),
    }
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let rank = |percent: usize| (times.len() * percent).div_ceil(100).max(1) - 1;
    let at = |percent| times.get(rank(percent)).copied().map(shown).unwrap_or_default();
    format!("{} / {}", at(50), at(99))
}
