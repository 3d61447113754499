//! What this process tells `knode upgrade` and `knode status` of its own life.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::version;

static READY: AtomicBool = AtomicBool::new(false);
static STARTED: OnceLock<Timestamp> = OnceLock::new();

/// What a daemon answers about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Life {
    /// Its process.
    pub pid: i32,
    /// What `--version` prints.
    pub version: String,
    /// When it was asked first, or became ready.
    pub since: Timestamp,
    /// Whether its node has been Ready, or its API has served.
    pub ready: bool,
}

/// This process.
pub fn this() -> Life {
    Life {
        pid: std::process::id().cast_signed(),
        version: version::FULL.to_owned(),
        since: *STARTED.get_or_init(Timestamp::now),
        ready: READY.load(Ordering::Acquire),
    }
}

/// The start is complete.
pub fn ready() {
    READY.store(true, Ordering::Release);
}
