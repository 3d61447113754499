//! A watch that keeps all it saw.

use knode_testkit::Process;
use serde_json::Value;

use super::Session;

/// A running watch.
pub struct Watching {
    process: Process,
}

impl Watching {
    /// Starts to watch a collection, e.g. `/api/v1/namespaces/x/pods`.
    #[track_caller]
    pub fn start(session: &Session<'_>, collection: &str) -> Self {
        let path = format!("{collection}?watch=1&timeoutSeconds=600");
        Self {
            process: session.stream("watch", &path),
        }
    }

    /// Every event so far, in order.
    pub fn seen(&self) -> Vec<Value> {
        let text = self.process.output();
        // The last line may be half there.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The events of objects for which `is_it` holds.
    pub fn of(&self, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.seen().into_iter().filter(|e| is_it(&e["object"])).collect()
    }
}
