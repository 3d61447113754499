//! Roles, bindings and certificate signing requests.
use knode_api::field::{FieldError, Path};
use serde_json::Value;

use super::{Errors, required_text};
use crate::value::{list, number, text};

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) fn role(role: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("rules");
    let namespaced = text(role, "/kind") == "Role";
    for (i, rule) in list(role, "/rules").iter().enumerate() {
        let at = path.index(i);
        if list(rule, "/verbs").is_empty() {
            errors.push(FieldError::required(
                at.child("verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !list(rule, "/nonResourceURLs").is_empty() {
            non_resource(&mut errors, rule, &at, namespaced);
            continue;
        }
        if list(rule, "/apiGroups").is_empty() {
            let words = "resource rules must supply at least one api group";
            errors.push(FieldError::required(at.child("apiGroups"), words));
        }
        if list(rule, "/resources").is_empty() {
            let words = "resource rules must supply at least one resource";
            errors.push(FieldError::required(at.child("resources"), words));
        }
    }
    errors
}

fn non_resource(errors: &mut Errors, rule: &Value, at: &Path<'_>, namespaced: bool) {
    let urls = Value::Array(list(rule, "/nonResourceURLs").to_vec());
    let at = at.child("nonResourceURLs");
    if namespaced {
        let words = "namespaced rules cannot apply to non-resource URLs";
        errors.push(FieldError::invalid(at, urls.clone(), words));
    }
    let mixed = ["/apiGroups", "/resources", "/resourceNames"]
        .iter()
        .any(|p| !list(rule, p).is_empty());
    if mixed {
        let words = "rules cannot apply to both regular resources and non-resource URLs";
        errors.push(FieldError::invalid(at, urls, words));
    }
}

pub(crate) fn binding(binding: &Value) -> Errors {
    let mut errors = Errors::new();
    let role = Path::new("roleRef");
    if text(binding, "/roleRef/apiGroup") != RBAC_GROUP {
        let group = text(binding, "/roleRef/apiGroup");
        errors.push(FieldError::not_supported(
            role.child("apiGroup"),
            group,
            &[RBAC_GROUP],
        ));
    }
    let kinds: &[&str] = if text(binding, "/kind") == "RoleBinding" {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    let kind = text(binding, "/roleRef/kind");
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported(role.child("kind"), kind, kinds));
    }
    required_text(&mut errors, &binding["roleRef"], &role, "name");
    let path = Path::new("subjects");
    for (i, subject) in list(binding, "/subjects").iter().enumerate() {
        self::subject(&mut errors, subject, &path.index(i));
    }
    errors
}

fn subject(errors: &mut Errors, subject: &Value, at: &Path<'_>) {
    required_text(errors, subject, at, "name");
    let group = text(subject, "/apiGroup");
    match text(subject, "/kind") {
        "ServiceAccount" => {
            if !group.is_empty() {
                errors.push(FieldError::not_supported(at.child("apiGroup"), group, &[""]));
            }
            if text(subject, "/namespace").is_empty() {
                errors.push(FieldError::required(at.child("namespace"), ""));
            }
        }
        "User" | "Group" if group == RBAC_GROUP => {}
        "User" | "Group" => {
            errors.push(FieldError::not_supported(
                at.child("apiGroup"),
                group,
                &[RBAC_GROUP],
            ));
        }
        kind => {
            let kinds = ["ServiceAccount", "User", "Group"];
            errors.push(FieldError::not_supported(at.child("kind"), kind, &kinds));
        }
    }
}

/// A binding keeps its role.
pub(crate) fn binding_update(new: &Value, old: &Value) -> Errors {
    let mut errors = binding(new);
    if new.get("roleRef") != old.get("roleRef") {
        let value = new.get("roleRef").cloned().unwrap_or_default();
        errors.push(FieldError::invalid("roleRef", value, "cannot change roleRef"));
    }
    errors
}

/// Usages that a certificate may have.
const USAGES: [&str; 23] = [
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "timestamping",
    "ocsp signing",
    "microsoft sgc",
    "netscape sgc",
];

/// That `spec.request` is a well-formed request is the signer's to check; here it must be there.
pub(crate) fn certificate_request(request: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    if text(request, "/spec/request").is_empty() {
        errors.push(FieldError::invalid(
            path.child("request"),
            "",
            "PEM block type must be CERTIFICATE REQUEST",
        ));
    }
    let usages = list(request, "/spec/usages");
    let at = path.child("usages");
    if usages.is_empty() {
        errors.push(FieldError::required(at, "usages must contain at least one value"));
    }
    for (i, usage) in usages.iter().map(|u| u.as_str().unwrap_or_default()).enumerate() {
        if !USAGES.contains(&usage) {
            errors.push(FieldError::not_supported(at.index(i), usage, &USAGES));
        }
    }
    let signer = text(request, "/spec/signerName");
    if signer.is_empty() {
        errors.push(FieldError::required(path.child("signerName"), ""));
    } else if !signer.contains('/') {
        let words = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path.child("signerName"), signer, words));
    }
    let seconds = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    if seconds.is_some_and(|n| n < 600) {
        let n = number(request, "/spec/expirationSeconds");
        let words = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(path.child("expirationSeconds"), n, words));
    }
    errors
}
