//! Tokens of service accounts on request (`pkg/registry/core/serviceaccount/storage/token.go`).

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use jiff::SignedDuration;
use knode_api::field::FieldError;
use knode_api::status::{GroupResource, Status};
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::auth::service_account::{Bound, Grant, claims};
use crate::clock::now;
use crate::core::Core;
use crate::http::{Failure, Outcome};
use crate::registry::{Ask, Source, Wanted, new_uid, read_typed, render_object, view};
use crate::request::WriteOptions;

const GROUP: &str = "authentication.k8s.io";
const DEFAULT_LIFETIME: i64 = 3600;
const MIN_LIFETIME: i64 = 600;
const MAX_LIFETIME: i64 = 1 << 32;

/// The answer to a POST of a TokenRequest.
pub(super) async fn request(core: &Arc<Core>, ask: &mut Ask, body: &Bytes) -> Outcome {
    let options = WriteOptions::parse(&ask.query, "CreateOptions")?;
    let wanted = Wanted {
        group: GROUP,
        version: "v1",
        kind: "TokenRequest",
    };
    let mut request = read_typed(
        &ask.headers,
        body,
        wanted,
        options.field_validation,
        &mut ask.warnings,
    )?;
    let account = core
        .current(ask.kind, &ask.key())
        .await?
        .ok_or_else(|| ask.not_found())?;
    let account = view(ask.kind, &account);
    admission::check(core, ask, Operation::Create, Some(&request), None)?;
    settle(core, &mut request);
    let lifetime = lifetime(&request).map_err(|error| invalid(&[error]))?;
    let grant = grant(core, ask, &request, &account, lifetime)?;
    let end = grant.issued + SignedDuration::from_secs(lifetime);
    let token = core.config.service_account_key.sign(&claims(&grant));
    request["metadata"] = json!({"name": ask.info.name, "namespace": ask.info.namespace,
        "creationTimestamp": crate::clock::stamp()});
    request["status"] = json!({"token": token, "expirationTimestamp": knode_api::time::rfc3339(end)});
    render_object(ask, StatusCode::CREATED, Source::Fresh(request))
}

fn settle(core: &Core, request: &mut Value) {
    if !request["spec"].is_object() {
        request["spec"] = json!({});
    }
    let spec = &mut request["spec"];
    if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
        spec["audiences"] = json!([core.config.issuer]);
    }
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = DEFAULT_LIFETIME.into();
    }
}

fn invalid(errors: &[FieldError]) -> Failure {
    Status::invalid(GroupResource::new(GROUP, "TokenRequest"), "", errors).into()
}

fn lifetime(request: &Value) -> Result<i64, FieldError> {
    const FIELD: &str = "spec.expirationSeconds";
    match request["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(DEFAULT_LIFETIME)
    {
        low if low < MIN_LIFETIME => Err(FieldError::invalid(
            FIELD,
            low,
            "may not specify a duration less than 10 minutes",
        )),
        high if high > MAX_LIFETIME => Err(FieldError::invalid(
            FIELD,
            high,
            "may not specify a duration larger than 2^32 seconds",
        )),
        good => Ok(good),
    }
}

fn grant<'a>(
    core: &'a Core,
    ask: &'a Ask,
    request: &Value,
    account: &Value,
    lifetime: i64,
) -> Result<Grant<'a>, Failure> {
    let reference = &request["spec"]["boundObjectRef"];
    let mut grant = Grant {
        issuer: &core.config.issuer,
        namespace: &ask.info.namespace,
        account: bound(account),
        pod: None,
        node: None,
        secret: None,
        audiences: texts(&request["spec"]["audiences"]),
        issued: now(),
        lifetime,
        id: new_uid(),
    };
    if reference.is_null() {
        return Ok(grant);
    }
    let name = reference["name"].as_str().unwrap_or_default();
    let namespaced = format!("{}/{name}", ask.info.namespace);
    let find = |plural: &str, key: &str| -> Result<Value, Failure> {
        let object = core.cached("", plural, key).map(|object| object.value());
        let object = object.ok_or_else(|| Status::not_found(GroupResource::new("", plural), name))?;
        check_uid(ask, reference, &object)?;
        Ok(object)
    };
    match (
        reference["apiVersion"].as_str().unwrap_or_default(),
        reference["kind"].as_str().unwrap_or_default(),
    ) {
        ("v1", "Pod") => {
            let pod = find("pods", &namespaced)?;
            check_account(ask, &pod)?;
            grant.node = node_of(core, &pod);
            grant.pod = Some(bound(&pod));
        }
        ("v1", "Secret") => grant.secret = Some(bound(&find("secrets", &namespaced)?)),
        ("v1", "Node") => grant.node = Some(bound(&find("nodes", name)?)),
        (version, kind) => {
            let why = format!("cannot bind token to object of type {version}, Kind={kind}");
            return Err(Status::bad_request(why).into());
        }
    }
    Ok(grant)
}

fn bound(object: &Value) -> Bound {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    Bound {
        name: text("name"),
        uid: text("uid"),
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The pod's node; its uid if it is known.
fn node_of(core: &Core, pod: &Value) -> Option<Bound> {
    let name = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty())?;
    let node = core.cached("", "nodes", name).map(|node| bound(&node.value()));
    Some(node.unwrap_or_else(|| Bound {
        name: name.to_owned(),
        uid: String::new(),
    }))
}

fn check_uid(ask: &Ask, reference: &Value, object: &Value) -> Result<(), Failure> {
    let wanted = reference["uid"].as_str().unwrap_or_default();
    let found = object["metadata"]["uid"].as_str().unwrap_or_default();
    if wanted.is_empty() || wanted == found {
        return Ok(());
    }
    let why = format!(
        "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might \
         have been deleted and then recreated"
    );
    let name = object["metadata"]["name"].as_str().unwrap_or(&ask.info.name);
    Err(Status::conflict(GroupResource::new(GROUP, "TokenRequest"), name, &why).into())
}

fn check_account(ask: &Ask, pod: &Value) -> Result<(), Failure> {
    let of = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    if of == ask.info.name {
        return Ok(());
    }
    let field = FieldError::invalid(
        "spec.boundObjectRef.name",
        pod["metadata"]["name"].clone(),
        format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            ask.info.name
        ),
    );
    let mut status = Status::bad_request(field.detail);
    status.details = None;
    Err(status.into())
}
