//! What a check says.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// A node runs, but not as well as it could, or not for ever.
    Warn,
    /// A node does not run.
    Fail,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// What doctor itself may do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fix {
    /// Write a kernel setting, key with dots.
    Setting { key: String, value: String },
}

/// The answer of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub check: String,
    pub status: Status,
    pub found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
}

impl Finding {
    pub fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            status: Status::Ok,
            found: found.into(),
            mend: None,
            fix: None,
        }
    }

    pub fn warn(check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            status: Status::Warn,
            mend: Some(mend.into()),
            ..Self::ok(check, found)
        }
    }

    pub fn fail(check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            status: Status::Fail,
            ..Self::warn(check, found, mend)
        }
    }

    /// The same, with what doctor may do.
    pub fn fixed_by(self, key: &str, value: &str) -> Self {
        let (key, value) = (key.to_owned(), value.to_owned());
        Self {
            fix: Some(Fix::Setting { key, value }),
            ..self
        }
    }
}

/// A table for people, the worst last so that it is on the screen.
pub fn table(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|f| f.check.chars().count())
        .max()
        .unwrap_or(0);
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.status);
    let mut text = String::new();
    for finding in sorted {
        let line = format!(
            "{:4}  {:width$}  {}",
            finding.status.name(),
            finding.check,
            finding.found
        );
        text.push_str(line.trim_end());
        text.push('\n');
        for mend in finding.mend.iter().flat_map(|mend| mend.lines()) {
            text.push_str(&format!("{:4}  {:width$}  -> {mend}\n", "", ""));
        }
    }
    text
}
