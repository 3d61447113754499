//! Whether a user may: masters may everything, then the node rules, then RBAC.

use std::sync::Arc;

use knode_api::status::{Details, GroupResource, Status};

use super::node::NodeRules;
use super::rbac::{Rbac, Rule};
use super::{Attributes, rbac};
use crate::cache::Cache;
use crate::http::Failure;
use crate::user::{MASTERS, UserInfo};

/// An answer of authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// Nobody allows it; why, if somebody says.
    NoOpinion(String),
}

/// The authorizers in their order.
pub(crate) struct Authorizer {
    rbac: rbac::Rbac,
    nodes: NodeRules,
}

impl Authorizer {
    pub fn new(cache: Arc<Cache>) -> Self {
        Self {
            rbac: Rbac::new(cache.clone()),
            nodes: NodeRules::new(cache),
        }
    }

    /// Whether it may be done.
    pub fn decide(&self, ask: &Attributes) -> Decision {
        if ask.user.is_in(MASTERS) {
            return Decision::Allowed;
        }
        let why = match self.nodes.decide(ask) {
            Decision::Allowed => return Decision::Allowed,
            Decision::NoOpinion(why) => why,
        };
        if self.rbac.allows(ask) {
            Decision::Allowed
        } else {
            Decision::NoOpinion(why)
        }
    }

    /// Fails with upstream's words if it may not be done.
    pub fn require(&self, ask: &Attributes) -> Result<(), Failure> {
        match self.decide(ask) {
            Decision::Allowed => Ok(()),
            Decision::NoOpinion(why) => Err(forbidden(ask, &why)),
        }
    }

    /// The user's rules in a namespace.
    pub fn rules(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let all = |rule: &mut Rule| rule.verbs = vec!["*".to_owned()];
        let mut rules = Vec::new();
        if user.is_in(MASTERS) {
            let mut resources = Rule {
                api_groups: vec!["*".into()],
                resources: vec!["*".into()],
                ..Rule::default()
            };
            let mut urls = Rule {
                non_resource_urls: vec!["*".into()],
                ..Rule::default()
            };
            all(&mut resources);
            all(&mut urls);
            rules.extend([resources, urls]);
        }
        rules.extend(self.rbac.rules(user, namespace));
        rules
    }

    /// The rules of a role.
    pub fn role_rules(&self, cluster: bool, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.rbac.role_rules(cluster, namespace, name)
    }
}

/// 403 in upstream's words.
pub(crate) fn forbidden(ask: &Attributes, why: &str) -> Failure {
    let user = &ask.user.name;
    let verb = &ask.verb;
    if !ask.is_resource {
        let mut status = Status::forbidden(GroupResource::new("", ""), "", "");
        status.message = format!("forbidden: User {user:?} cannot {verb} path {:?}", ask.path);
        status.details = Some(Details::default());
        return status.into();
    }
    let place = match ask.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let reason = if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    };
    let resource = ask.resource_path();
    let what = format!(
        "User {user:?} cannot {verb} resource {resource:?} in API group {:?} {place}{reason}",
        ask.group
    );
    Status::forbidden(GroupResource::new(&ask.group, &ask.resource), &ask.name, &what).into()
}
