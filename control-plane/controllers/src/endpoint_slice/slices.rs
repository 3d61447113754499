//! Packing members into slices with as few changes as can be; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::ObjectMeta;

use super::members::{Member, Port, families};
use super::topology::Distribution;
use crate::owner::controller_of;

pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Endpoints that a slice holds at most (`--max-endpoints-per-slice`).
const FULL: usize = 100;

/// A write that brings a service's slices to their state.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SliceChange {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(String),
}

/// Slices with the same address family and ports can share endpoints.
type Group = (&'static str, Vec<Port>);

/// The writes that are due.
pub(super) fn plan(
    service: &Service,
    members: &[Member],
    existing: &[Arc<EndpointSlice>],
) -> Vec<SliceChange> {
    let mut wanted = group(service, members);
    let mut changes = Vec::new();
    for family in families(service) {
        if !wanted.keys().any(|(f, _)| *f == family) {
            // A service without endpoints has one empty slice.
            wanted.insert((family, Vec::new()), Vec::new());
        }
    }
    let mut used = BTreeSet::new();
    for (group, endpoints) in &wanted {
        let slices: Vec<_> = existing
            .iter()
            .filter(|s| group_of(s).as_ref() == Some(group))
            .collect();
        used.extend(slices.iter().filter_map(|s| s.metadata.name.clone()));
        changes.extend(pack(service, group, endpoints, &slices));
    }
    let stale = existing
        .iter()
        .filter_map(|s| s.metadata.name.clone())
        .filter(|n| !used.contains(n));
    changes.extend(stale.map(SliceChange::Delete));
    reuse(changes, existing)
}

/// Fills slices that would be deleted instead of making new ones, so that readers never see the service without.
fn reuse(changes: Vec<SliceChange>, existing: &[Arc<EndpointSlice>]) -> Vec<SliceChange> {
    let (mut deleted, mut changes): (Vec<_>, Vec<_>) = changes
        .into_iter()
        .partition(|c| matches!(c, SliceChange::Delete(_)));
    for change in &mut changes {
        let SliceChange::Create(new) = change else {
            continue;
        };
        let old = deleted.iter().enumerate().find_map(|(at, d)| {
            let SliceChange::Delete(name) = d else {
                return None;
            };
            let old = existing.iter().find(|s| s.metadata.name.as_ref() == Some(name))?;
            (old.address_type == new.address_type).then(|| (at, old.as_ref().clone()))
        });
        if let Some((at, mut slice)) = old {
            deleted.remove(at);
            slice.metadata.labels = new.metadata.labels.take();
            (slice.endpoints, slice.ports) = (new.endpoints.take(), new.ports.take());
            *change = SliceChange::Update(Box::new(slice));
        }
    }
    changes.extend(deleted);
    changes
}

fn group(service: &Service, members: &[Member]) -> BTreeMap<Group, Vec<Endpoint>> {
    let mut groups = BTreeMap::<Group, Vec<Endpoint>>::new();
    let distribution = Distribution::of(service);
    for family in families(service) {
        for m in members {
            let Some(ip) = m.address(family) else { continue };
            groups
                .entry((family, m.ports.clone()))
                .or_default()
                .push(Endpoint {
                    hints: distribution.hints(m),
                    ..endpoint(m, ip.to_string())
                });
        }
    }
    groups
}

fn endpoint(m: &Member, address: String) -> Endpoint {
    let reference = ObjectReference {
        kind: Some("Pod".into()),
        namespace: Some(m.namespace.clone()),
        name: Some(m.name.clone()),
        uid: Some(m.uid.clone()),
        ..ObjectReference::default()
    };
    let conditions = EndpointConditions {
        ready: Some(m.ready),
        serving: Some(m.serving),
        terminating: Some(m.terminating),
    };
    Endpoint {
        addresses: vec![address],
        conditions: Some(conditions),
        hostname: m.hostname.clone(),
        node_name: m.node.clone(),
        zone: m.zone.clone(),
        target_ref: Some(reference),
        ..Endpoint::default()
    }
}

fn ports_of(ports: &[Port]) -> Vec<EndpointPort> {
    let port = |p: &Port| EndpointPort {
        name: Some(p.name.clone()),
        protocol: Some(p.protocol.clone()),
        port: Some(p.port),
        app_protocol: p.app_protocol.clone(),
    };
    ports.iter().map(port).collect()
}

fn group_of(slice: &EndpointSlice) -> Option<Group> {
    let family = if slice.address_type == "IPv6" {
        "IPv6"
    } else {
        "IPv4"
    };
    let port = |p: &EndpointPort| {
        Some(Port {
            name: p.name.clone().unwrap_or_default(),
            protocol: p.protocol.clone()?,
            port: p.port?,
            app_protocol: p.app_protocol.clone(),
        })
    };
    Some((
        family,
        slice.ports.iter().flatten().map(port).collect::<Option<_>>()?,
    ))
}

/// What makes an endpoint the same in two states of a slice.
fn identity(e: &Endpoint) -> (Option<&str>, Option<&str>) {
    (
        e.target_ref.as_ref().and_then(|t| t.uid.as_deref()),
        e.addresses.first().map(String::as_str),
    )
}

/// Keeps endpoints in the slices where they are, fills what has room, adds slices for the rest.
fn pack(
    service: &Service,
    group: &Group,
    wanted: &[Endpoint],
    slices: &[&Arc<EndpointSlice>],
) -> Vec<SliceChange> {
    let mut left: Vec<Endpoint> = wanted.to_vec();
    let mut kept: Vec<(EndpointSlice, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let mine: BTreeSet<_> = slice.endpoints.iter().flatten().map(identity).collect();
        let (stay, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|e| mine.contains(&identity(e)));
        left = rest;
        kept.push((slice.as_ref().clone(), stay));
    }
    for (_, endpoints) in &mut kept {
        let room = FULL.saturating_sub(endpoints.len()).min(left.len());
        endpoints.extend(left.drain(..room));
    }
    let mut changes: Vec<SliceChange> = left
        .chunks(FULL)
        .map(|c| SliceChange::Create(Box::new(new_slice(service, group, c))))
        .collect();
    if slices.is_empty() && wanted.is_empty() {
        changes.push(SliceChange::Create(Box::new(new_slice(service, group, &[]))));
    }
    let mut lonely = wanted.is_empty();
    for (slice, endpoints) in kept {
        let keep_empty = std::mem::take(&mut lonely);
        changes.extend(change(service, slice, endpoints, keep_empty));
    }
    changes
}

/// What becomes of a slice that is to hold `endpoints`.
fn change(
    service: &Service,
    slice: EndpointSlice,
    mut endpoints: Vec<Endpoint>,
    keep_empty: bool,
) -> Option<SliceChange> {
    let name = slice.metadata.name.clone().unwrap_or_default();
    if endpoints.is_empty() && !keep_empty {
        return Some(SliceChange::Delete(name));
    }
    // An order that a change of one endpoint does not disturb.
    let order: BTreeMap<_, usize> = slice
        .endpoints
        .iter()
        .flatten()
        .enumerate()
        .map(|(n, e)| (identity(e), n))
        .collect();
    endpoints.sort_by_key(|e| order.get(&identity(e)).copied().unwrap_or(usize::MAX));
    let labels = labels(service);
    let same = slice.endpoints.clone().unwrap_or_default() == endpoints
        && slice.metadata.labels.as_ref() == Some(&labels);
    if same {
        return None;
    }
    let mut wanted = slice;
    wanted.metadata.labels = Some(labels);
    wanted.endpoints = Some(endpoints);
    Some(SliceChange::Update(Box::new(wanted)))
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels.insert(
        SERVICE_NAME.into(),
        service.metadata.name.clone().unwrap_or_default(),
    );
    if service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}

fn new_slice(service: &Service, (family, ports): &Group, endpoints: &[Endpoint]) -> EndpointSlice {
    EndpointSlice {
        address_type: (*family).to_owned(),
        endpoints: Some(endpoints.to_vec()),
        ports: Some(ports_of(ports)),
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.metadata.name.clone().unwrap_or_default())),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_of(service)]),
            ..ObjectMeta::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::{endpoints, members};
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    fn service() -> Service {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "n", "uid": "s", "labels": {"a": "b"}},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1",
                     "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}}),
        )
        .unwrap()
    }

    fn pod(n: usize, ready: bool, deleted: bool) -> Arc<Pod> {
        let at = deleted.then_some("2026-01-01T00:00:00Z");
        let ready = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{n:04}"), "namespace": "n", "uid": format!("u{n}"),
                             "labels": {"app": "web"}, "deletionTimestamp": at},
                "spec": {"nodeName": "a", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
                "status": {"podIP": format!("10.1.{}.{}", n / 250, n % 250 + 1),
                           "conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap(),
        )
    }

    #[test]
    fn endpoints_are_meant_for_their_zone_or_node_where_the_service_asks() {
        let pods = [pod(1, true, false), pod(2, false, false)];
        let hints = |distribution: Option<&str>| -> Vec<serde_json::Value> {
            let mut service = service();
            service.spec.as_mut().unwrap().traffic_distribution = distribution.map(str::to_owned);
            let mut members = members::of(&service, &pods);
            members.iter_mut().for_each(|m| m.zone = Some("z1".into()));
            let changes = plan(&service, &members, &[]);
            let [SliceChange::Create(slice)] = changes.as_slice() else {
                panic!("{changes:?}")
            };
            let endpoints = slice.endpoints.iter().flatten();
            endpoints
                .inspect(|e| assert_eq!(e.zone.as_deref(), Some("z1")))
                .map(|e| json!(e.hints))
                .collect()
        };
        let (none, zone) = (json!(null), json!({"forZones": [{"name": "z1"}]}));
        let node = json!({"forZones": [{"name": "z1"}], "forNodes": [{"name": "a"}]});
        assert_eq!(hints(None), [none.clone(), none.clone()]);
        assert_eq!(hints(Some("PreferClose")), [zone.clone(), none.clone()]);
        assert_eq!(hints(Some("PreferSameZone")), [zone, none.clone()]);
        assert_eq!(hints(Some("PreferSameNode")), [node, none]);
    }

    /// Applies changes as the API server would.
    fn apply(existing: &mut Vec<Arc<EndpointSlice>>, changes: Vec<SliceChange>) {
        for change in changes {
            match change {
                SliceChange::Create(mut s) => {
                    s.metadata.name = Some(format!("web-{}", existing.len()));
                    existing.push(Arc::from(s));
                }
                SliceChange::Update(s) => {
                    existing.retain(|e| e.metadata.name != s.metadata.name);
                    existing.push(Arc::from(s));
                }
                SliceChange::Delete(n) => existing.retain(|e| e.metadata.name.as_deref() != Some(&n)),
            }
        }
    }

    fn reconcile(existing: &mut Vec<Arc<EndpointSlice>>, pods: &[Arc<Pod>]) -> usize {
        let changes = plan(&service(), &members::of(&service(), pods), existing);
        let n = changes.len();
        apply(existing, changes);
        n
    }

    #[test]
    fn a_service_without_pods_has_one_empty_slice() {
        let mut slices = Vec::new();
        assert_eq!(reconcile(&mut slices, &[]), 1);
        assert_eq!(reconcile(&mut slices, &[]), 0);
        assert_eq!(slices[0].endpoints.as_deref(), Some(&[][..]));
    }

    #[test]
    fn named_ports_and_conditions_follow_the_pod() {
        let mut slices = Vec::new();
        reconcile(
            &mut slices,
            &[pod(1, true, false), pod(2, true, true), pod(3, false, false)],
        );
        assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));
        let told: Vec<_> = slices[0]
            .endpoints
            .iter()
            .flatten()
            .map(|e| e.conditions.clone().unwrap())
            .collect();
        let told: Vec<_> = told
            .iter()
            .map(|c| (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap()))
            .collect();
        assert_eq!(
            told,
            [(true, true, false), (false, true, true), (false, false, false)]
        );
    }

    #[test]
    fn one_change_among_many_touches_one_slice() {
        let mut pods: Vec<_> = (0..250).map(|n| pod(n, true, false)).collect();
        let mut slices = Vec::new();
        assert_eq!(reconcile(&mut slices, &pods), 3);
        assert_eq!(reconcile(&mut slices, &pods), 0);
        pods[120] = pod(120, false, false);
        assert_eq!(reconcile(&mut slices, &pods), 1);
        pods.truncate(10);
        reconcile(&mut slices, &pods);
        assert_eq!(
            slices.iter().flat_map(|s| s.endpoints.iter().flatten()).count(),
            10
        );
        assert_eq!(reconcile(&mut slices, &pods), 0);
    }

    #[test]
    fn each_family_of_the_service_has_slices_of_its_own() {
        let mut service = service();
        let spec = service.spec.as_mut().unwrap();
        spec.ip_families = Some(vec!["IPv6".into(), "IPv4".into()]);
        let mut both = pod(1, true, false).as_ref().clone();
        let ips = json!([{"ip": "10.1.0.2"}, {"ip": "fd00:1::2"}]);
        both.status.as_mut().unwrap().pod_ips = serde_json::from_value(ips).unwrap();
        let pods = [Arc::new(both), pod(2, true, false)];
        let told = |service: &Service, slices: &mut Vec<Arc<EndpointSlice>>| {
            let changes = plan(service, &members::of(service, &pods), slices);
            apply(slices, changes);
            let mut told: Vec<_> = slices
                .iter()
                .map(|s| {
                    let endpoints = s.endpoints.iter().flatten();
                    let addresses: Vec<_> = endpoints.flat_map(|e| e.addresses.clone()).collect();
                    (s.address_type.clone(), addresses.join(","))
                })
                .collect();
            told.sort();
            told
        };
        let mut slices = Vec::new();
        let four = ("IPv4".to_owned(), "10.1.0.2,10.1.0.3".to_owned());
        let six = ("IPv6".to_owned(), "fd00:1::2".to_owned());
        assert_eq!(told(&service, &mut slices), [four.clone(), six]);
        let older = endpoints::plan(&service, &members::of(&service, &pods), None).unwrap();
        let subsets = older.subsets.unwrap();
        assert_eq!(subsets[0].addresses.as_ref().unwrap()[0].ip, "fd00:1::2");
        service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".into()]);
        assert_eq!(told(&service, &mut slices), [four]);
    }
}
