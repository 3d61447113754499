//! Paths without resources: health, version, discovery, schemas, keys, metrics.

use http::{Method, StatusCode};
use knode_api::status::Status;
use serde_json::json;

use crate::discovery::{openapi, version};
use crate::handler::Handler;
use crate::health;
use crate::http::{Failure, Outcome, accepted, json as reply, not_found_page, plain};
use crate::registry::Sent;
use crate::request::RequestInfo;

/// Answers a request whose path names no resource. The sender may ask it: that was checked before.
pub(crate) fn answer(handler: &Handler, info: &RequestInfo, sent: &Sent) -> Outcome {
    if !matches!(sent.method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed().into());
    }
    let core = handler.core();
    let parts: Vec<&str> = info.path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => Ok(reply(StatusCode::OK, &json!({"paths": paths()}))),
        ["healthz" | "livez" | "readyz", ..] => Ok(health::answer(core, &parts, &sent.query)),
        ["version"] => json_only(sent).map(|()| reply(StatusCode::OK, &version())),
        ["metrics"] => {
            let page = handler.metrics().page(core);
            Ok(plain(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                page,
            ))
        }
        ["api"] => handler.discovery().root(true, sent),
        ["apis"] => handler.discovery().root(false, sent),
        ["api", version] => handler.discovery().resources("", version),
        ["apis", group] => handler.discovery().group(group),
        ["apis", group, version] => handler.discovery().resources(group, version),
        ["openapi", "v2"] => Ok(openapi::v2(&sent.headers)),
        ["openapi", "v3"] => Ok(openapi::index(&sent.headers)),
        ["openapi", "v3", rest @ ..] => Ok(openapi::document(&sent.headers, &rest.join("/"))),
        ["openid", "v1", "jwks"] => {
            let keys = core.config.service_account_key.verifying_keys().jwks();
            Ok(plain(
                StatusCode::OK,
                "application/jwk-set+json",
                keys.to_string(),
            ))
        }
        [".well-known", "openid-configuration"] => Ok(reply(StatusCode::OK, &openid(&core.config.issuer))),
        _ => Ok(not_found_page()),
    }
}

/// Fails for clients that take protobuf only.
fn json_only(sent: &Sent) -> Result<(), Failure> {
    accepted(&sent.headers, false, |_, _, _| false).map(drop)
}

fn openid(issuer: &str) -> serde_json::Value {
    json!({"issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"),
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"]})
}

fn paths() -> Vec<String> {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for (group, version) in crate::discovery::group_versions() {
        match group {
            "" => paths.push(format!("/api/{version}")),
            group => paths.extend([format!("/apis/{group}"), format!("/apis/{group}/{version}")]),
        }
    }
    paths.sort();
    paths.dedup();
    paths
}
