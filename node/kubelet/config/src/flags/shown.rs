//! Flags as they hold, whoever set them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::CommandLine;
use super::table::{FIELDS, OWN};
use crate::merge::get;
use crate::schema::{self, Support};

impl CommandLine {
    /// Every flag that means something with the value that holds, as one would write it.
    pub(crate) fn shown(&self, document: &Value) -> BTreeMap<String, String> {
        let Some(document) = document.as_object() else {
            return BTreeMap::new();
        };
        let followed = FIELDS.iter().filter(|(_, path)| {
            schema::find(path).is_some_and(|field| !matches!(field.support, Support::NoEffect(_)))
        });
        let fields = followed.map(|(flag, path)| {
            (
                (*flag).to_owned(),
                get(document, path).map_or_else(String::new, text),
            )
        });
        let own = OWN
            .iter()
            .map(|(flag, own, _)| ((*flag).to_owned(), self.own(*own).unwrap_or_default().to_owned()));
        fields.chain(own).collect()
    }
}

/// A value as a flag takes it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Object(all) => {
            let pairs = all.iter().map(|(name, value)| format!("{name}={}", text(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Sources, parse_flags, settle};

    #[test]
    fn flags_as_they_hold() {
        let words = [
            "--max-pods=50",
            "--node-ip=10.0.0.1",
            "--cluster-dns=10.96.0.10,10.96.0.11",
        ];
        let line = parse_flags(&words.map(str::to_owned)).unwrap();
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 20\nevictionHard: {memory.available: 200Mi}\n";
        let files = [("c".to_owned(), text.to_owned())];
        let sources = Sources {
            files: &files,
            ..Sources::default()
        };
        let flags = settle(&line, sources).unwrap().flags;
        let of = |name: &str| flags.get(name).map(String::as_str);
        assert_eq!(of("max-pods"), Some("50"));
        assert_eq!(of("node-ip"), Some("10.0.0.1"));
        assert_eq!(of("cluster-dns"), Some("10.96.0.10,10.96.0.11"));
        assert_eq!(of("eviction-hard"), Some("memory.available=200Mi"));
        assert_eq!(of("healthz-port"), Some("10248"));
        assert_eq!(of("config"), Some(""));
        assert_eq!(of("sync-frequency"), None, "it has no effect");
    }
}
