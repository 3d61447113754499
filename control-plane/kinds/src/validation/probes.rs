//! Probes and hooks.
use knode_api::field::{FieldError, Path};
use knode_api::names;
use serde_json::Value;

use super::{Errors, non_negative};
use crate::value::{list, number, text};

const HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];

/// The three probes of a container.
pub(super) fn all(errors: &mut Errors, container: &Value, at: &Path<'_>, grace: Option<i64>) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(name).filter(|p| p.is_object()) else {
            continue;
        };
        let path = at.child(name);
        self::probe(errors, probe, &path, grace);
        if name != "readinessProbe" && number(probe, "/successThreshold") != 1 {
            let n = number(probe, "/successThreshold");
            errors.push(FieldError::invalid(
                path.child("successThreshold"),
                n,
                "must be 1",
            ));
        }
        if name == "readinessProbe" && probe.get("terminationGracePeriodSeconds").is_some() {
            let n = number(probe, "/terminationGracePeriodSeconds");
            let words = "must not be set for readinessProbes";
            errors.push(FieldError::invalid(
                path.child("terminationGracePeriodSeconds"),
                n,
                words,
            ));
        }
    }
}

fn probe(errors: &mut Errors, probe: &Value, path: &Path<'_>, grace: Option<i64>) {
    handler(errors, probe, path, false, grace);
    let counts = [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ];
    for name in counts {
        non_negative(errors, &path.child(name), probe.get(name));
    }
    if let Some(n) = probe
        .get("terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .filter(|n| *n <= 0)
    {
        let words = "must be greater than 0";
        errors.push(FieldError::invalid(
            path.child("terminationGracePeriodSeconds"),
            n,
            words,
        ));
    }
}

/// Exactly one handler; a hook may also sleep but not ask gRPC.
pub(super) fn handler(errors: &mut Errors, handler: &Value, path: &Path<'_>, hook: bool, grace: Option<i64>) {
    let known = HANDLERS.into_iter().chain(["sleep"]).filter(|h| match *h {
        "grpc" => !hook,
        "sleep" => hook,
        _ => true,
    });
    let mut found = 0;
    for name in known.filter(|h| handler.get(*h).is_some_and(|v| !v.is_null())) {
        let at = path.child(name);
        found += 1;
        if found > 1 {
            errors.push(FieldError::forbidden(
                at,
                "may not specify more than 1 handler type",
            ));
            continue;
        }
        one(errors, name, &handler[name], &at, grace);
    }
    if found == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn one(errors: &mut Errors, name: &str, body: &Value, at: &Path<'_>, grace: Option<i64>) {
    match name {
        "exec" if list(body, "/command").is_empty() => {
            errors.push(FieldError::required(at.child("command"), ""));
        }
        "httpGet" => {
            if text(body, "/path").is_empty() {
                errors.push(FieldError::required(at.child("path"), ""));
            }
            port(errors, body, at);
            super::one_of(errors, body, at, "scheme", &["HTTP", "HTTPS"], true);
        }
        "tcpSocket" => port(errors, body, at),
        "grpc" => {
            let n = number(body, "/port");
            errors.extend(
                names::port_number(n)
                    .into_iter()
                    .map(|m| FieldError::invalid(at.child("port"), n, m)),
            );
        }
        "sleep" => {
            let (n, grace) = (number(body, "/seconds"), grace.unwrap_or(30));
            if n < 0 || n > grace {
                let words = format!(
                    "must be greater than 0 and less than terminationGracePeriodSeconds ({grace}). Enable AllowPodLifecycleSleepActionZeroValue feature gate for zero sleep."
                );
                errors.push(FieldError::invalid(at, n, words));
            }
        }
        _ => {}
    }
}

fn port(errors: &mut Errors, body: &Value, at: &Path<'_>) {
    port_number_or_name(
        errors,
        body.get("port").unwrap_or(&Value::Null),
        &at.child("port"),
    );
}

/// A port by number or by name.
pub(super) fn port_number_or_name(errors: &mut Errors, port: &Value, at: &Path<'_>) {
    let messages = match port {
        Value::String(name) => names::port_name(name),
        other => names::port_number(other.as_i64().unwrap_or(0)),
    };
    errors.extend(
        messages
            .into_iter()
            .map(|m| FieldError::invalid(at, port.clone(), m)),
    );
}
