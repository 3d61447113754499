//! The table: a column for each engine, and how many times the last one is better.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::pods::Laps;
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

/// The median of each call of some runs.
pub fn calls(runs: &[Laps]) -> String {
    let mut text = String::new();
    let first = runs.first().map(|run| run.calls.as_slice());
    for (n, (name, _)) in first.unwrap_or_default().iter().enumerate() {
        let times = runs.iter().filter_map(|run| run.calls.get(n));
        let mut times: Vec<f64> = times.map(|(_, taken)| taken.as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        let median = shown(percentile(&times, 50), Unit::Milliseconds);
        // Writing to a string does not fail.
        let _ = write!(text, " {name} {median}");
    }
    text
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

fn row(key: String, text: String, unit: Unit, target: &'static str) -> Row {
    Row {
        key,
        text,
        unit,
        target,
    }
}

fn rows(bulks: &[usize]) -> Vec<Row> {
    let mut rows = Vec::from(one_by_one("", ""));
    rows.extend([
        row(
            "pull".into(),
            "pull of the large image, 5 layers".into(),
            Unit::Seconds,
            "× ≥ 1",
        ),
        row(
            "daemon".into(),
            "daemon, no pods (PSS)".into(),
            Unit::Megabytes,
            "≤ 12 MB",
        ),
    ]);
    for count in bulks {
        if *count > 1 {
            let all = |what: &str| format!("{count} pods, 8 at a time: {what}");
            rows.push(row(
                format!("start all {count}"),
                all("start"),
                Unit::Seconds,
                "–",
            ));
            let ended = all("stop and remove");
            rows.push(row(format!("end all {count}"), ended, Unit::Seconds, "–"));
            rows.extend(one_by_one(
                &format!(" beside {count}"),
                &format!(", {count} others there"),
            ));
        }
        let plural = if *count == 1 { "" } else { "s" };
        rows.extend([
            row(
                format!("daemon {count}"),
                format!("daemon, {count} pod{plural} (PSS)"),
                Unit::Megabytes,
                "≤ 12 MB",
            ),
            row(
                format!("pod {count}"),
                format!("each of {count} pod{plural} besides its container (PSS)"),
                Unit::Megabytes,
                "≤ 1 MB",
            ),
        ]);
    }
    rows
}

/// What one pod takes; `beside` ends the keys, `others` the texts.
fn one_by_one(beside: &str, others: &str) -> [Row; 3] {
    let of = |key: &str, text: &str, target| {
        row(
            format!("{key}{beside}"),
            format!("{text}{others}"),
            Unit::Milliseconds,
            target,
        )
    };
    [
        of(
            "start",
            "one pod: RunPodSandbox, CreateContainer, StartContainer, first output",
            "× ≥ 6",
        ),
        of("end", "one pod: stop and remove container and sandbox", "× ≥ 6"),
        of("exec", "ExecSync `true`", "× ≥ 3"),
    ]
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
        slow.set("exec beside 5", 0.03);
        let mut quick = Column::new("quick");
        quick.set("start", 0.05);
        quick.set("pod 5", 0.5);
        quick.set("exec beside 5", 0.01);
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
        assert!(line("`true`, 5 others there").contains("| 3.0 |"), "{text}");
        assert!(
            text.starts_with("| what | slow | quick | × slow | target |\n|---|---|---|---|---|\n"),
            "{text}"
        );
    }
}
