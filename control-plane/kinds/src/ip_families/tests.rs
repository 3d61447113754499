use serde_json::{Value, json};

use super::*;

const FOUR: &[IpFamily] = &[IpFamily::V4];
const BOTH: &[IpFamily] = &[IpFamily::V4, IpFamily::V6];
const SIX_FIRST: &[IpFamily] = &[IpFamily::V6, IpFamily::V4];

fn service(mut spec: Value) -> Value {
    set_default(&mut spec, "type", "ClusterIP");
    json!({"spec": spec})
}

/// Policy and families that a new service gets, or the complaints.
fn new(spec: Value, configured: &[IpFamily]) -> Result<String, Vec<String>> {
    changed(spec, &Value::Null, configured)
}

fn changed(spec: Value, old: &Value, configured: &[IpFamily]) -> Result<String, Vec<String>> {
    let mut service = service(spec);
    match settle(&mut service, old, configured) {
        Ok(()) => {
            let families = list(&service, "/spec/ipFamilies")
                .iter()
                .filter_map(Value::as_str);
            let families = families.collect::<Vec<_>>().join(",");
            Ok(format!("{} {families}", text(&service, "/spec/ipFamilyPolicy")))
        }
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn what_is_left_out_follows_from_the_cluster() {
    let selector = json!({"a": "b"});
    let cases = [
        (json!({"selector": selector}), FOUR, "SingleStack IPv4"),
        (json!({"selector": selector}), BOTH, "SingleStack IPv4"),
        (json!({"selector": selector}), SIX_FIRST, "SingleStack IPv6"),
        (json!({"ipFamilyPolicy": PREFER}), FOUR, "PreferDualStack IPv4"),
        (
            json!({"ipFamilyPolicy": PREFER}),
            BOTH,
            "PreferDualStack IPv4,IPv6",
        ),
        (
            json!({"ipFamilyPolicy": PREFER, "ipFamilies": ["IPv6"]}),
            BOTH,
            "PreferDualStack IPv6,IPv4",
        ),
        (
            json!({"ipFamilyPolicy": REQUIRE}),
            SIX_FIRST,
            "RequireDualStack IPv6,IPv4",
        ),
        (json!({"ipFamilies": ["IPv6"]}), BOTH, "SingleStack IPv6"),
        (
            json!({"clusterIP": "fd00::9", "clusterIPs": ["fd00::9"]}),
            BOTH,
            "SingleStack IPv6",
        ),
        (
            json!({"clusterIP": "fd00::9", "clusterIPs": ["fd00::9", "10.0.0.9"], "ipFamilyPolicy": PREFER}),
            BOTH,
            "PreferDualStack IPv6,IPv4",
        ),
    ];
    for (spec, configured, wanted) in cases {
        assert_eq!(new(spec.clone(), configured).as_deref(), Ok(wanted), "{spec}");
    }
}

#[test]
fn without_addresses_and_selector_both_families_are_fine_anywhere() {
    let headless = |extra: Value| {
        let mut spec = json!({"clusterIP": "None", "clusterIPs": ["None"]});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    };
    let cases = [
        (json!({}), FOUR, "RequireDualStack IPv4,IPv6"),
        (json!({}), SIX_FIRST, "RequireDualStack IPv6,IPv4"),
        (
            json!({"ipFamilies": ["IPv6"]}),
            FOUR,
            "RequireDualStack IPv6,IPv4",
        ),
        (json!({"ipFamilyPolicy": SINGLE}), BOTH, "SingleStack IPv4"),
        (json!({"selector": {"a": "b"}}), BOTH, "SingleStack IPv4"),
        (
            json!({"selector": {"a": "b"}, "ipFamilyPolicy": REQUIRE}),
            BOTH,
            "RequireDualStack IPv4,IPv6",
        ),
    ];
    for (extra, configured, wanted) in cases {
        assert_eq!(
            new(headless(extra.clone()), configured).as_deref(),
            Ok(wanted),
            "{extra}"
        );
    }
}

#[test]
fn what_the_cluster_has_not_or_contradicts_itself_is_refused() {
    let six = json!({"clusterIP": "fd00::9", "clusterIPs": ["fd00::9"]});
    let two = json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"]});
    let cases = [
        (
            json!({"ipFamilyPolicy": REQUIRE}),
            FOUR,
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            FOUR,
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            six,
            FOUR,
            "spec.clusterIPs[0]: Invalid value: [\"fd00::9\"]: IPv6 is not configured on this cluster",
        ),
        (
            two,
            BOTH,
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            BOTH,
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ),
        (
            json!({"ipFamilies": ["IPv6"], "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"]}),
            BOTH,
            "spec.clusterIPs[0]: Invalid value: \"10.0.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
    ];
    for (spec, configured, wanted) in cases {
        assert_eq!(
            new(spec.clone(), configured),
            Err(vec![wanted.to_owned()]),
            "{spec}"
        );
    }
}

fn two_stacks(policy: &str) -> Value {
    json!({"ipFamilyPolicy": policy, "ipFamilies": ["IPv4", "IPv6"], "selector": {"a": "b"},
        "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"]})
}

#[test]
fn a_change_of_policy_adds_and_drops_the_second_family() {
    let one = json!({"ipFamilyPolicy": SINGLE, "ipFamilies": ["IPv4"], "selector": {"a": "b"},
        "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"]});
    let mut more = one.clone();
    more["ipFamilyPolicy"] = PREFER.into();
    let old = service(one);
    assert_eq!(
        changed(more, &old, BOTH).as_deref(),
        Ok("PreferDualStack IPv4,IPv6")
    );

    let old = service(two_stacks(REQUIRE));
    let mut less = service(two_stacks(SINGLE));
    settle(&mut less, &old, BOTH).unwrap();
    assert_eq!(less["spec"]["clusterIPs"], json!(["10.0.0.9"]));
    assert_eq!(less["spec"]["ipFamilies"], json!(["IPv4"]));
}

#[test]
fn the_second_address_does_not_go_by_itself() {
    let old = service(two_stacks(REQUIRE));
    let mut less = two_stacks(REQUIRE);
    less["clusterIPs"] = json!(["10.0.0.9"]);
    less["ipFamilies"] = json!(["IPv4"]);
    assert_eq!(
        changed(less, &old, BOTH),
        Err(vec![
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary cluster IP".to_owned(),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family".to_owned(),
        ])
    );
}

#[test]
fn a_preference_is_not_followed_up_when_the_cluster_changes() {
    let one = json!({"ipFamilyPolicy": PREFER, "ipFamilies": ["IPv4"], "clusterIP": "10.0.0.9",
        "clusterIPs": ["10.0.0.9"]});
    let old = service(one.clone());
    assert_eq!(changed(one, &old, BOTH).as_deref(), Ok("PreferDualStack IPv4"));
    let old = service(two_stacks(PREFER));
    assert_eq!(
        changed(two_stacks(PREFER), &old, FOUR).as_deref(),
        Ok("PreferDualStack IPv4,IPv6")
    );
}

#[test]
fn a_service_without_addresses_has_no_families() {
    let mut service = json!({"spec": {"type": "ExternalName"}});
    settle(&mut service, &Value::Null, BOTH).unwrap();
    assert_eq!(service, json!({"spec": {"type": "ExternalName"}}));
}
