//! The parts of a request's path (`k8s.io/apiserver/pkg/endpoints/request`, RequestInfoFactory).

use http::Method;

use crate::http::{Query, percent_decode};

/// What is done, in the words that authorization uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// Anything else, on paths without resources.
    Head,
    Options,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Head => "head",
            Verb::Options => "options",
        }
    }

    fn of(method: &Method) -> Self {
        match method.as_str() {
            "POST" => Verb::Create,
            "PUT" => Verb::Update,
            "PATCH" => Verb::Patch,
            "DELETE" => Verb::Delete,
            "HEAD" => Verb::Head,
            "OPTIONS" => Verb::Options,
            _ => Verb::Get,
        }
    }
}

/// A request's path taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    pub verb: Verb,
    /// Whether the path names a resource; else only `path` counts.
    pub is_resource: bool,
    pub path: String,
    pub group: String,
    pub version: String,
    pub resource: String,
    pub subresource: String,
    /// Empty for the whole cluster.
    pub namespace: String,
    /// Empty for collections. A field selector on metadata.name names an object too.
    pub name: String,
    /// The path behind the subresource, for proxies.
    pub rest: String,
    /// Whether the name stands in the path and not in a field selector.
    pub named_by_path: bool,
}

impl RequestInfo {
    /// Takes a request apart.
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self {
            verb: Verb::of(method),
            is_resource: false,
            path: path.to_owned(),
            group: String::new(),
            version: String::new(),
            resource: String::new(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            rest: String::new(),
            named_by_path: false,
        };
        let parts: Vec<String> = path
            .trim_matches('/')
            .split('/')
            .filter(|p| !p.is_empty())
            .map(percent_decode)
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let rest = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        info.read_resource(rest, query);
        info
    }

    fn read_resource(&mut self, parts: &[&str], query: &Query) {
        let (old_watch, parts) = match parts {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            other => (false, other),
        };
        let parts = match parts {
            ["namespaces", namespace, sub] if matches!(*sub, "status" | "finalize") => {
                self.namespace = (*namespace).to_owned();
                parts
            }
            ["namespaces", namespace] => {
                self.namespace = (*namespace).to_owned();
                parts
            }
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
                self.namespace = (*namespace).to_owned();
                rest
            }
            other => other,
        };
        if let [resource, rest @ ..] = parts {
            self.resource = (*resource).to_owned();
            if let [name, rest @ ..] = rest {
                self.name = (*name).to_owned();
                self.named_by_path = true;
                self.read_subresource(rest);
            }
        }
        self.settle_verb(old_watch, query);
    }

    fn read_subresource(&mut self, parts: &[&str]) {
        if let [subresource, rest @ ..] = parts {
            self.subresource = (*subresource).to_owned();
            self.rest = rest.join("/");
        }
    }

    fn settle_verb(&mut self, old_watch: bool, query: &Query) {
        let named = !self.name.is_empty();
        self.verb = match self.verb {
            Verb::Get | Verb::Head if old_watch || (query.flag("watch") && !named) => Verb::Watch,
            Verb::Get | Verb::Head if !named => Verb::List,
            Verb::Head => Verb::Get,
            Verb::Delete if !named => Verb::DeleteCollection,
            verb => verb,
        };
        if !named && matches!(self.verb, Verb::List | Verb::Watch | Verb::DeleteCollection) {
            self.name = name_in_selector(query).unwrap_or_default();
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

fn name_in_selector(query: &Query) -> Option<String> {
    let selector = query.get("fieldSelector")?;
    let parsed = knode_api::selector::FieldSelector::parse(selector).ok()?;
    parsed.exact("metadata.name").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{RequestInfo, Verb};
    use crate::http::Query;
    use http::Method;

    fn info(method: Method, url: &str) -> RequestInfo {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        RequestInfo::parse(&method, path, &Query::parse(query))
    }

    #[test]
    fn objects_and_collections_are_told_apart() {
        let got = info(Method::GET, "/api/v1/namespaces/a/pods/p/log");
        assert_eq!(
            (got.verb, got.namespace.as_str(), got.name.as_str()),
            (Verb::Get, "a", "p")
        );
        assert_eq!((got.resource.as_str(), got.subresource.as_str()), ("pods", "log"));
        let got = info(Method::GET, "/apis/apps/v1/daemonsets?watch=1");
        assert_eq!(
            (got.verb, got.group.as_str(), got.resource.as_str()),
            (Verb::Watch, "apps", "daemonsets")
        );
        assert_eq!(
            info(Method::DELETE, "/api/v1/namespaces/a/pods").verb,
            Verb::DeleteCollection
        );
        let got = info(Method::GET, "/api/v1/watch/namespaces/a/configmaps");
        assert_eq!(
            (got.verb, got.namespace.as_str(), got.name.as_str()),
            (Verb::Watch, "a", "")
        );
    }

    #[test]
    fn a_namespace_is_in_its_own_namespace() {
        let got = info(Method::PUT, "/api/v1/namespaces/a/finalize");
        assert_eq!((got.resource.as_str(), got.name.as_str()), ("namespaces", "a"));
        assert_eq!(
            (got.subresource.as_str(), got.namespace.as_str()),
            ("finalize", "a")
        );
        let got = info(Method::GET, "/api/v1/namespaces");
        assert_eq!(
            (got.verb, got.resource.as_str(), got.name.as_str()),
            (Verb::List, "namespaces", "")
        );
    }

    #[test]
    fn a_field_selector_can_name_the_object() {
        let got = info(
            Method::GET,
            "/api/v1/namespaces/a/secrets?watch=1&fieldSelector=metadata.name%3Ds",
        );
        assert_eq!(
            (got.verb, got.name.as_str(), got.named_by_path),
            (Verb::Watch, "s", false)
        );
        let got = info(Method::GET, "/api/v1/nodes/n/proxy/a/b");
        assert_eq!((got.subresource.as_str(), got.rest.as_str()), ("proxy", "a/b"));
        assert!(!info(Method::GET, "/api/v1").is_resource);
        assert!(!info(Method::GET, "/healthz").is_resource);
    }
}
