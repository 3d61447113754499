//! Steps on standard output, each with the time since the start.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The line that tells a waiting parent that the node is up.
pub const READY: &str = "ready";

/// Prints one line a step: `[  0.312 s] the store is open`.
///
/// A wait repeats what it waits for when the answer changes, so that a person sees why it takes long.
#[derive(Clone)]
pub struct Progress(Arc<Inner>);

struct Inner {
    started: Instant,
    last_wait: Mutex<String>,
    logged: bool,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        Self::new(false)
    }

    /// The steps go to the log instead.
    pub fn logged() -> Self {
        Self::new(true)
    }

    fn new(logged: bool) -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            last_wait: Mutex::default(),
            logged,
        }))
    }

    /// A step that is done.
    pub fn done(&self, what: impl AsRef<str>) {
        self.line(what.as_ref());
    }

    /// A wait, printed once for each different `what`.
    pub fn waiting(&self, what: impl AsRef<str>) {
        let what = what.as_ref();
        let Ok(mut last) = self.0.last_wait.lock() else {
            return;
        };
        if *last != what {
            last.replace_range(.., what);
            self.line(&format!("waiting: {what}"));
        }
    }

    fn line(&self, text: &str) {
        if self.0.logged {
            tracing::info!("{text}");
            return;
        }
        let text = render(self.0.started.elapsed(), text);
        // Standard output may be a pipe whose reader has left: the daemon goes on without it.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
}

fn render(elapsed: Duration, text: &str) -> String {
    format!("[{:>7.3} s] {text}\n", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_its_time() {
        assert_eq!(
            render(Duration::from_millis(312), "store open"),
            "[  0.312 s] store open\n"
        );
    }
}
