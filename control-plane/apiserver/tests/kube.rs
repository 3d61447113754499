//! The crate that scheduler and controllers use as their client, over the in-process service.

mod common;

use common::Server;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::{Api, Client, ResourceExt};

#[tokio::test]
async fn the_usual_client_works_in_process() {
    let server = Server::start().await;
    server.namespace("ns").await;
    let client = Client::new(server.api.service(common::admin()), "ns");
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let map = ConfigMap {
        metadata: kube::api::ObjectMeta {
            generate_name: Some("a-".into()),
            ..Default::default()
        },
        ..Default::default()
    };
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let name = made.name_any();
    assert!(name.starts_with("a-") && name.len() == 7, "{name}");
    let patch = serde_json::json!({"data": {"k": "v"}});
    maps.patch(&name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    let list = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items[0].data.as_ref().unwrap()["k"], "v");
    let version = list.metadata.resource_version.unwrap();
    let mut watch = Box::pin(maps.watch(&WatchParams::default(), &version).await.unwrap());
    maps.delete(&name, &DeleteParams::default()).await.unwrap();
    let event = watch.next().await.unwrap().unwrap();
    assert!(
        matches!(&event, kube::api::WatchEvent::Deleted(map) if map.name_any() == name),
        "{event:?}"
    );
    let version = client.apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "36"));
    let error = maps.get(&name).await.unwrap_err();
    assert!(
        matches!(&error, kube::Error::Api(status) if status.code == 404),
        "{error}"
    );
}
