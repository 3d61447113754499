//! Which claims are to be made of templates, and which are over. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use knode_api::hash::fnv1a_32;
use knode_client::{AnyKind, AnyObjects, ObjectKey, Verb};
use serde_json::{Value, json};

pub(super) const CLAIMS: AnyKind = kind("ResourceClaim", "resourceclaims");
pub(super) const TEMPLATES: AnyKind = kind("ResourceClaimTemplate", "resourceclaimtemplates");

const fn kind(kind: &'static str, plural: &'static str) -> AnyKind {
    AnyKind {
        group: "resource.k8s.io",
        version: "v1",
        kind,
        plural,
    }
}

/// Which of its pod's claims one is.
const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// Whoever allocates a claim puts it there; it goes once nobody uses the claim.
const PROTECTED: &str = "resource.kubernetes.io/delete-protection";
/// As long as a generated name may be, without its end.
const NAME_BASE: usize = 58;

/// What there is.
pub(super) struct World {
    /// All pods.
    pub pods: Vec<Arc<Pod>>,
    pub claims: AnyObjects,
    pub templates: AnyObjects,
}

/// A request to the API server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    pub verb: Verb,
    pub path: String,
    pub body: Value,
    /// Pods, by path and uid, that must be gone for it: they are missing here, and may only not be known yet.
    pub gone: Vec<(String, String)>,
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub writes: Vec<Write>,
    /// Pods whose claims can't be made, and why not.
    pub failures: Vec<(Arc<Pod>, String)>,
}

impl Plan {
    fn write(&mut self, verb: Verb, path: String, body: Value) {
        let gone = Vec::new();
        self.writes.push(Write {
            verb,
            path,
            body,
            gone,
        });
    }
}

/// Everything that is to be done now; what follows from it is asked for when it has been done.
pub(super) fn plan(world: &World) -> Plan {
    let mut plan = Plan::default();
    for pod in world.pods.iter().filter(|pod| has_templates(pod)) {
        if pod.metadata.deletion_timestamp.is_none() && !is_done(pod) {
            of_pod(pod, world, &mut plan);
        }
    }
    for claim in world.claims.values() {
        of_claim(claim, world, &mut plan);
    }
    plan
}

/// Whether the pod has claims that are made of templates.
pub(super) fn has_templates(pod: &Pod) -> bool {
    templated(pod).next().is_some()
}

fn templated(pod: &Pod) -> impl Iterator<Item = (&PodResourceClaim, &String)> {
    let claims = pod
        .spec
        .iter()
        .flat_map(|spec| spec.resource_claims.iter().flatten());
    claims.filter_map(|claim| Some((claim, claim.resource_claim_template_name.as_ref()?)))
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// Makes the claims of a pod, and tells the pod their names.
fn of_pod(pod: &Arc<Pod>, world: &World, plan: &mut Plan) {
    let namespace = text(&pod.metadata.namespace);
    let mut known = Vec::new();
    for (claim, template) in templated(pod) {
        match found(pod, &claim.name, &world.claims) {
            Some(name) => known.push(json!({"name": claim.name, "resourceClaimName": name})),
            None => match make(pod, &claim.name, template, world) {
                Ok(object) => plan.write(Verb::Create, CLAIMS.path(namespace, ""), object),
                Err(reason) => {
                    let message = format!("PodResourceClaim {}: {reason}", claim.name);
                    plan.failures.push((pod.clone(), message));
                }
            },
        }
    }
    let status = pod.status.as_ref();
    let told = json!(status.and_then(|status| status.resource_claim_statuses.as_ref()));
    let told = told.as_array().cloned().unwrap_or_default();
    if known.iter().any(|one| !told.contains(one)) {
        let others = told
            .into_iter()
            .filter(|one| known.iter().all(|new| new["name"] != one["name"]));
        let all: Vec<Value> = others.chain(known.iter().cloned()).collect();
        let body = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"resourceClaimStatuses": all}});
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods/{}/status",
            text(&pod.metadata.name)
        );
        plan.write(Verb::Merge, path, body);
    }
}

/// The claim that was made for this one of the pod's.
fn found<'a>(pod: &Pod, name: &str, claims: &'a AnyObjects) -> Option<&'a str> {
    let mine = claims.iter().find(|(key, claim)| {
        key.namespace == text(&pod.metadata.namespace)
            && claim["metadata"]["annotations"][POD_CLAIM] == name
            && owner(claim).is_some_and(|(_, uid)| uid == text(&pod.metadata.uid))
    });
    mine.map(|(key, _)| key.name.as_str())
}

/// Name and uid of the pod for which a claim was made.
fn owner(claim: &Value) -> Option<(&str, &str)> {
    let owners = claim["metadata"]["ownerReferences"].as_array()?;
    let one = owners
        .iter()
        .find(|one| one["controller"] == true && one["kind"] == "Pod" && one["apiVersion"] == "v1")?;
    Some((one["name"].as_str()?, one["uid"].as_str()?))
}

fn make(pod: &Pod, name: &str, template: &str, world: &World) -> Result<Value, String> {
    let namespace = text(&pod.metadata.namespace);
    let spec = &world.templates.get(&ObjectKey::new(namespace, template));
    let spec = spec.ok_or_else(|| {
        format!("resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found")
    })?;
    let spec = &spec["spec"];
    let own = own_name(pod, name);
    if world.claims.contains_key(&ObjectKey::new(namespace, &own)) {
        return Err(format!("resource claim {own:?} was not created for the pod"));
    }
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid,
        "controller": true, "blockOwnerDeletion": true});
    let mut annotations = spec["metadata"]["annotations"].clone();
    annotations[POD_CLAIM] = name.into();
    let mut metadata = json!({"name": own, "namespace": namespace, "annotations": annotations,
        "ownerReferences": [owner]});
    if let Some(labels) = spec["metadata"].get("labels") {
        metadata["labels"] = labels.clone();
    }
    Ok(
        json!({"apiVersion": CLAIMS.api_version(), "kind": CLAIMS.kind, "metadata": metadata, "spec": spec["spec"]}),
    )
}

/// The same for the same pod: what was made and isn't seen yet is not made twice.
fn own_name(pod: &Pod, name: &str) -> String {
    let mut base = format!("{}-{name}-", text(&pod.metadata.name));
    base.truncate(NAME_BASE);
    let key = format!("{}/{name}", text(&pod.metadata.uid));
    format!("{base}{:05x}", fnv1a_32(key.as_bytes()) & 0xf_ffff)
}

/// Whether nothing of the pod runs any more, or ever will.
fn is_done(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let never = pod.metadata.deletion_timestamp.is_some() && node.is_none_or(str::is_empty);
    matches!(phase, Some("Succeeded" | "Failed")) || never
}

/// Takes a claim from pods that are over, and away with the pod that it was made for.
fn of_claim(claim: &Value, world: &World, plan: &mut Plan) {
    let field = |name: &str| claim["metadata"][name].as_str().unwrap_or_default();
    let path = CLAIMS.path(field("namespace"), field("name"));
    let users = claim["status"]["reservedFor"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut gone = Vec::new();
    let mut left = users.clone();
    left.retain(|user| is_user(user, field("namespace"), world, &mut gone));
    let protected = claim["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|all| all.contains(&PROTECTED.into()));
    let allocated = claim["status"]["allocation"].is_object();
    let going = claim["metadata"]["deletionTimestamp"].is_string();
    let given_back = left.is_empty() && protected && allocated && (going || !users.is_empty());
    if left.len() < users.len() || given_back {
        let mut body = claim.clone();
        if let Some(status) = body["status"].as_object_mut() {
            match left.is_empty() {
                true => status.remove("reservedFor"),
                false => status.insert("reservedFor".to_owned(), left.into()),
            };
            if given_back {
                status.remove("allocation");
            }
        }
        plan.writes.push(Write {
            verb: Verb::Update,
            path: format!("{path}/status"),
            body,
            gone,
        });
    } else if going && protected && users.is_empty() {
        let mut body = claim.clone();
        if let Some(all) = body["metadata"]["finalizers"].as_array_mut() {
            all.retain(|one| one != PROTECTED);
        }
        plan.write(Verb::Update, path, body);
    } else if !going && users.is_empty() && made_for_done(claim, world) {
        let body = json!({"preconditions": {"uid": claim["metadata"]["uid"]}});
        plan.write(Verb::Delete, path, body);
    }
}

/// Whether who has reserved the claim still may use it; pods that are missing are noted.
fn is_user(user: &Value, namespace: &str, world: &World, gone: &mut Vec<(String, String)>) -> bool {
    if user["resource"] != "pods" || user["apiGroup"].as_str().is_some_and(|group| !group.is_empty()) {
        return true;
    }
    let (name, uid) = (
        user["name"].as_str().unwrap_or_default(),
        user["uid"].as_str().unwrap_or_default(),
    );
    match by_uid(world, uid) {
        Some(pod) => !is_done(pod),
        None => {
            gone.push((
                format!("/api/v1/namespaces/{namespace}/pods/{name}"),
                uid.to_owned(),
            ));
            false
        }
    }
}

fn by_uid<'a>(world: &'a World, uid: &str) -> Option<&'a Arc<Pod>> {
    world.pods.iter().find(|pod| text(&pod.metadata.uid) == uid)
}

/// Whether the pod that the claim was made for is over. With a pod that is gone the garbage collector takes it.
fn made_for_done(claim: &Value, world: &World) -> bool {
    let pod = owner(claim).and_then(|(_, uid)| by_uid(world, uid));
    claim["metadata"]["annotations"][POD_CLAIM].is_string() && pod.is_some_and(|pod| is_done(pod))
}
