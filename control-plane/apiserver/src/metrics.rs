//! A few numbers about the server, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;

use crate::core::Core;

/// Counters of requests.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

impl Metrics {
    pub fn count(&self, verb: &'static str, code: StatusCode) {
        // Counters: a panic can't spoil them.
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((verb, code.as_u16())).or_default() += 1;
    }

    /// The page.
    pub fn page(&self, core: &Core) -> String {
        let mut page = String::from(
            "# HELP apiserver_request_total Counter of apiserver requests broken out for each verb and HTTP \
             response code.\n# TYPE apiserver_request_total counter\n",
        );
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((verb, code), count) in requests.iter() {
            // Writing to a string can't fail.
            let _ = writeln!(
                page,
                "apiserver_request_total{{code=\"{code}\",verb=\"{}\"}} {count}",
                verb.to_uppercase()
            );
        }
        page.push_str(
            "# HELP apiserver_storage_objects Number of stored objects at the time of last check split by kind.\n\
             # TYPE apiserver_storage_objects gauge\n",
        );
        for (name, count) in core.cache.counts() {
            let _ = writeln!(page, "apiserver_storage_objects{{resource=\"{name}\"}} {count}");
        }
        let _ = writeln!(
            page,
            "# TYPE knode_store_revision counter\nknode_store_revision {}",
            core.store.revision()
        );
        page
    }
}
