//! Kinds that are answered on the spot: reviews.

use std::sync::Arc;

use http::StatusCode;
use knode_api::status::{GroupResource, Status};
use serde_json::{Value, json};

use crate::auth::{Attributes, Decision, user_value};
use crate::core::Core;
use crate::http::{Failure, Outcome, RequestBody, read_body};
use crate::registry::{Ask, Source, read_own, render_object};
use crate::request::{Verb, WriteOptions};
use crate::user::UserInfo;

/// The answer to a POST of a kind that is not stored.
pub(crate) async fn create(core: &Arc<Core>, ask: &mut Ask, body: RequestBody) -> Outcome {
    if ask.info.verb != Verb::Create || ask.info.named_by_path {
        return Err(Status::method_not_allowed().into());
    }
    let options = WriteOptions::parse(&ask.query, "CreateOptions")?;
    let bytes = read_body(body).await?;
    let mut review = read_own(ask, &bytes, options.field_validation)?;
    let status = match ask.kind.kind {
        "TokenReview" => token_review(core, &review)?,
        "SubjectAccessReview" => access_review(core, &review, reviewed_user(&review["spec"])?)?,
        "LocalSubjectAccessReview" => {
            check_namespace(ask, &review)?;
            access_review(core, &review, reviewed_user(&review["spec"])?)?
        }
        "SelfSubjectAccessReview" => access_review(core, &review, ask.user.clone())?,
        "SelfSubjectRulesReview" => rules_review(core, &review, &ask.user),
        "SelfSubjectReview" => json!({"userInfo": user_value(&ask.user)}),
        other => {
            return Err(Status::method_not_supported(
                GroupResource::new(ask.kind.group, ask.kind.plural),
                other,
            )
            .into());
        }
    };
    review["status"] = status;
    if !review["metadata"].is_object() {
        review["metadata"] = json!({});
    }
    render_object(ask, StatusCode::CREATED, Source::Fresh(review))
}

fn token_review(core: &Core, review: &Value) -> Result<Value, Failure> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication").into());
    }
    let audiences = texts(&review["spec"]["audiences"]);
    Ok(match core.authenticator.tokens().verify(token, &audiences) {
        Ok(verified) => {
            json!({"authenticated": true, "user": user_value(&verified.user), "audiences": verified.audiences})
        }
        Err(error) => json!({"user": {}, "error": error.to_string()}),
    })
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn check_namespace(ask: &Ask, review: &Value) -> Result<(), Failure> {
    let wanted = review["spec"]["resourceAttributes"]["namespace"]
        .as_str()
        .unwrap_or_default();
    if wanted == ask.info.namespace {
        return Ok(());
    }
    let namespace = &ask.info.namespace;
    Err(Status::bad_request(format!(
        "spec.resourceAttributes.namespace must match namespace: {namespace}"
    ))
    .into())
}

fn reviewed_user(spec: &Value) -> Result<UserInfo, Failure> {
    let name = spec["user"].as_str().unwrap_or_default();
    let groups = texts(&spec["groups"]);
    if name.is_empty() && groups.is_empty() {
        let error = knode_api::field::FieldError::invalid(
            "spec.user",
            "",
            "at least one of user or group must be specified",
        );
        let kind = GroupResource::new("authorization.k8s.io", "SubjectAccessReview");
        return Err(Status::invalid(kind, "", &[error]).into());
    }
    let extra = spec["extra"].as_object().into_iter().flatten();
    Ok(UserInfo {
        name: name.to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups,
        extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
    })
}

fn access_review(core: &Core, review: &Value, user: UserInfo) -> Result<Value, Failure> {
    let spec = &review["spec"];
    let ask = match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (Value::Object(_), Value::Null) => resource_attributes(&spec["resourceAttributes"], user),
        (Value::Null, Value::Object(_)) => path_attributes(&spec["nonResourceAttributes"], user),
        _ => {
            let error = knode_api::field::FieldError::invalid(
                "spec.resourceAttributes",
                "null",
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            );
            let kind = review["kind"].as_str().unwrap_or_default();
            return Err(
                Status::invalid(GroupResource::new("authorization.k8s.io", kind), "", &[error]).into(),
            );
        }
    };
    Ok(match core.authorizer.decide(&ask) {
        Decision::Allowed => json!({"allowed": true}),
        Decision::NoOpinion(why) if why.is_empty() => json!({"allowed": false}),
        Decision::NoOpinion(why) => json!({"allowed": false, "reason": why}),
    })
}

fn resource_attributes(given: &Value, user: UserInfo) -> Attributes {
    let text = |field: &str| given[field].as_str().unwrap_or_default().to_owned();
    Attributes {
        user,
        verb: text("verb"),
        is_resource: true,
        group: text("group"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        ..Attributes::default()
    }
}

fn path_attributes(given: &Value, user: UserInfo) -> Attributes {
    let text = |field: &str| given[field].as_str().unwrap_or_default().to_owned();
    Attributes {
        user,
        verb: text("verb"),
        path: text("path"),
        ..Attributes::default()
    }
}

fn rules_review(core: &Core, review: &Value, user: &UserInfo) -> Value {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    let (urls, resources): (Vec<_>, Vec<_>) = core
        .authorizer
        .rules(user, namespace)
        .into_iter()
        .partition(|rule| !rule.non_resource_urls.is_empty());
    json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": false})
}
