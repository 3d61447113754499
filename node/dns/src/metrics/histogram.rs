use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds: 250 µs doubling (CoreDNS: `TimeBuckets`).
const BOUNDS: usize = 16;
const FIRST: Duration = Duration::from_micros(250);

/// Durations by how long they were.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Of each bound those above the one before; the last are above all.
    counts: [AtomicU64; BOUNDS + 1],
    nanos: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let within = (0..BOUNDS).find(|power| took <= FIRST * (1 << power));
        self.counts[within.unwrap_or(BOUNDS)].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Writes it with these labels; writing to a String cannot fail.
    pub fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut sum = 0;
        for (power, count) in self.counts.iter().enumerate() {
            sum += count.load(Ordering::Relaxed);
            let bound = match power {
                BOUNDS => "+Inf".to_owned(),
                power => (FIRST * (1 << power)).as_secs_f64().to_string(),
            };
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
        }
        let seconds = Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(
            out,
            "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {sum}"
        );
    }
}
