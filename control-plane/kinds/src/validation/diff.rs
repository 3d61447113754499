//! A unified diff of two objects' indented JSON, for the message of a refused pod update.
use serde_json::Value;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// Hunks of what differs; empty if nothing does.
pub(super) fn unified(old: &Value, new: &Value) -> String {
    let (old, new) = (indented(old), indented(new));
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let start = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    if start == a.len() && start == b.len() {
        return String::new();
    }
    let rest = a.len().min(b.len()) - start;
    let end = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take(rest)
        .take_while(|(x, y)| x == y)
        .count();
    let (a_end, b_end) = (a.len() - end, b.len() - end);
    let from = start.saturating_sub(CONTEXT);
    let tail = end.min(CONTEXT);
    let mut out = format!(
        "@@ -{},{} +{},{} @@\n",
        from + 1,
        a_end + tail - from,
        from + 1,
        b_end + tail - from
    );
    let mut push = |mark: char, lines: &[&str]| {
        for line in lines {
            out.push(mark);
            out.push_str(line);
            out.push('\n');
        }
    };
    push(' ', &a[from..start]);
    push('-', &a[start..a_end]);
    push('+', &b[start..b_end]);
    push(' ', &a[a_end..a_end + tail]);
    out
}

fn indented(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing JSON values to memory cannot fail.
    let _ = serde::Serialize::serialize(value, &mut serializer);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shows_what_changed() {
        let d = unified(
            &json!({"a": 1, "b": false, "c": 3}),
            &json!({"a": 1, "b": true, "c": 3}),
        );
        assert_eq!(
            d,
            "@@ -1,5 +1,5 @@\n {\n  \"a\": 1,\n-\"b\": false,\n+\"b\": true,\n  \"c\": 3\n }\n"
                .replace("-\"", "- \"")
                .replace("+\"", "+ \"")
        );
        assert_eq!(unified(&json!({}), &json!({})), "");
    }
}
