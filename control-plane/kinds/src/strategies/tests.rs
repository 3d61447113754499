use knode_api::field::FieldErrorKind;
use serde_json::{Value, json};

use crate::ip_families::{IpFamily, settle};
use crate::{Kind, find};

fn kind(group: &str, plural: &str) -> &'static Kind {
    find(group, "v1", plural).unwrap()
}

#[test]
fn generation_counts_changes_of_spec_alone() {
    let pods = kind("", "pods").strategy;
    let old = json!({"metadata": {"generation": 3}, "spec": {"a": 1}, "status": {"phase": "Running"}});
    let mut same = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"a": 1}, "status": {}});
    pods.prepare_for_update(&mut same, &old);
    assert_eq!(
        (&same["metadata"]["generation"], &same["status"]),
        (&json!(3), &old["status"])
    );
    let mut changed = json!({"metadata": {}, "spec": {"a": 2}});
    pods.prepare_for_update(&mut changed, &old);
    assert_eq!(changed["metadata"]["generation"], 4);
}

#[test]
fn status_updates_keep_the_rest() {
    let old = json!({"metadata": {"generation": 3}, "spec": {"a": 1}, "status": {"qosClass": "Burstable"}});
    let mut new =
        json!({"metadata": {}, "spec": {"a": 9}, "status": {"phase": "Running", "qosClass": "BestEffort"}});
    kind("", "pods")
        .strategy
        .prepare_for_status_update(&mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(
        new["status"],
        json!({"phase": "Running", "qosClass": "Burstable"})
    );
    assert_eq!(new["metadata"]["generation"], 3);
}

#[test]
fn daemon_sets_count_changes_of_their_template() {
    let sets = kind("apps", "daemonsets").strategy;
    let at = |n: &str| json!({"deprecated.daemonset.template.generation": n});
    let mut new = json!({"metadata": {}, "spec": {"template": {"a": 1}}});
    sets.prepare_for_create(&mut new);
    assert_eq!(new["metadata"], json!({"generation": 1, "annotations": at("1")}));
    let mut next = new.clone();
    next["spec"]["template"]["a"] = 2.into();
    sets.prepare_for_update(&mut next, &new);
    assert_eq!(next["metadata"], json!({"generation": 2, "annotations": at("2")}));
    let mut third = next.clone();
    third["spec"]["minReadySeconds"] = 1.into();
    sets.prepare_for_update(&mut third, &next);
    assert_eq!(
        third["metadata"],
        json!({"generation": 3, "annotations": at("2")})
    );
}

fn service(spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": "s"}, "spec": spec});
    let strategy = kind("", "services").strategy;
    strategy.default(&mut service);
    strategy.prepare_for_create(&mut service);
    settle(&mut service, &Value::Null, &[IpFamily::V4]).unwrap();
    service
}

#[test]
fn services_are_filled_in() {
    let s = service(
        json!({"selector": {"a": "b"}, "sessionAffinity": "ClientIP", "ports": [{"port": 80, "targetPort": 0}]}),
    );
    assert_eq!(
        s["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
    );
    assert_eq!(
        s["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
        10800
    );
    assert_eq!(s["spec"]["ipFamilies"], json!(["IPv4"]));
    let headless = service(json!({"clusterIP": "None"}));
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(headless["spec"]["ipFamilyPolicy"], "RequireDualStack");
}

#[test]
fn services_keep_what_was_allocated() {
    let mut old = service(json!({"type": "NodePort", "selector": {"a": "b"}, "ports": [{"port": 80}]}));
    old["spec"]["clusterIP"] = "10.0.0.5".into();
    old["spec"]["clusterIPs"] = json!(["10.0.0.5"]);
    old["spec"]["ports"][0]["nodePort"] = 30001.into();
    let strategy = kind("", "services").strategy;
    let mut new = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "selector": {"a": "c"}, "ports": [{"port": 80}]}});
    strategy.default(&mut new);
    strategy.prepare_for_update(&mut new, &old);
    assert_eq!(new["spec"]["clusterIP"], "10.0.0.5");
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
    settle(&mut new, &old, &[IpFamily::V4]).unwrap();
    assert!(strategy.validate_update(&new, &old).is_empty());
    let mut plain = old.clone();
    plain["spec"]["type"] = "ClusterIP".into();
    strategy.default(&mut plain);
    strategy.prepare_for_update(&mut plain, &old);
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
    assert!(plain["spec"].get("externalTrafficPolicy").is_none());
}

#[test]
fn a_nodes_range_is_the_first_of_its_ranges() {
    let after = |spec: Value| {
        let mut node = json!({"spec": spec});
        kind("", "nodes").strategy.default(&mut node);
        node["spec"].clone()
    };
    let (four, six) = ("10.1.0.0/24", "fd00:1::/64");
    let both = json!({"podCIDR": four, "podCIDRs": [four, six]});
    assert_eq!(after(json!({"podCIDRs": [four, six]})), both);
    assert_eq!(after(both.clone()), both);
    let one = json!({"podCIDR": six, "podCIDRs": [six]});
    assert_eq!(after(json!({"podCIDR": six})), one);
    assert_eq!(after(json!({"podCIDR": six, "podCIDRs": [four, six]})), one);
}

#[test]
fn requests_for_certificates_are_decided_by_approval_alone() {
    let strategy = kind("certificates.k8s.io", "certificatesigningrequests").strategy;
    let old = json!({"spec": {"request": "AAAA"}, "status": {}});
    let mut approved = json!({"spec": {"request": "BBBB"},
        "status": {"certificate": "CCCC", "conditions": [{"type": "Approved", "status": "True"}]}});
    strategy.prepare_for_subresource_update("approval", &mut approved, &old);
    strategy.stamp(&mut approved, &old, "2026-11-22T15:00:00Z".parse().unwrap());
    assert_eq!(approved["spec"], old["spec"]);
    assert!(approved["status"].get("certificate").is_none());
    assert_eq!(
        approved["status"]["conditions"][0]["lastTransitionTime"],
        "2026-11-22T15:00:00Z"
    );
    let mut signed = json!({"spec": {}, "status": {"certificate": "CCCC", "conditions": [{"type": "Denied", "status": "True"}]}});
    strategy.prepare_for_status_update(&mut signed, &approved);
    assert_eq!(signed["status"]["conditions"], approved["status"]["conditions"]);
    assert_eq!(signed["status"]["certificate"], "CCCC");
    let mut updated = json!({"spec": {}, "status": {}});
    strategy.prepare_for_update(&mut updated, &approved);
    assert_eq!(updated, approved);
}

#[test]
fn namespaces_are_named_and_finalized() {
    let strategy = kind("", "namespaces").strategy;
    let mut new = json!({"metadata": {"name": "n"}, "spec": {}, "status": {}});
    strategy.default(&mut new);
    strategy.prepare_for_create(&mut new);
    assert_eq!(
        new["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "n"})
    );
    assert_eq!(new["spec"]["finalizers"], json!(["kubernetes"]));
    let mut emptied = new.clone();
    emptied["spec"]["finalizers"] = json!([]);
    let mut plain = emptied.clone();
    strategy.prepare_for_update(&mut plain, &new);
    assert_eq!(plain["spec"]["finalizers"], json!(["kubernetes"]));
    strategy.prepare_for_subresource_update("finalize", &mut emptied, &new);
    assert_eq!(emptied["spec"]["finalizers"], json!([]));
    assert!(!strategy.validate_name("a.b", false).is_empty());
}

#[test]
fn secrets_take_plain_text_in() {
    let mut secret = json!({"metadata": {"name": "s"}, "data": {"a": "AAAA"}, "stringData": {"b": "b"}});
    let strategy = kind("", "secrets").strategy;
    strategy.default(&mut secret);
    assert_eq!(secret["data"], json!({"a": "AAAA", "b": "Yg=="}));
    assert_eq!(secret["type"], "Opaque");
    assert!(secret.get("stringData").is_none());
    let mut other = secret.clone();
    other["type"] = "x".into();
    let errors = strategy.validate_update(&other, &secret);
    assert_eq!(
        (errors[0].field.as_str(), errors[0].kind),
        ("type", FieldErrorKind::Invalid)
    );
}

#[test]
fn slices_count_their_changes() {
    let strategy = kind("discovery.k8s.io", "endpointslices").strategy;
    let mut old = json!({"metadata": {"name": "e"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]});
    strategy.default(&mut old);
    assert_eq!(old["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
    strategy.prepare_for_create(&mut old);
    let mut new = old.clone();
    new["endpoints"] = json!([]);
    strategy.prepare_for_update(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 2);
    new["addressType"] = "IPv6".into();
    assert!(
        strategy
            .validate_update(&new, &old)
            .iter()
            .any(|e| e.field == "addressType")
    );
}

#[test]
fn network_policies_are_about_what_they_have_rules_for() {
    let strategy = crate::find("networking.k8s.io", "v1", "networkpolicies")
        .unwrap()
        .strategy;
    let types = |spec: Value| {
        let mut policy = json!({"metadata": {}, "spec": spec});
        strategy.default(&mut policy);
        policy["spec"]["policyTypes"].clone()
    };
    assert_eq!(types(json!({})), json!(["Ingress"]));
    assert_eq!(types(json!({"egress": [{}]})), json!(["Ingress", "Egress"]));
    assert_eq!(
        types(json!({"policyTypes": ["Egress"], "ingress": [{}]})),
        json!(["Egress"])
    );
    let mut policy = json!({"spec": {"ingress": [{"ports": [{"port": 80}, {"protocol": "UDP"}]}]}});
    strategy.default(&mut policy);
    let ports = &policy["spec"]["ingress"][0]["ports"];
    assert_eq!(
        (&ports[0]["protocol"], &ports[1]["protocol"]),
        (&json!("TCP"), &json!("UDP"))
    );
}
