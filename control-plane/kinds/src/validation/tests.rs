use serde_json::{Value, json};

use crate::find;

fn pod_errors(spec: Value) -> Vec<String> {
    let mut pod = json!({"metadata": {"name": "a"}, "spec": spec});
    let strategy = find("", "v1", "pods").unwrap().strategy;
    strategy.default(&mut pod);
    strategy.validate(&pod).iter().map(ToString::to_string).collect()
}

fn one(spec: Value) -> String {
    let errors = pod_errors(spec);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.into_iter().next().unwrap()
}

fn with(extra: Value) -> Value {
    let mut container = json!({"name": "c", "image": "b"});
    for (k, v) in extra.as_object().unwrap() {
        container[k] = v.clone();
    }
    json!({"containers": [container]})
}

#[test]
fn files_of_variables_lie_in_empty_directories() {
    let env =
        json!([{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "p", "key": "A"}}}]);
    let with_volume = |source: Value| {
        let mut spec = with(json!({"env": env}));
        spec["volumes"] = json!([source]);
        pod_errors(spec)
    };
    let at = "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName";
    let other = json!({"name": "other", "emptyDir": {}});
    assert_eq!(with_volume(other), [format!("{at}: Not found: \"v\"")]);
    let secret = json!({"name": "v", "secret": {"secretName": "s"}});
    let words = format!("{at}: Invalid value: \"v\": referenced volume must be of type emptyDir");
    assert_eq!(with_volume(secret), [words]);
    assert!(with_volume(json!({"name": "v", "emptyDir": {}})).is_empty());
}

#[test]
fn rules_for_restarts_stand_beside_a_policy() {
    let rule = |action: &str| json!([{"action": action, "exitCodes": {"operator": "In", "values": [1]}}]);
    let at = "spec.containers[0]";
    assert_eq!(
        one(with(json!({"restartPolicyRules": rule("Restart")}))),
        format!("{at}.restartPolicy: Required value: must specify restartPolicy when restart rules are used")
    );
    let known = with(json!({"restartPolicy": "Never", "restartPolicyRules": rule("RestartAllContainers")}));
    assert!(pod_errors(known).is_empty());
    let unknown = one(with(
        json!({"restartPolicy": "Never", "restartPolicyRules": rule("Reboot")}),
    ));
    assert!(unknown.starts_with(&format!("{at}.restartPolicyRules[0].action: Unsupported value")));
}

#[test]
fn a_runtime_class_keeps_its_handler() {
    let strategy = find("node.k8s.io", "v1", "runtimeclasses").unwrap().strategy;
    let class = |handler: &str| json!({"metadata": {"name": "a"}, "handler": handler});
    assert!(strategy.validate(&class("runc")).is_empty());
    let words = |errors: Vec<knode_api::field::FieldError>| {
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert!(words(strategy.validate(&class("Not A Name"))).starts_with("handler: Invalid value"));
    assert_eq!(
        words(strategy.validate_update(&class("crun"), &class("runc"))),
        "handler: Invalid value: \"crun\": field is immutable"
    );
}

#[test]
fn containers() {
    assert_eq!(
        one(json!({"containers": [{"name": "c", "image": "b"}, {"name": "c", "image": "b"}]})),
        "spec.containers[1].name: Duplicate value: \"c\""
    );
    assert_eq!(
        one(with(json!({"ports": [{"containerPort": 0}]}))),
        "spec.containers[0].ports[0].containerPort: Required value"
    );
    assert_eq!(
        one(with(
            json!({"livenessProbe": {"exec": {"command": ["x"]}, "successThreshold": 2}})
        )),
        "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"
    );
    assert_eq!(
        one(with(json!({"readinessProbe": {}}))),
        "spec.containers[0].readinessProbe: Required value: must specify a handler type"
    );
    assert_eq!(
        one(with(
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.foo"}}}]})
        ))
        .split(": supported")
        .next()
        .unwrap(),
        "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.foo\""
    );
    assert_eq!(
        pod_errors(with(json!({"resources": {"requests": {"cpu": "-1"}}}))),
        [
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"
        ]
    );
}

#[test]
fn volumes() {
    let volume = |v: Value| json!({"containers": [{"name": "c", "image": "b"}], "volumes": [v]});
    assert_eq!(
        one(volume(
            json!({"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}})
        )),
        "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"
    );
    assert_eq!(
        one(volume(json!({"name": "v", "hostPath": {"path": "/a/../b"}}))),
        "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"
    );
    assert_eq!(
        one(volume(
            json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 1}}]}})
        )),
        "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes"
    );
}

#[test]
fn tolerations_and_names() {
    let spec = |k: &str, v: Value| {
        let mut s = json!({"containers": [{"name": "c", "image": "b"}]});
        s[k] = v;
        s
    };
    assert_eq!(
        one(spec(
            "tolerations",
            json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 3}])
        )),
        "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set"
    );
    assert!(
        one(spec("hostname", json!("a.b")))
            .starts_with("spec.hostname: Invalid value: \"a.b\": must not contain dots")
    );
    assert!(
        one(spec("hostnameOverride", json!("a_b")))
            .starts_with("spec.hostnameOverride: Invalid value: \"a_b\"")
    );
    let long = "a.".repeat(32) + "a";
    assert!(one(spec("hostnameOverride", json!(long))).starts_with("spec.hostnameOverride: Too long"));
    assert!(
        one(spec("activeDeadlineSeconds", json!(0))).contains("must be between 1 and 2147483647, inclusive")
    );
    assert!(one(spec("dnsPolicy", json!("None"))).contains("must provide at least one DNS nameserver"));
}

fn update_errors(change: impl Fn(&mut Value)) -> Vec<String> {
    let mut old = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "b"}],
        "tolerations": [{"key": "k", "operator": "Exists"}], "activeDeadlineSeconds": 10}});
    let strategy = find("", "v1", "pods").unwrap().strategy;
    strategy.default(&mut old);
    let mut new = old.clone();
    change(&mut new["spec"]);
    strategy
        .validate_update(&new, &old)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn pods_change_little() {
    assert!(update_errors(|s| s["containers"][0]["image"] = "c".into()).is_empty());
    assert!(update_errors(|s| s["activeDeadlineSeconds"] = 5.into()).is_empty());
    let grown = update_errors(|s| {
        if let Some(t) = s["tolerations"].as_array_mut() {
            t.push(json!({"key": "new"}));
        }
    });
    assert!(grown.is_empty(), "{grown:?}");
    assert_eq!(
        update_errors(|s| s["activeDeadlineSeconds"] = 50.into()),
        ["spec.activeDeadlineSeconds: Invalid value: 50: must be less than or equal to previous value"]
    );
    assert_eq!(
        update_errors(|s| s["tolerations"] = json!([])),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    assert_eq!(
        update_errors(|s| s["containers"] = json!([])),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    assert!(
        update_errors(|s| s["containers"][0]["command"] = json!(["x"]))[0].contains("\n+   \"command\": [")
    );
}

fn errors_of(group: &str, plural: &str, mut object: Value) -> Vec<String> {
    let kind = find(group, "v1", plural).unwrap();
    object["kind"] = kind.kind.into();
    kind.strategy.default(&mut object);
    kind.strategy
        .validate(&object)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn daemon_sets() {
    let spec = |strategy: Value| {
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "updateStrategy": strategy, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "b"}]}}}})
    };
    assert!(errors_of("apps", "daemonsets", spec(json!({}))).is_empty());
    assert_eq!(
        errors_of(
            "apps",
            "daemonsets",
            spec(json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}))
        ),
        [
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0 when maxSurge is 0"
        ]
    );
    assert_eq!(
        errors_of("apps", "daemonsets", spec(json!({"type": "X"}))),
        [
            "spec.updateStrategy.type: Unsupported value: \"X\": supported values: \"RollingUpdate\", \"OnDelete\""
        ]
    );
}

#[test]
fn services() {
    let with = |spec: Value| errors_of("", "services", json!({"spec": spec}));
    assert_eq!(
        with(json!({"ports": [{"port": 80}, {"port": 81}]})),
        [
            "spec.ports[0].name: Required value",
            "spec.ports[1].name: Required value"
        ]
    );
    assert_eq!(
        with(json!({"type": "X", "ports": [{"port": 80}]})),
        [
            "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""
        ]
    );
    assert_eq!(
        with(json!({"type": "ExternalName"})),
        ["spec.externalName: Required value"]
    );
}

#[test]
fn addresses_of_services() {
    let with = |mut spec: Value| {
        spec["ports"] = json!([{"port": 80}]);
        errors_of("", "services", json!({"spec": spec}))
    };
    let two = |one: &str, other: &str| json!({"clusterIP": one, "clusterIPs": [one, other]});
    let cases = [
        (
            json!({"clusterIPs": ["10.0.0.1"]}),
            "spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            two("10.0.0.1", "10.0.0.2"),
            "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family",
        ),
        (
            two("None", "10.0.0.2"),
            "spec.clusterIPs: Invalid value: [\"None\",\"10.0.0.2\"]: 'None' must be the first and only value",
        ),
        (
            json!({"ipFamilies": ["IPv5"]}),
            "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"]}),
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
        ),
        (
            json!({"ipFamilyPolicy": "Dual"}),
            "spec.ipFamilyPolicy: Unsupported value: \"Dual\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.b", "ipFamilies": ["IPv4"]}),
            "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(with(spec), [wanted]);
    }
    assert_eq!(with(two("10.0.0.1", "fd00::1")), Vec::<String>::new());
}

#[test]
fn the_first_address_of_a_service_stays() {
    let service = |spec: Value| {
        let mut service = json!({"kind": "Service", "spec": spec});
        service["spec"]["ports"] = json!([{"port": 80}]);
        find("", "v1", "services").unwrap().strategy.default(&mut service);
        service
    };
    let old = service(
        json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
    );
    let update = |spec: Value| {
        let strategy = find("", "v1", "services").unwrap().strategy;
        let errors = strategy.validate_update(&service(spec), &old);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        update(
            json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]})
        ),
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\",\"fd00::1\"]: may not change once set"]
    );
    assert_eq!(
        update(
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack"})
        ),
        Vec::<String>::new()
    );
    assert_eq!(
        update(
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack"})
        ),
        [
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP"
        ]
    );
}

#[test]
fn ranges_of_a_node_stay_once_given() {
    let strategy = find("", "v1", "nodes").unwrap().strategy;
    let node = |ranges: &[&str]| {
        let mut node = json!({"metadata": {"name": "n"}, "spec": {"podCIDRs": ranges}});
        strategy.default(&mut node);
        node
    };
    let update = |new: &[&str], old: &[&str]| -> Vec<String> {
        let errors = strategy.validate_update(&node(new), &node(old));
        errors.iter().map(ToString::to_string).collect()
    };
    let (four, six) = ("10.1.0.0/24", "fd00:1::/64");
    let kept = "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid";
    assert_eq!(update(&[four, six], &[]), Vec::<String>::new());
    assert_eq!(update(&[four, six], &[four, six]), Vec::<String>::new());
    assert_eq!(update(&[four], &[four, six]), [kept]);
    assert_eq!(update(&[four, "fd00:2::/64"], &[four, six]), [kept]);
    assert_eq!(
        update(&[four, "10.2.0.0/24"], &[]),
        [
            "spec.podCIDRs: Invalid value: [\"10.1.0.0/24\",\"10.2.0.0/24\"]: may specify no more than one CIDR for each IP family"
        ]
    );
}

#[test]
fn roles_and_bindings() {
    assert_eq!(
        errors_of(
            "rbac.authorization.k8s.io",
            "roles",
            json!({"rules": [{"verbs": [], "apiGroups": [""], "resources": ["pods"]}]})
        ),
        ["rules[0].verbs: Required value: verbs must contain at least one value"]
    );
    let binding = json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "s"}]});
    assert_eq!(
        errors_of("rbac.authorization.k8s.io", "clusterrolebindings", binding),
        ["subjects[0].namespace: Required value"]
    );
}

#[test]
fn events_lie_where_their_object_does() {
    let event = json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}});
    assert_eq!(
        errors_of("", "events", event),
        ["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"]
    );
}

#[test]
fn metadata_of_objects_on_their_way_out() {
    let kind = find("", "v1", "pods").unwrap();
    let old = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-11-22T15:00:00Z", "finalizers": ["x/y"]}});
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!(["x/y", "x/z"]);
    let errors = crate::rows::meta::validate_update(kind, &new, &old);
    assert_eq!(
        errors[0].to_string(),
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x/z\"}"
    );
}

fn policy(spec: serde_json::Value) -> Vec<String> {
    errors_of("networking.k8s.io", "networkpolicies", json!({"spec": spec}))
}

#[test]
fn network_policies_name_peers_and_ports_that_can_be() {
    let fine = json!({
        "podSelector": {"matchLabels": {"a": "b"}},
        "ingress": [{}, {"from": [{"podSelector": {}}, {"namespaceSelector": {}, "podSelector": {}},
                                  {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}],
                         "ports": [{"port": 80, "endPort": 90}, {"protocol": "SCTP"}, {"port": "http"}]}],
        "egress": [{"to": [{"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}}]}]
    });
    assert_eq!(policy(fine), Vec::<String>::new());
    let from = |peer| policy(json!({"ingress": [{"from": [peer]}]}));
    assert_eq!(
        from(json!({})),
        ["spec.ingress[0].from[0]: Required value: must specify a peer"]
    );
    assert_eq!(
        from(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
        ["spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer"]
    );
    assert_eq!(
        from(json!({"ipBlock": {}})),
        ["spec.ingress[0].from[0].ipBlock.cidr: Required value"]
    );
    assert_eq!(
        from(json!({"ipBlock": {"cidr": "10.0.0.0"}})),
        [
            "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        ]
    );
    for except in ["10.0.0.0/8", "11.0.0.0/16", "0.0.0.0/0", "fd00::/64"] {
        assert_eq!(
            from(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": [except]}})),
            [format!(
                "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: {except:?}: must be a strict subset of `cidr`"
            )]
        );
    }
}

#[test]
fn ports_and_types_of_network_policies() {
    let to = |port| policy(json!({"egress": [{"ports": [port]}]}));
    let of = |words: &str| vec![format!("spec.egress[0].ports[0].{words}")];
    assert_eq!(
        to(json!({"protocol": "DCCP"})),
        of("protocol: Unsupported value: \"DCCP\": supported values: \"SCTP\", \"TCP\", \"UDP\"")
    );
    assert_eq!(
        to(json!({"port": 0})),
        of("port: Invalid value: 0: must be between 1 and 65535, inclusive")
    );
    assert_eq!(
        to(json!({"port": 90, "endPort": 80})),
        of("endPort: Invalid value: 90: must be greater than or equal to `port`")
    );
    assert_eq!(
        to(json!({"port": "http", "endPort": 80})),
        of("endPort: Invalid value: 80: may not be specified when `port` is non-numeric")
    );
    assert_eq!(
        to(json!({"endPort": 80})),
        of("endPort: Invalid value: 80: may not be specified when `port` is not specified")
    );
    assert_eq!(
        policy(json!({"policyTypes": ["Inward"]})),
        ["spec.policyTypes[0]: Unsupported value: \"Inward\": supported values: \"Egress\", \"Ingress\""]
    );
    assert_eq!(
        policy(json!({"policyTypes": ["Ingress", "Egress", "Ingress"]})),
        [
            "spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Ingress\"]: may not specify more than two policyTypes"
        ]
    );
}
