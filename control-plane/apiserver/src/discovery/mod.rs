//! What this server serves, for clients that ask: groups, resources, schemas, version.

mod groups;
pub(crate) mod openapi;

use http::StatusCode;
use knode_kinds::Kind;
use serde_json::{Value, json};

use crate::config::ApiServerConfig;
use crate::http::{Outcome, accepted, json as reply, not_found_page, plain};
use crate::registry::Sent;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The documents of discovery.
pub(crate) struct Discovery {
    address: String,
}

impl Discovery {
    pub fn new(config: &ApiServerConfig) -> Self {
        Self {
            address: config.advertise.to_string(),
        }
    }

    /// `/api` and `/apis`, plain or aggregated.
    pub fn root(&self, core: bool, sent: &Sent) -> Outcome {
        let known = |kind: &str, group: &str, version: &str| {
            (kind, group, version) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2")
        };
        let accepted = accepted(&sent.headers, false, known)?;
        if accepted.convert.is_some() {
            return Ok(plain(
                StatusCode::OK,
                AGGREGATED,
                groups::aggregated(core).to_string(),
            ));
        }
        Ok(reply(
            StatusCode::OK,
            &if core { self.versions() } else { groups::list() },
        ))
    }

    fn versions(&self) -> Value {
        json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": self.address}]})
    }

    /// `/apis/GROUP`.
    pub fn group(&self, group: &str) -> Outcome {
        Ok(groups::group(group).map_or_else(not_found_page, |value| reply(StatusCode::OK, &value)))
    }

    /// `/api/v1` and `/apis/GROUP/VERSION`.
    pub fn resources(&self, group: &str, version: &str) -> Outcome {
        Ok(groups::resources(group, version)
            .map_or_else(not_found_page, |value| reply(StatusCode::OK, &value)))
    }
}

/// Groups with their versions, in the order of the table.
pub(crate) fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for kind in knode_kinds::kinds() {
        if !found.contains(&(kind.group, kind.version)) {
            found.push((kind.group, kind.version));
        }
    }
    found
}

/// Kinds of a group version.
pub(crate) fn kinds_of(group: &str, version: &str) -> Vec<&'static Kind> {
    knode_kinds::kinds()
        .iter()
        .copied()
        .filter(|k| k.group == group && k.version == version)
        .collect()
}

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": concat!("v1.36.2+knode.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}
