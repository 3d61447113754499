//! One request for a resource, taken apart.

use http::HeaderMap;
use knode_api::status::{GroupResource, Status};
use knode_kinds::{Kind, Subresource};

use crate::http::{Failure, Query};
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// A request for a resource whose sender may ask it.
pub(crate) struct Ask {
    pub info: RequestInfo,
    pub query: Query,
    pub headers: HeaderMap,
    pub user: UserInfo,
    pub kind: &'static Kind,
    pub subresource: Option<&'static Subresource>,
    /// What goes into headers `Warning`.
    pub warnings: Vec<String>,
}

impl Ask {
    /// The resource as Status messages name it.
    pub fn resource(&self) -> GroupResource<'static> {
        GroupResource::new(self.kind.group, self.kind.plural)
    }

    /// The kind as Status messages name it.
    pub fn kind_name(&self) -> GroupResource<'static> {
        GroupResource::new(self.kind.group, self.kind.kind)
    }

    /// The object's key below its storage name.
    pub fn key(&self) -> String {
        key(self.kind, &self.info.namespace, &self.info.name)
    }

    pub fn not_found(&self) -> Failure {
        Status::not_found(self.resource(), &self.info.name).into()
    }

    /// 403 by admission, about the object that the request names or (for a creation) brings.
    pub fn forbidden(&self, name: &str, why: &str) -> Failure {
        Status::forbidden(self.resource(), name, why).into()
    }

    /// The schema's name of the body.
    pub fn invalid(&self, name: &str, errors: &[knode_api::field::FieldError]) -> Failure {
        Status::invalid(self.kind_name(), name, errors).into()
    }
}

/// The key of an object below its storage name.
pub(crate) fn key(kind: &Kind, namespace: &str, name: &str) -> String {
    if kind.namespaced {
        format!("{namespace}/{name}")
    } else {
        name.to_owned()
    }
}
