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
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whom headers name.
struct Named {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: Vec<(String, String)>,
}

impl Named {
    /// Headers that are no text name nobody.
    fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let groups = headers.get_all(GROUP).iter();
        let extra = headers.iter().filter_map(|(name, value)| {
            let key = percent_decode(name.as_str().strip_prefix(EXTRA)?);
            Some((key, value.to_str().ok()?.to_owned()))
        });
        Self {
            user: text(USER),
            uid: text(UID),
            groups: groups
                .filter_map(|value| value.to_str().ok())
                .map(str::to_owned)
                .collect(),
            extra: extra.collect(),
        }
    }

    fn is_nobody(&self) -> bool {
        self.groups.is_empty() && self.extra.is_empty() && self.uid.is_empty()
    }

    /// What its sender has to be allowed to impersonate: group of the API, resource, subresource, name, namespace.
    fn claims(&self) -> Vec<[&str; 5]> {
        let mut claims = vec![match service_account(&self.user) {
            Some((namespace, account)) => ["", "serviceaccounts", "", account, namespace],
            None => ["", "users", "", &self.user, ""],
        }];
        claims.extend(self.groups.iter().map(|group| ["", "groups", "", group, ""]));
        let extra = self.extra.iter();
        claims.extend(extra.map(|(key, value)| [AUTHENTICATION, "userextras", key, value, ""]));
        if !self.uid.is_empty() {
            claims.push([AUTHENTICATION, "uids", "", &self.uid, ""]);
        }
        claims
    }
}

/// Namespace and name of the service account that a user is.
fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// The user in whose name the request is: the sender himself, or whom its headers name.
pub(crate) fn impersonate(
    authorizer: &Authorizer,
    sender: UserInfo,
    headers: &HeaderMap,
) -> Result<UserInfo, Failure> {
    let named = Named::read(headers);
    if named.user.is_empty() {
        return match named.is_nobody() {
            true => Ok(sender),
            false => Err(Status::internal(
                "requested impersonation of groups, uid or extra without impersonating a user",
            )
            .into()),
        };
    }
    for [group, resource, subresource, name, namespace] in named.claims() {
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
        })?;
    }
    Ok(other(named))
}

/// The user that is named; those who name no groups have those that every such user has.
fn other(named: Named) -> UserInfo {
    let mut groups = named.groups;
    if let Some((namespace, _)) = service_account(&named.user)
        && groups.is_empty()
    {
        groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
    }
    let anonymous = named.user == "system:anonymous";
    let implied = if anonymous { UNAUTHENTICATED } else { AUTHENTICATED };
    if !groups
        .iter()
        .any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED)
    {
        groups.push(implied.to_owned());
    }
    let mut user = UserInfo {
        name: named.user,
        uid: named.uid,
        groups,
        ..UserInfo::default()
    };
    for (key, value) in named.extra {
        user.extra.entry(key).or_default().push(value);
    }
    user
}
