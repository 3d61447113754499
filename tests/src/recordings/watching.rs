//! A watch that keeps all it saw.

use std::cell::RefCell;

use knode_testkit::Process;
use serde_json::Value;

use super::Session;

/// A running watch.
pub struct Watching {
    process: Process,
    seen: RefCell<(usize, Vec<Value>)>,
}

impl Watching {
    /// Starts to watch a collection, e.g. `/api/v1/namespaces/x/pods`.
    #[track_caller]
    pub fn start(session: &Session<'_>, collection: &str) -> Self {
        let path = format!("{collection}?watch=1&timeoutSeconds=600");
        Self {
            process: session.stream("watch", &path),
            seen: RefCell::default(),
        }
    }

    /// The events so far of objects for which `is_it` holds, in order.
    pub fn of(&self, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        let text = self.process.output();
        let mut seen = self.seen.borrow_mut();
        let (read, events) = &mut *seen;
        // The last line may be half there.
        let end = text.rfind('\n').map_or(0, |end| end + 1);
        let fresh = text.get(*read..end).unwrap_or_default();
        events.extend(fresh.lines().filter_map(|line| serde_json::from_str(line).ok()));
        *read = end.max(*read);
        events.iter().filter(|e| is_it(&e["object"])).cloned().collect()
    }
}
