//! Tables, times and sizes for people.

use std::fmt::Write;

/// Rows below a head, in columns as wide as they must be.
pub struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &'static [&'static str]) -> Self {
        Self {
            head,
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, each with its end.
    pub fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let longest = cells.map(|cell| cell.chars().count()).max();
            longest.unwrap_or(0).max(self.head[column].len())
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        line(&mut text, self.head.iter().copied(), &widths);
        for row in &self.rows {
            line(&mut text, row.iter().map(String::as_str), &widths);
        }
        text
    }
}

fn line<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>, widths: &[usize]) {
    let start = text.len();
    for (cell, width) in cells.zip(widths) {
        // Writing to a string does not fail.
        let _ = write!(text, "{cell:<width$}   ");
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

/// The beginning of an id, as people quote it.
pub fn short(id: &str) -> String {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.chars().take(13).collect()
}

/// How long ago, both in nanoseconds since the epoch.
pub fn ago(then: i64, now: i64) -> String {
    let seconds = now.saturating_sub(then).max(0) / 1_000_000_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Bytes in decimal units.
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$}{}", units[unit])
}

/// Nanoseconds since the epoch, now.
pub fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// A time as in RFC 3339; empty for none.
pub fn time(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return String::new();
    }
    jiff::Timestamp::from_nanosecond(nanoseconds.into())
        .map_or_else(|_| String::new(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let mut table = Table::new(&["ID", "NAME"]);
        table.row(["long-one".into(), "a".into()]);
        table.row(["b".into(), "c".into()]);
        assert_eq!(table.text(), "ID         NAME\nlong-one   a\nb          c\n");
    }

    #[test]
    fn times_and_sizes_are_short() {
        let second = 1_000_000_000;
        let of = |seconds: i64| ago(0, seconds * second);
        assert_eq!([of(5), of(300), of(7200), of(200_000)], ["5s", "5m", "2h", "2d"]);
        assert_eq!(ago(second, 0), "0s");
        assert_eq!(
            [bytes(7), bytes(1500), bytes(2_345_678), bytes(123_000_000)],
            ["7B", "1.5kB", "2.3MB", "123MB"]
        );
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789abc");
        assert_eq!(time(0), "");
        assert_eq!(time(second), "1970-01-01T00:00:01Z");
    }
}
