//! Against the recording: a service's slice and Endpoints from no address over one to a ready one.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::slices::SliceChange;
use super::{endpoints, members, slices};
use crate::recorded::{object, part, shape, trimmed};

fn service() -> Service {
    object("/service")
}

/// The recorded pod with an address or none, ready or not.
fn pod(address: Option<&str>, ready: bool) -> Arc<Pod> {
    let mut pod = part("/podMade");
    pod["spec"]["nodeName"] = "node1".into();
    let ready = if ready { "True" } else { "False" };
    let ips: Vec<Value> = address.iter().map(|ip| json!({"ip": ip})).collect();
    pod["status"] = json!({"phase": "Running", "podIP": address, "podIPs": ips, "conditions": [
        {"type": "Ready", "status": ready, "lastTransitionTime": "2026-11-22T14:52:30Z"}]});
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// Without the time of the change, which is another module's.
fn untimed(mut value: Value) -> Value {
    value["metadata"].as_object_mut().unwrap().remove("annotations");
    value
}

#[test]
fn one_slice_is_filled_as_upstream_fills_it() {
    let members = |pod| members::of(&service(), &[pod]);
    let made = match slices::plan(&service(), &members(pod(None, false)), &[]).as_slice() {
        [SliceChange::Create(made)] => made.as_ref().clone(),
        other => panic!("one slice is to be made: {other:?}"),
    };
    let mut ours = untimed(shape(&made));
    let nothing = |part: &Value| part.as_array().is_none_or(Vec::is_empty);
    assert!(nothing(&ours["endpoints"]) && nothing(&ours["ports"]), "{ours}");
    ours.as_object_mut()
        .unwrap()
        .retain(|key, _| key != "endpoints" && key != "ports");
    assert_eq!(ours, untimed(trimmed(part("/slices/empty"))));

    let mut slice: EndpointSlice = EndpointSlice {
        metadata: object("/slices/waiting/metadata"),
        ..made
    };
    for (state, ready) in [("waiting", false), ("ready", true)] {
        let existing = [Arc::new(slice.clone())];
        let changes = slices::plan(&service(), &members(pod(Some("10.244.0.30"), ready)), &existing);
        let [SliceChange::Update(changed)] = changes.as_slice() else {
            panic!("the slice that is there is changed: {changes:?}")
        };
        assert_eq!(
            untimed(shape(changed)),
            untimed(trimmed(part(&format!("/slices/{state}"))))
        );
        slice = changed.as_ref().clone();
    }
}

#[test]
fn the_older_object_is_upstreams() {
    let made = endpoints::plan(&service(), &members::of(&service(), &[pod(None, false)]), None).unwrap();
    assert_eq!(untimed(shape(&made)), untimed(trimmed(part("/endpoints/empty"))));
    let mut there: Endpoints = object("/endpoints/waiting");
    there.subsets = None;
    for (state, ready) in [("waiting", false), ("ready", true)] {
        let members = members::of(&service(), &[pod(Some("10.244.0.30"), ready)]);
        there = endpoints::plan(&service(), &members, Some(&there)).unwrap();
        assert_eq!(
            untimed(shape(&there)),
            untimed(trimmed(part(&format!("/endpoints/{state}"))))
        );
    }
}
