//! Services of a cluster with two address families.

mod common;

use common::Server;
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn dual_stack() -> Server {
    Server::start_with(|config| {
        let cidr = |text: &str| text.parse().expect("a network");
        config.service_cidrs = vec![cidr("10.96.0.0/16"), cidr("fd00:96::/112")];
    })
    .await
}

fn service(spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": "s"}, "spec": spec});
    service["spec"]["ports"] = json!([{"port": 80}]);
    service["spec"]["selector"] = json!({"a": "b"});
    service
}

fn addresses(service: &Value) -> Vec<&str> {
    let list = service["spec"]["clusterIPs"].as_array().expect("addresses");
    list.iter().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn the_second_address_comes_and_goes_with_the_policy() {
    let server = dual_stack().await;
    let one = server.create(SERVICES, service(json!({}))).await;
    assert_eq!(one["spec"]["ipFamilyPolicy"], "SingleStack");
    let first = addresses(&one)[0];
    assert!(first.starts_with("10.96.") && addresses(&one).len() == 1, "{one}");

    let path = format!("{SERVICES}/s");
    let policy = |name: &str| json!({"spec": {"ipFamilyPolicy": name}});
    let two = server
        .admin("PATCH", &path, &policy("RequireDualStack"))
        .await
        .json();
    assert_eq!(two["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let second = addresses(&two)[1];
    assert!(
        second.starts_with("fd00:96::") && addresses(&two)[0] == first,
        "{two}"
    );

    let mut other = service(json!({"clusterIP": second, "clusterIPs": [second]}));
    other["metadata"]["name"] = "t".into();
    let taken = server.admin("POST", SERVICES, &other).await;
    assert!(
        taken.text().contains("provided IP is already allocated"),
        "{}",
        taken.text()
    );
    let back = server.admin("PATCH", &path, &policy("SingleStack")).await.json();
    assert_eq!(
        (addresses(&back), &back["spec"]["ipFamilies"]),
        (vec![first], &json!(["IPv4"]))
    );
    let free = server.create(SERVICES, other).await;
    assert_eq!(addresses(&free), [second], "what a service let go of is free");
}

#[tokio::test]
async fn a_dry_run_takes_no_address() {
    let server = dual_stack().await;
    let wanted = service(
        json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "10.96.7.7",
        "clusterIPs": ["10.96.7.7", "fd00:96::77"]}),
    );
    let dry = server
        .admin("POST", &format!("{SERVICES}?dryRun=All"), &wanted)
        .await;
    assert_eq!(
        (dry.code, addresses(&dry.json()).len()),
        (201, 2),
        "{}",
        dry.text()
    );
    assert_eq!(
        addresses(&server.create(SERVICES, wanted).await),
        ["10.96.7.7", "fd00:96::77"]
    );
}

#[tokio::test]
async fn the_service_of_the_api_has_the_default_family_alone() {
    let server = dual_stack().await;
    let kubernetes = server
        .admin("GET", &format!("{SERVICES}/kubernetes"), &Value::Null)
        .await
        .json();
    assert_eq!(addresses(&kubernetes), ["10.96.0.1"]);
    assert_eq!(kubernetes["spec"]["ipFamilyPolicy"], "SingleStack");
}

#[tokio::test]
async fn a_cluster_of_one_family_refuses_to_have_two() {
    let server = Server::start().await;
    let wanted = service(json!({"ipFamilyPolicy": "RequireDualStack"}));
    let refused = server.admin("POST", SERVICES, &wanted).await;
    assert_eq!(
        (refused.code, refused.json()["message"].as_str()),
        (
            422,
            Some(
                "Service \"s\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": \
                 this cluster is not configured for dual-stack services"
            )
        )
    );
    let preferred = service(json!({"ipFamilyPolicy": "PreferDualStack"}));
    assert_eq!(
        server.create(SERVICES, preferred).await["spec"]["ipFamilies"],
        json!(["IPv4"])
    );
}
