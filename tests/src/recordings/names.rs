//! What stands in a running cluster for the uids, versions and tokens of a recording.

use std::collections::BTreeMap;

use serde_json::Value;

/// Recorded texts and their live counterparts.
#[derive(Default)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// Takes the counterparts out of two answers to one request.
    pub fn learn(&mut self, recorded: &Value, live: &Value) {
        for field in ["uid", "resourceVersion", "continue"] {
            let of = |value: &Value| value["metadata"][field].as_str().map(str::to_owned);
            if let (Some(recorded), Some(live)) = (of(recorded), of(live)) {
                self.0.insert(recorded, live);
            }
        }
    }

    /// A body with live values: whole strings, and uids within texts.
    pub fn translate(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(list) => list.iter().map(|item| self.translate(item)).collect(),
            Value::Object(map) => {
                let fields = map
                    .iter()
                    .map(|(field, value)| (field.clone(), self.translate(value)));
                Value::Object(fields.collect())
            }
            other => other.clone(),
        }
    }

    fn text(&self, text: &str) -> String {
        if let Some(live) = self.0.get(text) {
            return live.clone();
        }
        let uids = self.0.iter().filter(|(recorded, _)| recorded.len() == 36);
        uids.fold(text.to_owned(), |text, (recorded, live)| {
            text.replace(recorded, live)
        })
    }

    /// A path whose query names live versions and tokens.
    pub fn translate_path(&self, path: &str) -> String {
        let Some((path, query)) = path.split_once('?') else {
            return path.to_owned();
        };
        let part = |part: &str| match part.split_once('=') {
            Some((name @ ("resourceVersion" | "continue"), value)) => {
                format!("{name}={}", self.0.get(value).map_or(value, String::as_str))
            }
            _ => part.to_owned(),
        };
        format!(
            "{path}?{}",
            query.split('&').map(part).collect::<Vec<_>>().join("&")
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_learnt_is_put_in() {
        let uid = "400b66fb-8271-4969-809c-420583789807";
        let mut names = Names::default();
        names.learn(
            &json!({"metadata": {"uid": uid, "resourceVersion": "7"}}),
            &json!({"metadata": {"uid": "live", "resourceVersion": "99"}}),
        );
        assert_eq!(
            names.translate_path("/a?limit=7&resourceVersion=7"),
            "/a?limit=7&resourceVersion=99"
        );
        let told = json!([format!("UID: {uid}"), "7", 7]);
        assert_eq!(names.translate(&told), json!(["UID: live", "99", 7]));
    }
}
