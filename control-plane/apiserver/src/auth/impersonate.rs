//! Impersonation: a request in another's name, if its sender may do so.

use http::HeaderMap;
use knode_api::status::Status;

use super::{Attributes, Authorizer};
use crate::http::{Failure, percent_decode};
use crate::user::{AUTHENTICATED, UNAUTHENTICATED, UserInfo};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user in whose name the request is: the sender himself, or whom its headers name.
pub(crate) fn impersonate(
    authorizer: &Authorizer,
    sender: UserInfo,
    headers: &HeaderMap,
) -> Result<UserInfo, Failure> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let groups: Vec<String> = headers
        .get_all(GROUP)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    let extra: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(name, value)| {
            let key = percent_decode(name.as_str().strip_prefix(EXTRA)?);
            Some((key, value.to_str().ok()?.to_owned()))
        })
        .collect();
    let (name, uid) = (text(USER), text(UID));
    if name.is_empty() {
        return match groups.is_empty() && extra.is_empty() && uid.is_empty() {
            true => Ok(sender),
            false => Err(Status::internal(
                "requested impersonation of groups, uid or extra without impersonating a user",
            )
            .into()),
        };
    }
    let may = |group: &str, resource: &str, subresource: &str, name: &str, namespace: &str| {
        authorizer.require(&Attributes {
            user: sender.clone(),
            verb: "impersonate".to_owned(),
            is_resource: true,
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            ..Attributes::default()
        })
    };
    match name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    {
        Some((namespace, account)) => may("", "serviceaccounts", "", account, namespace)?,
        None => may("", "users", "", &name, "")?,
    }
    for group in &groups {
        may("", "groups", "", group, "")?;
    }
    const AUTHENTICATION: &str = "authentication.k8s.io";
    for (key, value) in &extra {
        may(AUTHENTICATION, "userextras", key, value, "")?;
    }
    if !uid.is_empty() {
        may(AUTHENTICATION, "uids", "", &uid, "")?;
    }
    Ok(other(name, uid, groups, extra))
}

fn other(name: String, uid: String, mut groups: Vec<String>, extra: Vec<(String, String)>) -> UserInfo {
    if let Some((namespace, _)) = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        && groups.is_empty()
    {
        groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
    }
    let anonymous = name == "system:anonymous";
    let implied = if anonymous { UNAUTHENTICATED } else { AUTHENTICATED };
    if !groups
        .iter()
        .any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED)
    {
        groups.push(implied.to_owned());
    }
    let mut user = UserInfo {
        name,
        uid,
        groups,
        ..UserInfo::default()
    };
    for (key, value) in extra {
        user.extra.entry(key).or_default().push(value);
    }
    user
}
