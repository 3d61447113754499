//! The table: a column for each engine, and how many times the last one is better.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::report::percentile;

/// What was measured of one engine, by row.
pub struct Column {
    name: &'static str,
    values: BTreeMap<String, f64>,
}

impl Column {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            values: BTreeMap::new(),
        }
    }

    pub fn set(&mut self, row: &str, value: f64) {
        self.values.insert(row.to_owned(), value);
    }

    /// The median of some times, in seconds.
    pub fn set_median(&mut self, row: &str, times: Vec<Duration>) {
        let mut times: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
        times.sort_by(f64::total_cmp);
        self.set(row, percentile(&times, 50));
    }
}

/// What a row's numbers are.
#[derive(Clone, Copy)]
enum Unit {
    Milliseconds,
    Seconds,
    Megabytes,
}

struct Row {
    key: String,
    text: String,
    unit: Unit,
    target: &'static str,
}

/// A Markdown table; the last column is compared with each of the others.
pub fn table(columns: &[Column], bulks: &[usize]) -> String {
    let Some((ours, others)) = columns.split_last() else {
        return String::new();
    };
    let mut text = String::from("| what |");
    let names = columns.iter().map(|column| column.name.to_owned());
    let ratios = others.iter().map(|column| format!("× {}", column.name));
    let heads: Vec<_> = names.chain(ratios).chain(["target".to_owned()]).collect();
    for head in &heads {
        // Writing to a string does not fail.
        let _ = write!(text, " {head} |");
    }
    let _ = writeln!(text, "\n|{}", "---|".repeat(heads.len() + 1));
    for row in rows(bulks) {
        let of = |column: &Column| column.values.get(&row.key).copied().unwrap_or(f64::NAN);
        let _ = write!(text, "| {} |", row.text);
        for column in columns {
            let _ = write!(text, " {} |", shown(of(column), row.unit));
        }
        for other in others {
            let _ = write!(text, " {:.1} |", of(other) / of(ours));
        }
        let _ = writeln!(text, " {} |", row.target);
    }
    text
}

fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Milliseconds => format!("{:.1} ms", value * 1e3),
        Unit::Seconds => format!("{value:.2} s"),
        Unit::Megabytes => format!("{value:.2} MB"),
    }
}

fn rows(bulks: &[usize]) -> Vec<Row> {
    let row = |key: &str, text: String, unit, target| Row {
        key: key.to_owned(),
        text,
        unit,
        target,
    };
    let mut rows = vec![
        row(
            "start",
            "one pod: RunPodSandbox, CreateContainer, StartContainer, first output".into(),
            Unit::Milliseconds,
            "× ≥ 6",
        ),
        row(
            "end",
            "one pod: stop and remove container and sandbox".into(),
            Unit::Milliseconds,
            "× ≥ 6",
        ),
        row("exec", "ExecSync `true`".into(), Unit::Milliseconds, "× ≥ 3"),
        row(
            "pull",
            "pull of the large image, 5 layers".into(),
            Unit::Seconds,
            "× ≥ 1",
        ),
        row(
            "daemon",
            "daemon, no pods (PSS)".into(),
            Unit::Megabytes,
            "≤ 12 MB",
        ),
    ];
    for count in bulks {
        let key = |what: &str| format!("{what} {count}");
        rows.extend([
            row(
                &key("start"),
                format!("{count} pods, 8 at a time: start"),
                Unit::Seconds,
                "–",
            ),
            row(
                &key("end"),
                format!("{count} pods, 8 at a time: stop and remove"),
                Unit::Seconds,
                "–",
            ),
            row(
                &key("daemon"),
                format!("daemon, {count} pods (PSS)"),
                Unit::Megabytes,
                "–",
            ),
            row(
                &key("pod"),
                format!("each of {count} pods besides its container (PSS)"),
                Unit::Megabytes,
                "≤ 1 MB",
            ),
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_is_compared_with_the_others() {
        let mut slow = Column::new("slow");
        slow.set_median(
            "start",
            vec![Duration::from_millis(300), Duration::from_millis(100)],
        );
        slow.set("pod 5", 6.0);
        let mut quick = Column::new("quick");
        quick.set("start", 0.05);
        quick.set("pod 5", 0.5);
        let text = table(&[slow, quick], &[5]);
        let line = |what: &str| {
            text.lines()
                .find(|line| line.contains(what))
                .unwrap_or_default()
                .to_owned()
        };
        assert!(
            line("RunPodSandbox").contains("| 100.0 ms | 50.0 ms | 2.0 |"),
            "{text}"
        );
        assert!(
            line("each of 5 pods").contains("| 6.00 MB | 0.50 MB | 12.0 |"),
            "{text}"
        );
        assert!(
            text.starts_with("| what | slow | quick | × slow | target |\n|---|---|---|---|---|\n"),
            "{text}"
        );
    }
}
