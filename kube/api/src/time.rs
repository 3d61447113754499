//! Times as upstream prints them: whole seconds in `metav1.Time`, microseconds in `metav1.MicroTime`.
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// RFC 3339 in UTC without a fraction: `2026-11-22T14:51:32Z`.
pub fn rfc3339(t: Timestamp) -> String {
    t.to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// RFC 3339 in UTC with six digits: `2026-11-22T14:51:32.000000Z`.
pub fn rfc3339_micro(t: Timestamp) -> String {
    let micros = t.subsec_nanosecond() / 1000;
    let whole = t
        .to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%dT%H:%M:%S")
        .to_string();
    format!("{whole}.{micros:06}Z")
}

/// Parses RFC 3339 with any offset and any fraction.
///
/// # Errors
/// Go's words for a text that is no such time.
pub fn parse(text: &str) -> Result<Timestamp, ParseTimeError> {
    let shaped = text.len() >= 20 && matches!(text.as_bytes()[10], b'T');
    let parsed = if shaped {
        text.parse::<Timestamp>().ok()
    } else {
        None
    };
    parsed.ok_or_else(|| ParseTimeError {
        text: text.to_string(),
    })
}

/// A text that is not RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parsing time {quoted} as \"2006-01-02T15:04:05Z07:00\": cannot parse {quoted} as \"2006\"", quoted = crate::goname::quote(text))]
pub struct ParseTimeError {
    /// The text as it came.
    pub text: String,
}

/// How long ago, in the short form of `kubectl get`'s Age column (`k8s.io/apimachinery/pkg/util/duration`).
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        s if s < -1 => "<invalid>".into(),
        s if s < 0 => "0s".into(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s / MINUTE % 60, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s / HOUR % 24, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s / DAY % 365, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses() {
        let t: Timestamp = "2026-11-22T14:51:32.1234567+01:00".parse().unwrap();
        assert_eq!(rfc3339(t), "2026-11-22T13:51:32Z");
        assert_eq!(rfc3339_micro(t), "2026-11-22T13:51:32.123456Z");
        assert_eq!(parse("2026-11-22T14:51:32.1234567+01:00").unwrap(), t);
        let e = parse("yesterday").unwrap_err().to_string();
        assert_eq!(
            e,
            "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\""
        );
    }

    #[test]
    fn ages() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (411, "6m51s"),
            (600, "10m"),
            (10800, "3h"),
            (11000, "3h3m"),
            (86400, "24h"),
            (172800, "2d"),
            (180000, "2d2h"),
        ];
        for (s, want) in cases {
            assert_eq!(human_duration(s), want, "{s}");
        }
    }
}
