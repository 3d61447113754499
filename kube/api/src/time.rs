//! Times as upstream prints them: whole seconds in `metav1.Time`, microseconds in `metav1.MicroTime`.

use std::time::Duration;

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

/// Nanoseconds as Go prints a duration: `1m30s`, `1.5s`, `0s`.
pub fn go_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let fraction = |unit: u64, name: &str| {
        let digits = unit.ilog10() as usize;
        let rest = format!("{:0digits$}", n % unit);
        let rest = rest.trim_end_matches('0');
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{sign}{}{dot}{rest}{name}", n / unit)
    };
    match n {
        0..1_000 => format!("{sign}{n}ns"),
        1_000..1_000_000 => fraction(1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(1_000_000, "ms"),
        _ => long_duration(sign, n),
    }
}

fn long_duration(sign: &str, nanos: u64) -> String {
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let rest = format!("{rest:09}");
    let rest = rest.trim_end_matches('0');
    let dot = if rest.is_empty() { "" } else { "." };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}{dot}{rest}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}{dot}{rest}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}{dot}{rest}s"),
    }
}

/// A duration as Go prints it; the longest that Go knows (292 years) for longer ones.
pub fn format_duration(duration: Duration) -> String {
    go_duration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// A duration in Go's form such as `1h30m0s`, `250ms` or `0`; `None` for anything else, negative ones included.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let nanos = u64::try_from(parse_go_duration(text)?).ok()?;
    Some(Duration::from_nanos(nanos))
}

/// Nanoseconds of a duration in Go's form (`time.ParseDuration`), `None` if it is none or longer than Go knows.
pub fn parse_go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let unit = match &tail[..unit_len] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * unit;
        rest = &tail[unit_len..];
    }
    // 2^63 is the first that does not fit.
    let total = Some(total.round()).filter(|total| *total < i64::MAX as f64)? as i64;
    Some(if negative { -total } else { total })
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
    fn durations() {
        let cases = [
            (0, "0s"),
            (90_000_000_000, "1m30s"),
            (1_500_000_000, "1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (-2_000_000, "-2ms"),
            (1_500, "1.5µs"),
            (7, "7ns"),
        ];
        for (nanos, text) in cases {
            assert_eq!(go_duration(nanos), text);
            assert_eq!(parse_go_duration(text), Some(nanos), "{text}");
        }
        assert_eq!(parse_go_duration("5"), None);
    }

    #[test]
    fn durations_that_are_not_negative() {
        let cases = [
            ("0", "0s"),
            ("0s", "0s"),
            ("90s", "1m30s"),
            ("1.5h", "1h30m0s"),
            ("100ms", "100ms"),
            ("1s500ms", "1.5s"),
            ("2m", "2m0s"),
            ("1µs", "1µs"),
        ];
        for (text, written) in cases {
            assert_eq!(format_duration(parse_duration(text).unwrap()), written, "{text}");
        }
        for wrong in ["", "5", "-1s", "1d", "s", "1.2.3s", "soon", "3000000h"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert_eq!(format_duration(Duration::MAX), "2562047h47m16.854775807s");
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
