//! The options of requests (`k8s.io/apimachinery/pkg/apis/meta/v1`) with upstream's validation.

use knode_api::field::FieldError;
use knode_api::selector::{FieldSelector, LabelSelector, SelectorError};
use knode_api::status::{GroupResource, Status};
use serde_json::Value;

use crate::http::{Failure, Query};

const META: &str = "meta.k8s.io";

/// How a resource version is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Unset,
    Exact,
    NotOlderThan,
}

/// What a list or watch is to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListOptions {
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// 0 is no limit.
    pub limit: usize,
    pub continue_token: Option<String>,
    /// `None` is the most recent; `Some(0)` any.
    pub resource_version: Option<u64>,
    pub matching: Match,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
    /// Seconds after which a watch ends.
    pub timeout: Option<u64>,
}

impl ListOptions {
    /// Reads and checks the options of a list (`watch`: of a watch).
    pub fn parse(query: &Query, watch: bool) -> Result<Self, Failure> {
        let options = Self {
            labels: LabelSelector::parse(query.text("labelSelector")).map_err(bad_selector)?,
            fields: FieldSelector::parse(query.text("fieldSelector")).map_err(bad_selector)?,
            limit: number(query, "limit")?
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(0),
            continue_token: query.get("continue").filter(|t| !t.is_empty()).map(str::to_owned),
            resource_version: None,
            matching: matching(query.text("resourceVersionMatch")),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query
                .get("sendInitialEvents")
                .map(|_| query.flag("sendInitialEvents")),
            timeout: number(query, "timeoutSeconds")?.and_then(|n| u64::try_from(n).ok()),
        };
        let errors = options.validate(query, watch);
        if !errors.is_empty() {
            return Err(invalid("ListOptions", &errors));
        }
        Ok(Self {
            resource_version: resource_version(query.text("resourceVersion"))?,
            ..options
        })
    }

    fn validate(&self, query: &Query, watch: bool) -> Vec<FieldError> {
        if watch {
            self.validate_watch(query)
        } else {
            self.validate_list(query)
        }
    }

    fn validate_list(&self, query: &Query) -> Vec<FieldError> {
        let given = query.text("resourceVersionMatch");
        let version = query.text("resourceVersion");
        let mut errors = Vec::new();
        let mut forbid = |detail: &str| errors.push(FieldError::forbidden("resourceVersionMatch", detail));
        if !given.is_empty() {
            if version.is_empty() {
                forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if self.continue_token.is_some() {
                forbid("resourceVersionMatch is forbidden when continue is provided");
            }
            if self.matching == Match::Exact && version == "0" {
                forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
            if self.matching == Match::Unset {
                errors.push(unsupported_match(given));
            }
        }
        if self.send_initial_events.is_some() {
            errors.push(FieldError::forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            ));
        }
        errors
    }

    fn validate_watch(&self, query: &Query) -> Vec<FieldError> {
        let given = query.text("resourceVersionMatch");
        let mut errors = Vec::new();
        if self.send_initial_events.is_some() && given.is_empty() {
            errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        if !given.is_empty() {
            if self.send_initial_events.is_none() {
                errors.push(FieldError::forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            if self.matching != Match::NotOlderThan {
                errors.push(FieldError::not_supported(
                    "resourceVersionMatch",
                    given,
                    &["NotOlderThan"],
                ));
            }
            if self.continue_token.is_some() {
                errors.push(FieldError::forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
        }
        errors
    }
}

fn unsupported_match(given: &str) -> FieldError {
    FieldError::not_supported("resourceVersionMatch", given, &["Exact", "NotOlderThan", ""])
}

fn matching(text: &str) -> Match {
    match text {
        "Exact" => Match::Exact,
        "NotOlderThan" => Match::NotOlderThan,
        _ => Match::Unset,
    }
}

fn bad_selector(error: SelectorError) -> Failure {
    Status::bad_request(error.0).into()
}

fn number(query: &Query, name: &str) -> Result<Option<i64>, Failure> {
    match query.get(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!(
                "strconv.ParseInt: parsing {}: invalid syntax",
                quote(text)
            ))
            .into()
        }),
    }
}

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

fn resource_version(text: &str) -> Result<Option<u64>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let quoted = quote(text);
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {quoted}: \
             strconv.ParseUint: parsing {quoted}: invalid syntax"
        ))
        .into()
    })
}

/// A 422 about options.
pub(crate) fn invalid(kind: &str, errors: &[FieldError]) -> Failure {
    Status::invalid(GroupResource::new(META, kind), "", errors).into()
}

/// What to do with fields that the schema doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Options of create, update and patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    pub field_validation: FieldValidation,
    pub field_manager: String,
}

impl WriteOptions {
    /// Reads and checks the options; `kind` is CreateOptions, UpdateOptions or PatchOptions.
    pub fn parse(query: &Query, kind: &str) -> Result<Self, Failure> {
        let mut errors = Vec::new();
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        errors.extend(dry_run_error(&dry_run));
        let field_validation = match query.text("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let known = ["Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported("fieldValidation", other, &known));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(invalid(kind, &errors));
        }
        let field_manager = query.text("fieldManager").to_owned();
        Ok(Self {
            dry_run: !dry_run.is_empty(),
            field_validation,
            field_manager,
        })
    }
}

fn dry_run_error(values: &[&str]) -> Option<FieldError> {
    let good = values.is_empty() || values == ["All"];
    (!good).then(|| FieldError::not_supported("dryRun", values.to_vec(), &["All"]))
}

/// Options of deletions, of the body or else of the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub grace_period: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    pub dry_run: bool,
}

/// What becomes of dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl DeleteOptions {
    /// Options in the query.
    pub fn from_query(query: &Query) -> Result<Self, Failure> {
        let orphan = query
            .get("orphanDependents")
            .map(|_| query.flag("orphanDependents"));
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        Self::checked(
            number(query, "gracePeriodSeconds")?,
            query.get("propagationPolicy"),
            orphan,
            &dry_run,
        )
    }

    /// Options in a body that is decoded already.
    pub fn from_body(body: &Value) -> Result<Self, Failure> {
        let dry_run: Vec<&str> = body["dryRun"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let options = Self::checked(
            body["gracePeriodSeconds"].as_i64(),
            body["propagationPolicy"].as_str(),
            body["orphanDependents"].as_bool(),
            &dry_run,
        )?;
        let preconditions = &body["preconditions"];
        Ok(Self {
            uid: text(&preconditions["uid"]),
            resource_version: text(&preconditions["resourceVersion"]),
            ..options
        })
    }

    fn checked(
        grace_period: Option<i64>,
        policy: Option<&str>,
        orphan: Option<bool>,
        dry_run: &[&str],
    ) -> Result<Self, Failure> {
        let mut errors = Vec::new();
        if policy.is_some() && orphan.is_some() {
            errors.push(FieldError::invalid(
                "propagationPolicy",
                policy.unwrap_or_default(),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        let propagation = match (policy, orphan) {
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some(other), _) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported("propagationPolicy", other, &known));
                None
            }
            (None, None) => None,
        };
        errors.extend(dry_run_error(dry_run));
        if !errors.is_empty() {
            return Err(invalid("DeleteOptions", &errors));
        }
        Ok(Self {
            grace_period,
            propagation,
            dry_run: !dry_run.is_empty(),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{DeleteOptions, ListOptions, Match, Propagation, WriteOptions};
    use crate::http::Query;

    fn list(query: &str) -> Result<ListOptions, String> {
        ListOptions::parse(&Query::parse(query), false).map_err(|s| s.message)
    }

    #[test]
    fn a_list_says_what_is_wrong_with_it() {
        let options =
            list("limit=5&resourceVersion=7&resourceVersionMatch=Exact&labelSelector=a%3Db").unwrap();
        assert_eq!(
            (options.limit, options.resource_version, options.matching),
            (5, Some(7), Match::Exact)
        );
        assert_eq!(
            list("limit=x").unwrap_err(),
            "strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        let message = list("resourceVersionMatch=Exact").unwrap_err();
        assert!(message.ends_with("resourceVersionMatch is forbidden unless resourceVersion is provided"));
    }

    #[test]
    fn a_dry_run_is_all_or_nothing() {
        let error = WriteOptions::parse(&Query::parse("dryRun=x"), "CreateOptions").unwrap_err();
        let wanted = "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"x\"]: \
                      supported values: \"All\"";
        assert_eq!(error.message, wanted);
        assert!(
            WriteOptions::parse(&Query::parse("dryRun=All"), "CreateOptions")
                .unwrap()
                .dry_run
        );
    }

    #[test]
    fn deletion_options_come_from_the_body() {
        let body = serde_json::json!({"gracePeriodSeconds": 0, "propagationPolicy": "Foreground",
            "preconditions": {"uid": "u"}});
        let options = DeleteOptions::from_body(&body).unwrap();
        assert_eq!(
            (options.grace_period, options.uid.as_deref()),
            (Some(0), Some("u"))
        );
        assert_eq!(options.propagation, Some(Propagation::Foreground));
    }
}
