//! Files: YAML or JSON to a document that holds only known fields of the right form.

use std::net::IpAddr;

use knode_api::time::parse_duration;
use serde_json::{Map, Value};

use crate::schema::{FIELDS, Field, Kind};
use crate::{Error, Result};

const KIND: &str = "KubeletConfiguration";
const VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// Reads one file; `name` is how errors call it.
///
/// # Errors
/// [`Error`], naming the file and the place in it.
pub(crate) fn read(name: &str, text: &str) -> Result<Map<String, Value>> {
    let parse = |source| Error::Parse {
        file: name.to_owned(),
        source,
    };
    // By way of its own value, which refuses a key that stands twice.
    let yaml: serde_norway::Value = serde_norway::from_str(text).map_err(parse)?;
    let value: Value = serde_norway::from_value(yaml).map_err(parse)?;
    let Value::Object(mut document) = value else {
        return Err(Error::Kind {
            file: name.to_owned(),
            name: "kind",
            found: String::new(),
            expected: KIND,
        });
    };
    for (key, expected) in [("kind", KIND), ("apiVersion", VERSION)] {
        let found = document.remove(key).unwrap_or_default();
        if found.as_str() != Some(expected) {
            return Err(Error::Kind {
                file: name.to_owned(),
                name: key,
                found: found.as_str().unwrap_or_default().to_owned(),
                expected,
            });
        }
    }
    check_object(FIELDS, &document, "", name)?;
    Ok(document)
}

/// Every field must be known and of its form.
fn check_object(fields: &[Field], object: &Map<String, Value>, at: &str, origin: &str) -> Result<()> {
    for (name, value) in object {
        let path = format!("{at}{name}");
        let Some(field) = fields.iter().find(|field| field.name == name) else {
            return Err(Error::UnknownField {
                origin: origin.to_owned(),
                path,
            });
        };
        check_value(field, value, &path, origin)?;
    }
    Ok(())
}

/// A value must be of its field's form; null is none.
pub(crate) fn check_value(field: &Field, value: &Value, path: &str, origin: &str) -> Result<()> {
    match (field.kind, value) {
        (_, Value::Null) => Ok(()),
        (Kind::Object(fields), Value::Object(object)) => {
            check_object(fields, object, &format!("{path}."), origin)
        }
        (Kind::Objects(fields), Value::Array(list)) => {
            for (n, item) in list.iter().enumerate() {
                let path = format!("{path}[{n}]");
                match item {
                    Value::Object(object) => check_object(fields, object, &format!("{path}."), origin)?,
                    other => return Err(wrong(other, "an object", &path, origin)),
                }
            }
            Ok(())
        }
        (Kind::Texts | Kind::Ips | Kind::Ints, Value::Array(list)) => {
            let form = element(field.kind);
            let items = list.iter().enumerate();
            each(
                items.map(|(n, item)| (format!("{path}[{n}]"), item)),
                form,
                origin,
            )
        }
        (Kind::TextMap | Kind::BoolMap | Kind::TextsMap, Value::Object(map)) => {
            let form = element(field.kind);
            let items = map.iter();
            each(
                items.map(|(key, item)| (format!("{path}.{key}"), item)),
                form,
                origin,
            )
        }
        (kind, value) => scalar(kind, value).map_err(|expected| wrong(value, &expected, path, origin)),
    }
}

/// The form of a list's or map's members.
fn element(kind: Kind) -> Kind {
    match kind {
        Kind::Ips => Kind::Ip,
        Kind::Ints => Kind::Int(i64::from(i32::MIN), i64::from(i32::MAX)),
        Kind::BoolMap => Kind::Bool,
        Kind::TextsMap => Kind::Texts,
        _ => Kind::Text,
    }
}

fn each<'a>(items: impl Iterator<Item = (String, &'a Value)>, form: Kind, origin: &str) -> Result<()> {
    for (path, item) in items {
        scalar(form, item).map_err(|expected| wrong(item, &expected, &path, origin))?;
    }
    Ok(())
}

/// Whether a value that is neither list nor object has this form, or what it should be.
fn scalar(kind: Kind, value: &Value) -> Result<(), String> {
    let text = value.as_str();
    // As in Go, an empty text is none.
    let none = text == Some("");
    let (good, expected) = match kind {
        Kind::Bool => (value.is_boolean(), "true or false".to_owned()),
        Kind::Int(low, high) => {
            let good = value
                .as_i64()
                .is_some_and(|number| (low..=high).contains(&number));
            (good, format!("a whole number from {low} to {high}"))
        }
        Kind::Share => {
            let good = value.as_f64().is_some_and(|share| share > 0.0 && share <= 1.0);
            (good, "a number above 0 and up to 1".to_owned())
        }
        Kind::Text => (text.is_some(), "a text".to_owned()),
        Kind::Choice(choices) => {
            let good = none || text.is_some_and(|text| choices.contains(&text));
            (good, format!("one of {}", choices.join(", ")))
        }
        Kind::Ip => {
            let good = none || text.is_some_and(|text| text.parse::<IpAddr>().is_ok());
            (good, "an IP address".to_owned())
        }
        Kind::Duration => (is_duration(text), "a duration such as 1m30s".to_owned()),
        Kind::Interval => {
            let good = value.is_u64() || is_duration(text);
            (good, "a duration such as 5s".to_owned())
        }
        Kind::Quantity => {
            let good = none || text.is_some_and(|text| knode_api::quantity::Quantity::parse(text).is_ok());
            (good, "a quantity such as 10Mi".to_owned())
        }
        Kind::Texts => {
            let good = value
                .as_array()
                .is_some_and(|list| list.iter().all(Value::is_string));
            (good, "a list of texts".to_owned())
        }
        Kind::Ips | Kind::Ints => (false, "a list".to_owned()),
        Kind::Objects(_) => (false, "a list of objects".to_owned()),
        Kind::TextMap | Kind::BoolMap | Kind::TextsMap | Kind::Object(_) => (false, "an object".to_owned()),
    };
    if good { Ok(()) } else { Err(expected) }
}

fn is_duration(text: Option<&str>) -> bool {
    text.is_some_and(|text| parse_duration(text).is_some())
}

fn wrong(value: &Value, expected: &str, path: &str, origin: &str) -> Error {
    Error::Value {
        origin: origin.to_owned(),
        path: path.to_owned(),
        value: value.to_string(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fields: &str) -> String {
        let text = format!("apiVersion: {VERSION}\nkind: {KIND}\n{fields}");
        match read("kubelet.yaml", &text) {
            Ok(_) => "good".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let cases = [
            ("maxPods: 20", "good"),
            ("authentication: {x509: {clientCAFile: /ca}}", "good"),
            ("maxPods: null", "good"),
            (
                "logging: {flushFrequency: 0, vmodule: [{filePattern: a, verbosity: 2}]}",
                "good",
            ),
            ("tracing: {endpoint: here}", "good"),
            ("maxPod: 20", "kubelet.yaml: unknown field \"maxPod\""),
            (
                "authentication: {x509: {clientCa: /ca}}",
                "kubelet.yaml: unknown field \"authentication.x509.clientCa\"",
            ),
            (
                "maxPods: many",
                "kubelet.yaml: maxPods: \"many\" is not a whole number from 0 to 2147483647",
            ),
            (
                "port: 70000",
                "kubelet.yaml: port: 70000 is not a whole number from 0 to 65535",
            ),
            (
                "clusterDNS: 10.0.0.1",
                "kubelet.yaml: clusterDNS: \"10.0.0.1\" is not a list",
            ),
            (
                "clusterDNS: [here]",
                "kubelet.yaml: clusterDNS[0]: \"here\" is not an IP address",
            ),
            (
                "failSwapOn: \"no\"",
                "kubelet.yaml: failSwapOn: \"no\" is not true or false",
            ),
            (
                "evictionHard: {memory.available: 5}",
                "kubelet.yaml: evictionHard.memory.available: 5 is not a text",
            ),
            (
                "syncFrequency: 60",
                "kubelet.yaml: syncFrequency: 60 is not a duration such as 1m30s",
            ),
            (
                "cpuManagerPolicy: dynamic",
                "kubelet.yaml: cpuManagerPolicy: \"dynamic\" is not one of none, static",
            ),
            (
                "registerWithTaints: [{key: a, efect: NoSchedule}]",
                "kubelet.yaml: unknown field \"registerWithTaints[0].efect\"",
            ),
            (
                "containerLogMaxSize: much",
                "kubelet.yaml: containerLogMaxSize: \"much\" is not a quantity such as 10Mi",
            ),
        ];
        for (fields, says) in cases {
            assert_eq!(told(fields), says, "{fields}");
        }
    }

    #[test]
    fn another_kind_and_doubled_keys_are_refused() {
        assert!(told("maxPods: 1\nmaxPods: 2").contains("kubelet.yaml can't be parsed"));
        let other = read(
            "a",
            "apiVersion: kubelet.config.k8s.io/v1\nkind: KubeletConfiguration",
        )
        .unwrap_err();
        assert_eq!(
            other.to_string(),
            "a: apiVersion is \"kubelet.config.k8s.io/v1\", expected \"kubelet.config.k8s.io/v1beta1\""
        );
        assert!(
            read("a", "")
                .unwrap_err()
                .to_string()
                .contains("expected \"KubeletConfiguration\"")
        );
        assert!(read("a", "[").is_err());
    }
}
