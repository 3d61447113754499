//! Plugins on their sockets: what the node has of them, who is given what, and what is left after a restart.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{Bed, Plugin, RESOURCE, pod, wait};
use knode_kubelet_devices::pod_resources::v1::pod_resources_lister_client::PodResourcesListerClient;
use knode_kubelet_devices::pod_resources::v1::{
    AllocatableResourcesRequest, GetPodResourcesRequest, ListPodResourcesRequest,
};
use knode_kubelet_devices::{Count, Devices};

fn count(capacity: usize, allocatable: usize) -> Option<Count> {
    Some(Count {
        capacity,
        allocatable,
    })
}

async fn counts(devices: &Arc<Devices>, wanted: Option<Count>) {
    let now = || devices.counts().get(RESOURCE).copied();
    wait("the number of devices", || match now() {
        found if found == wanted => Ok(()),
        found => Err(format!("{found:?}, not {wanted:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_plugin_may_register_before_it_serves() {
    let bed = Bed::new("early");
    let devices = bed.start().await;
    let plugin = Plugin::new(&[("a", true, &[])]);
    let registered = async {
        bed.register("v1beta1", RESOURCE).await.unwrap();
    };
    let served = async {
        // The kubelet has looked for it in vain by then.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        drop(plugin.serve(&bed.directory.join("p.sock")));
    };
    tokio::join!(registered, served);
    counts(&devices, count(1, 1)).await;
    bed.stop().await;
}

#[tokio::test]
async fn devices_are_counted_given_and_remembered() {
    let bed = Bed::new("given");
    let devices = bed.start().await;
    let plugin = Plugin::new(&[("a", true, &[0]), ("b", true, &[1]), ("c", false, &[])]);
    let server = plugin.serve(&bed.directory.join("p.sock"));
    bed.register("v1beta1", RESOURCE).await.unwrap();
    counts(&devices, count(3, 2)).await;

    let first = pod("first", 1, 0);
    devices.admit(&first).await.unwrap();
    let container = &first.spec.as_ref().unwrap().containers[0];
    let options = devices.run_options(&first, container).await.unwrap();
    assert_eq!(options.envs["GIVEN"], "a");
    assert_eq!(options.devices[0].container_path, "/dev/a");
    assert_eq!(options.cdi_devices, ["example.com/class=a"]);
    assert_eq!(
        plugin.started(),
        [["a"]],
        "it is told before the container starts"
    );
    devices.admit(&first).await.unwrap();
    assert_eq!(
        plugin.allocated(),
        [["a"]],
        "what is given is not asked for again"
    );

    let refused = devices.admit(&pod("second", 2, 0)).await.unwrap_err();
    assert_eq!(refused.reason, "UnexpectedAdmissionError");
    assert_eq!(
        refused.message,
        "Allocate failed due to requested number of devices unavailable for example.com/dev. Requested: 2, \
         Available: 1, which is unexpected"
    );

    // After a restart nothing is healthy until the plugin is back, and what was given is known.
    drop(devices);
    bed.stop().await;
    let devices = bed.start().await;
    counts(&devices, count(0, 0)).await;
    assert!(
        !bed.directory.join("p.sock").exists(),
        "plugins see that they must register anew"
    );
    let options = devices.run_options(&first, container).await.unwrap();
    assert_eq!(options.envs["GIVEN"], "a");
    let refused = devices.admit(&pod("third", 1, 0)).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices example.com/dev, \
         which is unexpected"
    );
    server.abort();
    let server = plugin.serve(&bed.directory.join("p.sock"));
    bed.register("v1beta1", RESOURCE).await.unwrap();
    counts(&devices, count(3, 2)).await;
    devices.admit(&pod("third", 1, 0)).await.unwrap();
    assert_eq!(
        plugin.allocated(),
        [["a"], ["b"]],
        "nobody is given what another has"
    );
    devices.retain(&BTreeSet::from(["third".to_owned()]));
    devices.admit(&pod("fourth", 1, 0)).await.unwrap();

    plugin.list(&[("a", true, &[])]);
    counts(&devices, count(1, 1)).await;
    plugin.end();
    counts(&devices, count(1, 0)).await;
    server.abort();
    bed.clock.advance(std::time::Duration::from_secs(301));
    counts(&devices, count(0, 0)).await;
}

#[tokio::test]
async fn plugins_that_cannot_be_used_are_told_so() {
    let bed = Bed::new("refused");
    let devices = bed.start().await;
    let version = bed.register("v1", RESOURCE).await.unwrap_err();
    assert_eq!(
        version,
        "requested API version \"v1\" is not supported by kubelet. Supported version is [\"v1beta1\"]"
    );
    let name = bed.register("v1beta1", "cpu").await.unwrap_err();
    assert_eq!(name, "the ResourceName \"cpu\" is invalid");
    let nobody = bed.register("v1beta1", RESOURCE).await.unwrap_err();
    assert!(nobody.starts_with("failed to dial device plugin "), "{nobody}");
    assert!(devices.counts().is_empty());
}

#[tokio::test]
async fn a_plugin_may_prefer_and_may_fail() {
    let bed = Bed::new("prefers");
    let devices = bed.start().await;
    let plugin = Plugin::new(&[("a", true, &[]), ("b", true, &[]), ("c", true, &[])]);
    plugin.prefer("c");
    let server = plugin.serve(&bed.directory.join("p.sock"));
    bed.register("v1beta1", RESOURCE).await.unwrap();
    counts(&devices, count(3, 3)).await;
    // The init container's device is the other's too.
    devices.admit(&pod("first", 1, 1)).await.unwrap();
    assert_eq!(plugin.allocated(), [["c"], ["c"]]);
    plugin.fail("out of order");
    let refused = devices.admit(&pod("second", 1, 0)).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Allocate failed due to rpc error: code = Unknown desc = out of order, which is unexpected"
    );
    plugin.fail("");
    devices.admit(&pod("third", 2, 0)).await.unwrap();
    server.abort();
}

#[tokio::test]
async fn others_may_ask_what_containers_were_given() {
    let bed = Bed::new("asked");
    let devices = bed.start().await;
    let plugin = Plugin::new(&[("a", true, &[0, 1]), ("b", true, &[])]);
    let server = plugin.serve(&bed.directory.join("p.sock"));
    bed.register("v1beta1", RESOURCE).await.unwrap();
    counts(&devices, count(2, 2)).await;
    let (one, other) = (pod("one", 1, 0), pod("other", 0, 0));
    devices.admit(&one).await.unwrap();
    let api = bed.pod_resources(devices.clone(), vec![one, other]).await;
    let mut client = PodResourcesListerClient::new(api);
    let listed = client
        .list(ListPodResourcesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.pod_resources.len(), 2);
    let given = &listed.pod_resources[0].containers[0];
    assert_eq!(
        (
            given.devices[0].resource_name.as_str(),
            &given.devices[0].device_ids
        ),
        (RESOURCE, &vec!["a".to_owned()])
    );
    let nodes = given.devices[0].topology.as_ref().unwrap().nodes.iter();
    assert_eq!(nodes.map(|node| node.id).collect::<Vec<_>>(), [0, 1]);
    assert!(listed.pod_resources[1].containers[0].devices.is_empty());
    let all = client
        .get_allocatable_resources(AllocatableResourcesRequest {})
        .await;
    assert_eq!(all.unwrap().into_inner().devices.len(), 2);
    let ask = |name: &str| GetPodResourcesRequest {
        pod_name: name.to_owned(),
        pod_namespace: "default".to_owned(),
    };
    let found = client.get(ask("one")).await.unwrap().into_inner();
    assert_eq!(found.pod_resources, Some(listed.pod_resources[0].clone()));
    let missing = client.get(ask("none")).await.unwrap_err();
    assert_eq!(missing.message(), "pod none in namespace default not found");
    // Time stands still here: what is left of the ten is used up.
    let mut refused = None;
    for _ in 0..10 {
        refused = client.list(ListPodResourcesRequest {}).await.err().or(refused);
    }
    let refused = refused.expect("a refusal");
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::ResourceExhausted, "rejected by rate limit")
    );
    server.abort();
}
