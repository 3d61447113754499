//! Which representation of an answer the client wants.

use http::HeaderMap;
use knode_api::status::Status;

use crate::http::Failure;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const AVAILABLE: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];

/// The bytes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Yaml,
    Protobuf,
}

impl Form {
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Yaml => "application/yaml",
            Form::Protobuf => PROTOBUF,
        }
    }
}

/// The representation that was settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub form: Form,
    /// The kind of `as=KIND;g=GROUP;v=VERSION`.
    pub convert: Option<(String, String, String)>,
}

/// One clause of the header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        Self {
            media,
            parameters: parts.filter_map(|p| p.split_once('=')).collect(),
        }
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| *value)
    }

    fn convert(&self) -> Option<(String, String, String)> {
        let part = |name| self.parameter(name).unwrap_or_default().to_owned();
        self.parameter("as")
            .map(|kind| (kind.to_owned(), part("g"), part("v")))
    }
}

/// Picks the representation by the header `Accept`. `knows` says which conversions the answer has, `protobuf`
/// whether it can be written as protobuf: JSON is taken wherever the client accepts it too.
pub(crate) fn accepted(
    headers: &HeaderMap,
    protobuf: bool,
    knows: impl Fn(&str, &str, &str) -> bool,
) -> Result<Accepted, Failure> {
    let text = headers
        .get(http::header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("*/*");
    let usable: Vec<(Form, Clause<'_>)> = text
        .split(',')
        .map(Clause::parse)
        .filter(|clause| {
            clause
                .convert()
                .is_none_or(|(kind, group, version)| knows(&kind, &group, &version))
        })
        .filter_map(|clause| Some((form(clause.media, protobuf)?, clause)))
        .collect();
    // The first clause decides about the conversion, and JSON is as good as the protobuf it was listed behind.
    let Some((first_form, first)) = usable.first() else {
        return Err(Status::not_acceptable(&AVAILABLE).into());
    };
    let convert = first.convert();
    let json_too = usable
        .iter()
        .any(|(form, clause)| *form == Form::Json && clause.convert() == convert);
    let form = if *first_form == Form::Protobuf && json_too {
        Form::Json
    } else {
        *first_form
    };
    Ok(Accepted { form, convert })
}

fn form(media: &str, protobuf: bool) -> Option<Form> {
    match media {
        "" | "*/*" | "application/*" | "application/json" => Some(Form::Json),
        "application/yaml" => Some(Form::Yaml),
        PROTOBUF if protobuf => Some(Form::Protobuf),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, accepted};
    use http::HeaderMap;

    fn ask(accept: &str) -> Option<(Form, Option<String>)> {
        let mut headers = HeaderMap::new();
        headers.insert("accept", accept.parse().unwrap());
        let known = |kind: &str, _: &str, version: &str| kind == "Table" && version == "v1";
        accepted(&headers, true, known)
            .ok()
            .map(|a| (a.form, a.convert.map(|c| c.0)))
    }

    #[test]
    fn json_is_taken_where_it_is_accepted() {
        assert_eq!(
            ask("application/vnd.kubernetes.protobuf,application/json"),
            Some((Form::Json, None))
        );
        assert_eq!(
            ask("application/vnd.kubernetes.protobuf"),
            Some((Form::Protobuf, None))
        );
        assert_eq!(ask("text/html"), None);
        assert_eq!(ask("text/html, */*;q=0.8"), Some((Form::Json, None)));
    }

    #[test]
    fn the_first_known_conversion_is_taken() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                       application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(ask(kubectl), Some((Form::Json, Some("Table".to_owned()))));
        assert_eq!(ask("application/json;as=Other;v=v1;g=x"), None);
    }
}
