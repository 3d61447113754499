//! `/statusz` and `/flagz`: what runs here and with which flags (upstream:
//! `k8s.io/apiserver/pkg/server/{statusz,flagz}`), as text, or as JSON for who asks for exactly that.

use std::collections::BTreeMap;

use http::{HeaderMap, StatusCode, header::ACCEPT};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Kubelet;
use super::body::{Answer, json, text};

const COMPONENT: &str = "kubelet";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
guarantees and is for debugging purposes only.";
const VERSION: &str = "v1beta1";

/// What `/statusz` points to.
const PATHS: &[&str] = &[
    "/configz",
    "/flagz",
    "/healthz",
    "/logs",
    "/metrics",
    "/pods",
    "/runningpods",
    "/stats/summary",
    "/statusz",
];

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

pub(super) fn statusz(kubelet: &Kubelet, headers: &HeaderMap) -> Answer {
    let now = kubelet.clock.now();
    match form(headers, "Statusz") {
        Some(Form::Text) => text(
            StatusCode::OK,
            status_text(&kubelet.version, kubelet.started, now),
        ),
        Some(Form::Json) => json(&status_json(&kubelet.version, kubelet.started, now)),
        None => not_acceptable("Statusz"),
    }
}

pub(super) fn flagz(kubelet: &Kubelet, headers: &HeaderMap) -> Answer {
    match form(headers, "Flagz") {
        Some(Form::Text) => text(StatusCode::OK, flags_text(&kubelet.flags)),
        Some(Form::Json) => json(&page("Flagz", &[("flags", json!(kubelet.flags))])),
        None => not_acceptable("Flagz"),
    }
}

fn not_acceptable(kind: &str) -> Answer {
    text(
        StatusCode::NOT_ACCEPTABLE,
        format!(
            "only the following media types are accepted: text/plain, application/json;v={VERSION};g=config.k8s.io;as={kind}\n"
        ),
    )
}

/// The first form of those that the client accepts, in its order.
fn form(headers: &HeaderMap, kind: &str) -> Option<Form> {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|one| one.to_str().ok());
    let accepted: Vec<&str> = accepted
        .flat_map(|one| one.split(','))
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .collect();
    match accepted.is_empty() {
        true => Some(Form::Text),
        false => accepted.into_iter().find_map(|one| form_of(one, kind)),
    }
}

fn form_of(clause: &str, kind: &str) -> Option<Form> {
    let mut parts = clause.split(';').map(str::trim);
    let media = parts.next()?;
    let parameters: BTreeMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
    match media {
        "*/*" | "text/*" | "text/plain" => Some(Form::Text),
        "application/json" => {
            let wanted = [("v", VERSION), ("g", "config.k8s.io"), ("as", kind)];
            let has = |(name, value): (&str, &str)| parameters.get(name) == Some(&value);
            wanted.into_iter().all(has).then_some(Form::Json)
        }
        _ => None,
    }
}

/// `1.36` of `v1.36.2+…`.
fn minor(version: &str) -> String {
    let parts: Vec<&str> = version.split('.').take(2).collect();
    parts.join(".")
}

fn status_text(version: &str, started: Timestamp, now: Timestamp) -> String {
    let version = version.trim_start_matches('v');
    let up = seconds(started, now);
    let lines = [
        String::new(),
        format!("{COMPONENT} statusz"),
        WARNING.to_owned(),
        String::new(),
        format!("Started: {}", started.strftime("%a %b %e %H:%M:%S UTC %Y")),
        format!("Up: {} hr {:02} min {:02} sec", up / 3600, up / 60 % 60, up % 60),
        format!("Binary version: {version}"),
        format!("Emulation version: {}", minor(version)),
        format!("Paths: {}", PATHS.join(" ")),
        String::new(),
    ];
    lines.join("\n")
}

fn status_json(version: &str, started: Timestamp, now: Timestamp) -> Value {
    let version = version.trim_start_matches('v');
    page(
        "Statusz",
        &[
            (
                "startTime",
                started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
            ),
            ("uptimeSeconds", seconds(started, now).into()),
            // There is no Go in it.
            ("goVersion", "".into()),
            ("binaryVersion", version.into()),
            ("emulationVersion", minor(version).into()),
            ("paths", json!(PATHS)),
        ],
    )
}

fn seconds(started: Timestamp, now: Timestamp) -> i64 {
    now.duration_since(started).as_secs().max(0)
}

fn page(kind: &str, fields: &[(&str, Value)]) -> Value {
    let mut page = json!({"kind": kind, "apiVersion": format!("config.k8s.io/{VERSION}"),
        "metadata": {"name": COMPONENT}});
    for (name, value) in fields {
        page[*name] = value.clone();
    }
    page
}

fn flags_text(flags: &BTreeMap<String, String>) -> String {
    let lines = flags.iter().map(|(name, value)| format!("{name}={value}\n"));
    format!("\n{COMPONENT} flagz\n{WARNING}\n\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &[&str]) -> Option<Form> {
        let mut headers = HeaderMap::new();
        for one in accept {
            headers.append(ACCEPT, one.parse().unwrap());
        }
        form(&headers, "Statusz")
    }

    /// The cases of upstream's own integration test (`test/integration/serving`), but for YAML and CBOR.
    #[test]
    fn the_form_is_the_one_that_was_asked_for() {
        let structured = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz";
        assert_eq!(chosen(&[]), Some(Form::Text));
        assert_eq!(chosen(&["text/plain"]), Some(Form::Text));
        assert_eq!(chosen(&["*/*"]), Some(Form::Text));
        assert_eq!(chosen(&[structured]), Some(Form::Json));
        assert_eq!(chosen(&["application/xml"]), None);
        assert_eq!(chosen(&["application/json"]), None);
        assert_eq!(chosen(&["application/json;v=v1beta1;g=config.k8s.io"]), None);
        assert_eq!(
            chosen(&["application/json;v=v1beta1;g=config.k8s.io;as=Flagz"]),
            None
        );
        let wrong_first = "application/json;v=foo;g=config.k8s.io;as=Statusz,*/*";
        assert_eq!(chosen(&[wrong_first]), Some(Form::Text));
        assert_eq!(chosen(&["application/xml", structured]), Some(Form::Json));
    }

    #[test]
    fn both_forms_say_the_same() {
        let started: Timestamp = "2024-10-06T21:03:43Z".parse().unwrap();
        let now: Timestamp = "2024-10-06T22:05:44Z".parse().unwrap();
        let text = status_text("v1.36.2+knode.1", started, now);
        for line in [
            "kubelet statusz",
            "Started: Sun Oct  6 21:03:43 UTC 2024",
            "Up: 1 hr 02 min 01 sec",
            "Binary version: 1.36.2+knode.1",
            "Emulation version: 1.36",
        ] {
            assert!(text.lines().any(|one| one == line), "{line:?} of {text}");
        }
        let json = status_json("v1.36.2+knode.1", started, now);
        assert_eq!(json["apiVersion"], "config.k8s.io/v1beta1");
        assert_eq!(json["metadata"]["name"], "kubelet");
        assert_eq!(json["startTime"], "2024-10-06T21:03:43Z");
        assert_eq!(json["uptimeSeconds"], 3721);
        assert_eq!(json["emulationVersion"], "1.36");
    }
}
