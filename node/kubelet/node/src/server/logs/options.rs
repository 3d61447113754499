//! What part of a log is asked for; pure.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

/// Which of a container's outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamKind {
    /// Both.
    #[default]
    All,
    /// `stdout`.
    Stdout,
    /// `stderr`.
    Stderr,
}

/// The options of `kubectl logs`, as the kubelet takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on as the log grows, until the container has ended.
    pub follow: bool,
    /// The run before this one.
    pub previous: bool,
    /// Put the time in front of each line.
    pub timestamps: bool,
    /// Only lines of this time or later.
    pub since: Option<Timestamp>,
    /// Only so many lines of the end.
    pub tail: Option<u64>,
    /// No more than so many bytes.
    pub limit: Option<u64>,
    /// Only this output.
    pub stream: StreamKind,
}

/// Options that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOptions {
    /// Not a number, time or boolean.
    #[error("{{\"message\": \"Unable to decode query.\"}}")]
    Query,
    /// A number out of its range.
    #[error("{0}")]
    Invalid(String),
}

impl From<&BadOptions> for StatusCode {
    fn from(error: &BadOptions) -> Self {
        match error {
            BadOptions::Query => Self::BAD_REQUEST,
            BadOptions::Invalid(_) => Self::UNPROCESSABLE_ENTITY,
        }
    }
}

impl LogOptions {
    /// Reads a decoded query; `now` is what `sinceSeconds` counts from.
    ///
    /// # Errors
    /// [`BadOptions`].
    pub fn parse(query: &[(String, String)], now: Timestamp) -> Result<Self, BadOptions> {
        let value = |key: &str| {
            let found = query.iter().find(|(name, _)| name == key);
            found
                .map(|(_, value)| value.as_str())
                .filter(|value| !value.is_empty())
        };
        let number = |key: &str| {
            value(key)
                .map(str::parse::<i64>)
                .transpose()
                .map_err(|_| BadOptions::Query)
        };
        // "tailLines=all" is upstream's older way to say none.
        let tail = if value("tailLines") == Some("all") {
            None
        } else {
            number("tailLines")?
        };
        let since_time = value("sinceTime").map(str::parse::<Timestamp>).transpose();
        let since_time = since_time.map_err(|_| BadOptions::Query)?;
        let since_seconds = at_least("sinceSeconds", number("sinceSeconds")?, 1)?;
        if since_time.is_some() && since_seconds.is_some() {
            return Err(BadOptions::Invalid(
                "at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned(),
            ));
        }
        let relative = since_seconds.map(|seconds| {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            now.saturating_sub(SignedDuration::from_secs(seconds))
                .unwrap_or(Timestamp::MIN)
        });
        Ok(Self {
            follow: flag(value("follow"))?,
            previous: flag(value("previous"))?,
            timestamps: flag(value("timestamps"))?,
            since: since_time.or(relative),
            tail: at_least("tailLines", tail, 0)?,
            limit: at_least("limitBytes", number("limitBytes")?, 1)?,
            stream: stream(value("stream"))?,
        })
    }
}

fn flag(value: Option<&str>) -> Result<bool, BadOptions> {
    match value {
        None => Ok(false),
        // Go: anything but these is true (`Convert_Slice_string_To_bool`).
        Some(text) => Ok(!matches!(text.to_lowercase().as_str(), "false" | "0")),
    }
}

fn stream(value: Option<&str>) -> Result<StreamKind, BadOptions> {
    match value {
        None | Some("All") => Ok(StreamKind::All),
        Some("Stdout") => Ok(StreamKind::Stdout),
        Some("Stderr") => Ok(StreamKind::Stderr),
        Some(other) => Err(BadOptions::Invalid(format!(
            "stream: Unsupported value: {other:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
        ))),
    }
}

fn at_least(field: &str, value: Option<i64>, least: i64) -> Result<Option<u64>, BadOptions> {
    match value {
        Some(value) if value < least => {
            let bound = if least == 0 {
                "must be greater than or equal to 0".to_owned()
            } else {
                "must be greater than 0".to_owned()
            };
            Err(BadOptions::Invalid(format!(
                "{field}: Invalid value: {value}: {bound}"
            )))
        }
        Some(value) => Ok(u64::try_from(value).ok()),
        None => Ok(None),
    }
}
