//! Recorded requests, one JSON object per line.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// One recorded request and its answer. What a recording lacks is `Null` or empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Recorded {
    /// Seconds since the scenario's start.
    pub t: f64,
    /// Who asked.
    pub user: String,
    /// What the recorder said of it.
    pub note: String,
    /// The command that made kubectl ask.
    pub cmd: String,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The request's headers.
    pub headers: Map<String, Value>,
    /// The answer's code.
    pub code: u16,
    /// The request's body.
    pub request: Value,
    /// The manifest that kubectl made the request of.
    pub manifest: Value,
    /// The answer's headers.
    #[serde(rename = "responseHeaders")]
    pub response_headers: Map<String, Value>,
    /// The answer's body; a string where it is no JSON.
    pub response: Value,
}

impl Recorded {
    /// The path without its query.
    pub fn bare_path(&self) -> &str {
        self.path.split_once('?').map_or(&self.path, |(path, _)| path)
    }

    /// Whether it created a pod: a person's, or the mirror of one out of a node's directory.
    pub fn creates_pod(&self) -> bool {
        self.method == "POST" && self.bare_path().ends_with("/pods")
    }
}

/// The requests of a file below `tests/data/recordings`.
///
/// # Panics
/// When the file isn't there or has a line that is no recorded request.
#[track_caller]
pub fn fixture(file: &str) -> Vec<Recorded> {
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("data/recordings")
            .join(file),
    )
}

/// The requests of a file that the API server's own tests use too.
///
/// # Panics
/// As [`fixture`].
#[track_caller]
pub fn in_apiserver(file: &str) -> Vec<Recorded> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control-plane/apiserver/tests/recordings");
    read(&dir.join(file))
}

#[track_caller]
fn read(path: &PathBuf) -> Vec<Recorded> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let parse = |(number, line)| {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{}:{}: {e}", path.display(), number + 1))
    };
    text.lines().enumerate().map(parse).collect()
}
