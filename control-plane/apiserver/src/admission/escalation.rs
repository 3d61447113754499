//! Nobody gives rights that he hasn't got (`pkg/registry/rbac`): roles are written by those who have their rules or
//! may escalate, bindings by those who have the role's rules or may bind.

use knode_api::status::{GroupResource, Status};
use serde_json::Value;

use super::Operation;
use crate::auth::{Attributes, Decision, Rule};
use crate::core::Core;
use crate::http::Failure;
use crate::registry::Ask;
use crate::user::MASTERS;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses a role or binding that gives more than its writer has.
pub(super) fn check(
    core: &Core,
    ask: &Ask,
    operation: Operation,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Failure> {
    let Some(new) = new.filter(|_| operation != Operation::Delete && ask.kind.group == GROUP) else {
        return Ok(());
    };
    if ask.user.is_in(MASTERS) {
        return Ok(());
    }
    match ask.kind.plural {
        "roles" | "clusterroles" if old.is_none_or(|old| gives_other(new, old)) => check_role(core, ask, new),
        "rolebindings" | "clusterrolebindings" if old.is_none_or(|old| binds_other(new, old)) => {
            check_binding(core, ask, new)
        }
        _ => Ok(()),
    }
}

fn gives_other(new: &Value, old: &Value) -> bool {
    new["rules"] != old["rules"] || new["aggregationRule"] != old["aggregationRule"]
}

fn binds_other(new: &Value, old: &Value) -> bool {
    new["subjects"] != old["subjects"] || new["roleRef"] != old["roleRef"]
}

fn may(core: &Core, ask: &Ask, verb: &str, resource: &str, name: &str) -> bool {
    let question = Attributes {
        user: ask.user.clone(),
        verb: verb.to_owned(),
        is_resource: true,
        group: GROUP.to_owned(),
        resource: resource.to_owned(),
        namespace: ask.info.namespace.clone(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    core.authorizer.decide(&question) == Decision::Allowed
}

fn check_role(core: &Core, ask: &Ask, role: &Value) -> Result<(), Failure> {
    let name = role["metadata"]["name"].as_str().unwrap_or_default();
    if may(core, ask, "escalate", ask.kind.plural, name) {
        return Ok(());
    }
    let own = core.authorizer.rules(&ask.user, &ask.info.namespace);
    if role["aggregationRule"].is_object() && !own.iter().any(Rule::is_everything) {
        return Err(ask.forbidden(
            name,
            "must have cluster-admin privileges to use the aggregationRule",
        ));
    }
    let given: Vec<Rule> = serde_json::from_value(role["rules"].clone()).unwrap_or_default();
    require(ask, name, &own, &given)
}

fn check_binding(core: &Core, ask: &Ask, binding: &Value) -> Result<(), Failure> {
    let name = binding["metadata"]["name"].as_str().unwrap_or_default();
    let role = binding["roleRef"]["name"].as_str().unwrap_or_default();
    let cluster = binding["roleRef"]["kind"] == "ClusterRole";
    if may(
        core,
        ask,
        "bind",
        if cluster { "clusterroles" } else { "roles" },
        role,
    ) {
        return Ok(());
    }
    let own = core.authorizer.rules(&ask.user, &ask.info.namespace);
    let Some(given) = core.authorizer.role_rules(cluster, &ask.info.namespace, role) else {
        let resource = GroupResource::new(GROUP, if cluster { "clusterroles" } else { "roles" });
        return Err(Status::not_found(resource, role).into());
    };
    require(ask, name, &own, &given)
}

/// Every single right of the given rules must be among the writer's own.
fn require(ask: &Ask, name: &str, own: &[Rule], given: &[Rule]) -> Result<(), Failure> {
    let missing: Vec<String> = given
        .iter()
        .flat_map(Rule::single)
        .filter(|right| !own.iter().any(|rule| rule.covers(right)))
        .map(|right| right.print())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let user = &ask.user;
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        missing.join("\n")
    );
    Err(ask.forbidden(name, &why))
}
