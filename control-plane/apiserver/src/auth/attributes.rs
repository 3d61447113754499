//! What authorization looks at.

use knode_api::selector::FieldSelector;

use crate::http::Query;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// A question: may this user do this?
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    pub user: UserInfo,
    pub verb: String,
    /// Whether a resource is meant; else `path`.
    pub is_resource: bool,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
    pub fields: FieldSelector,
}

impl Attributes {
    /// What a request asks.
    pub fn of(info: &RequestInfo, user: &UserInfo, query: &Query) -> Self {
        let reads_many = matches!(info.verb.name(), "list" | "watch" | "deletecollection");
        let fields = match reads_many {
            true => FieldSelector::parse(query.text("fieldSelector")).unwrap_or_default(),
            false => FieldSelector::default(),
        };
        Self {
            user: user.clone(),
            verb: info.verb.name().to_owned(),
            is_resource: info.is_resource,
            group: info.group.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            path: info.path.clone(),
            fields,
        }
    }

    /// The resource with its subresource, as RBAC writes it.
    pub fn resource_path(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}
