//! Truth tables: policies, and what passes under them. Judged by the tracer and by real packets alike.

use knode_policy::model::Protocol;
use serde_json::{Value, json};

use super::cluster::{Cluster, NODE, pod};

/// Everyone in the tables, with the address of each family.
pub const PEOPLE: [(&str, [&str; 2]); 5] = [
    ("a/web", ["10.244.0.2", "fd10:244::2"]),
    ("a/client", ["10.244.0.3", "fd10:244::3"]),
    ("b/client", ["10.244.0.4", "fd10:244::4"]),
    // On another node.
    ("a/remote", ["10.244.1.2", "fd10:244:1::2"]),
    // No pod at all.
    ("outside", ["192.0.2.7", "2001:db8::7"]),
];

/// The addresses of someone.
pub fn addresses(who: &str) -> [&'static str; 2] {
    let found = PEOPLE.iter().find(|(name, _)| *name == who);
    found.unwrap_or_else(|| panic!("nobody is called {who}")).1
}

/// A connection that someone tries.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    pub from: &'static str,
    pub to: &'static str,
    pub protocol: Protocol,
    pub port: u16,
    pub passes: bool,
}

/// Policies, and what passes under them in both families.
pub struct Case {
    pub name: &'static str,
    pub policies: Vec<(&'static str, Value)>,
    pub probes: Vec<Probe>,
}

/// Two namespaces with two pods here and one elsewhere.
pub fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.namespace(
        "a",
        Some(json!({"team": "a", "kubernetes.io/metadata.name": "a"})),
    );
    cluster.namespace(
        "b",
        Some(json!({"team": "b", "kubernetes.io/metadata.name": "b"})),
    );
    let web = json!([
        {"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 5353, "protocol": "UDP"},
        {"name": "diameter", "containerPort": 3868, "protocol": "SCTP"}
    ]);
    let remote = json!([{"name": "http", "containerPort": 8081}]);
    let people = [
        ("a/web", NODE, json!({"app": "web"}), web),
        ("a/client", NODE, json!({"role": "client"}), json!([])),
        ("b/client", NODE, json!({"role": "client"}), json!([])),
        ("a/remote", "node2", json!({"role": "remote"}), remote),
    ];
    for (name, node, labels, ports) in people {
        cluster.pod(name, Some(pod(name, node, labels, &addresses(name), ports)));
    }
    cluster
}

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;
const SCTP: Protocol = Protocol::Sctp;
const YES: bool = true;
const NO: bool = false;

type Row = (&'static str, &'static str, Protocol, u16, bool);

fn case(name: &'static str, policies: &[(&'static str, Value)], rows: &[Row]) -> Case {
    let probe = |row: &Row| {
        let (from, to, protocol, port, passes) = *row;
        Probe {
            from,
            to,
            protocol,
            port,
            passes,
        }
    };
    Case {
        name,
        policies: policies.to_vec(),
        probes: rows.iter().map(probe).collect(),
    }
}

fn web(ingress: Value) -> Value {
    json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": ingress})
}

fn client_out(egress: Value) -> Value {
    json!({"podSelector": {"matchLabels": {"role": "client"}}, "policyTypes": ["Egress"], "egress": egress})
}

/// All tables.
pub fn all() -> Vec<Case> {
    [defaults(), peers(), blocks(), ports(), egress(), both_ends()]
        .into_iter()
        .flatten()
        .collect()
}

fn defaults() -> Vec<Case> {
    let everything = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    vec![
        case(
            "no policy",
            &[],
            &[
                ("a/client", "a/web", TCP, 8080, YES),
                ("outside", "a/web", UDP, 5353, YES),
                ("a/web", "outside", TCP, 8080, YES),
                ("a/remote", "a/web", SCTP, 3868, YES),
            ],
        ),
        case(
            "default deny of ingress",
            &[("a/deny", json!({"podSelector": {}, "policyTypes": ["Ingress"]}))],
            &[
                ("a/client", "a/web", TCP, 8080, NO),
                ("b/client", "a/web", UDP, 5353, NO),
                ("a/remote", "a/web", TCP, 8080, NO),
                ("outside", "a/client", TCP, 8080, NO),
                ("a/web", "a/client", SCTP, 3868, NO),
                ("a/client", "b/client", TCP, 8080, YES),
                ("a/web", "outside", TCP, 8080, YES),
                ("a/web", "a/remote", UDP, 5353, YES),
            ],
        ),
        case(
            "default deny of egress",
            &[("a/deny", json!({"podSelector": {}, "policyTypes": ["Egress"]}))],
            &[
                ("a/client", "a/web", TCP, 8080, NO),
                ("a/client", "outside", UDP, 5353, NO),
                ("a/web", "a/remote", SCTP, 3868, NO),
                ("a/client", "b/client", TCP, 8080, NO),
                ("b/client", "a/web", TCP, 8080, YES),
                ("outside", "a/web", UDP, 5353, YES),
            ],
        ),
        case(
            "default deny of both",
            &[("a/deny", everything)],
            &[
                ("a/client", "a/web", TCP, 8080, NO),
                ("outside", "a/web", TCP, 8080, NO),
                ("a/web", "outside", TCP, 8080, NO),
                ("b/client", "outside", TCP, 8080, YES),
            ],
        ),
        case(
            "an empty rule allows all",
            &[("a/allow", web(json!([{}])))],
            &[
                ("a/client", "a/web", TCP, 8080, YES),
                ("outside", "a/web", UDP, 5353, YES),
                ("b/client", "a/web", SCTP, 3868, YES),
            ],
        ),
        case(
            "policies add up",
            &[
                ("a/deny", json!({"podSelector": {}})),
                (
                    "a/web-1",
                    web(json!([{"from": [{"podSelector": {"matchLabels": {"role": "client"}}}]}])),
                ),
                (
                    "a/web-2",
                    web(json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}])),
                ),
            ],
            &[
                ("a/client", "a/web", TCP, 8080, YES),
                ("b/client", "a/web", TCP, 8080, YES),
                ("a/remote", "a/web", TCP, 8080, NO),
                ("a/web", "a/client", TCP, 8080, NO),
            ],
        ),
        case(
            "a policy of another namespace",
            &[("b/deny", json!({"podSelector": {}}))],
            &[
                ("b/client", "a/web", TCP, 8080, YES),
                ("a/web", "b/client", TCP, 8080, NO),
            ],
        ),
    ]
}

fn peers() -> Vec<Case> {
    let from = |peers: Value| vec![("a/web", web(json!([{"from": peers}])))];
    let clients = json!({"matchLabels": {"role": "client"}});
    let team = |team: &str| json!({"matchLabels": {"team": team}});
    let not_client =
        json!({"matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["client"]}]});
    let has_role = json!({"matchExpressions": [{"key": "role", "operator": "Exists"},
                                              {"key": "app", "operator": "DoesNotExist"}]});
    let to_web =
        |rows: [(&'static str, bool); 4]| rows.map(|(who, passes)| (who, "a/web", TCP, 8080, passes));
    vec![
        case(
            "a pod selector means the policy's namespace",
            &from(json!([{"podSelector": clients.clone()}])),
            &to_web([
                ("a/client", YES),
                ("b/client", NO),
                ("a/remote", NO),
                ("outside", NO),
            ]),
        ),
        case(
            "an empty pod selector means all pods of the namespace",
            &from(json!([{"podSelector": {}}])),
            &to_web([
                ("a/client", YES),
                ("b/client", NO),
                ("a/remote", YES),
                ("outside", NO),
            ]),
        ),
        case(
            "a namespace selector means all its pods",
            &from(json!([{"namespaceSelector": team("b")}])),
            &to_web([
                ("a/client", NO),
                ("b/client", YES),
                ("a/remote", NO),
                ("outside", NO),
            ]),
        ),
        case(
            "an empty namespace selector means all pods",
            &from(json!([{"namespaceSelector": {}}])),
            &to_web([
                ("a/client", YES),
                ("b/client", YES),
                ("a/remote", YES),
                ("outside", NO),
            ]),
        ),
        case(
            "both selectors in one peer must hold",
            &from(json!([{"namespaceSelector": team("b"), "podSelector": clients.clone()}])),
            &to_web([
                ("a/client", NO),
                ("b/client", YES),
                ("a/remote", NO),
                ("outside", NO),
            ]),
        ),
        case(
            "both selectors in two peers are alternatives",
            &from(
                json!([{"namespaceSelector": team("b")}, {"podSelector": {"matchLabels": {"role": "remote"}}}]),
            ),
            &to_web([
                ("a/client", NO),
                ("b/client", YES),
                ("a/remote", YES),
                ("outside", NO),
            ]),
        ),
        case(
            "expressions",
            &from(json!([{"namespaceSelector": {}, "podSelector": not_client}])),
            &to_web([
                ("a/client", NO),
                ("b/client", NO),
                ("a/remote", YES),
                ("outside", NO),
            ]),
        ),
        case(
            "existence of labels",
            &from(json!([{"namespaceSelector": {}, "podSelector": has_role}])),
            &to_web([
                ("a/client", YES),
                ("b/client", YES),
                ("a/remote", YES),
                ("outside", NO),
            ]),
        ),
        case(
            "missing peers are all",
            &[("a/web", web(json!([{"from": []}])))],
            &to_web([
                ("a/client", YES),
                ("b/client", YES),
                ("a/remote", YES),
                ("outside", YES),
            ]),
        ),
        case(
            "a selector that nobody satisfies",
            &from(json!([{"podSelector": {"matchLabels": {"app": "none"}}}])),
            &to_web([
                ("a/client", NO),
                ("b/client", NO),
                ("a/remote", NO),
                ("outside", NO),
            ]),
        ),
    ]
}

fn blocks() -> Vec<Case> {
    let from = |peers: Value| vec![("a/web", web(json!([{"from": peers}])))];
    let to_web =
        |rows: [(&'static str, bool); 4]| rows.map(|(who, passes)| (who, "a/web", TCP, 8080, passes));
    vec![
        case(
            "a block",
            &from(json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}])),
            &to_web([
                ("a/client", NO),
                ("b/client", NO),
                ("a/remote", NO),
                ("outside", YES),
            ]),
        ),
        case(
            "a block with exceptions",
            &from(json!([
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["192.0.2.0/28", "10.244.0.4/32"]}},
                {"ipBlock": {"cidr": "::/0", "except": ["2001:db8::/64", "fd10:244::4/128"]}}])),
            &to_web([
                ("a/client", YES),
                ("b/client", NO),
                ("a/remote", YES),
                ("outside", NO),
            ]),
        ),
        case(
            "an exception of one block is no exception of another",
            &from(json!([
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}, {"ipBlock": {"cidr": "10.244.1.0/24"}},
                {"ipBlock": {"cidr": "::/0", "except": ["fd00::/8"]}}, {"ipBlock": {"cidr": "fd10:244:1::/48"}}])),
            &to_web([
                ("a/client", NO),
                ("b/client", NO),
                ("a/remote", YES),
                ("outside", YES),
            ]),
        ),
        case(
            "blocks beside selectors",
            &from(json!([
                {"ipBlock": {"cidr": "192.0.2.7/32"}}, {"ipBlock": {"cidr": "2001:db8::7/128"}},
                {"podSelector": {"matchLabels": {"role": "client"}}}])),
            &to_web([
                ("a/client", YES),
                ("b/client", NO),
                ("a/remote", NO),
                ("outside", YES),
            ]),
        ),
    ]
}

fn ports() -> Vec<Case> {
    let on = |ports: Value| vec![("a/web", web(json!([{"ports": ports}])))];
    vec![
        case(
            "a port is of TCP",
            &on(json!([{"port": 8080}])),
            &[
                ("a/client", "a/web", TCP, 8080, YES),
                ("outside", "a/web", TCP, 8080, YES),
                ("a/client", "a/web", TCP, 8081, NO),
                ("a/client", "a/web", UDP, 8080, NO),
                ("a/client", "a/web", SCTP, 8080, NO),
            ],
        ),
        case(
            "a port of UDP",
            &on(json!([{"protocol": "UDP", "port": 5353}])),
            &[
                ("a/client", "a/web", UDP, 5353, YES),
                ("a/client", "a/web", TCP, 8080, NO),
                ("a/client", "a/web", UDP, 8080, NO),
            ],
        ),
        case(
            "a port of SCTP",
            &on(json!([{"protocol": "SCTP", "port": 3868}])),
            &[
                ("a/client", "a/web", SCTP, 3868, YES),
                ("a/client", "a/web", SCTP, 3869, NO),
                ("outside", "a/web", SCTP, 3868, YES),
                ("a/client", "a/web", TCP, 8080, NO),
            ],
        ),
        case(
            "all ports of a protocol",
            &on(json!([{"protocol": "SCTP"}, {"protocol": "TCP"}])),
            &[
                ("a/client", "a/web", SCTP, 3869, YES),
                ("a/client", "a/web", TCP, 9000, YES),
                ("a/client", "a/web", UDP, 5353, NO),
            ],
        ),
        case(
            "a range of ports",
            &on(json!([{"port": 8080, "endPort": 8081}])),
            &[
                ("a/client", "a/web", TCP, 8080, YES),
                ("a/client", "a/web", TCP, 8081, YES),
                ("a/client", "a/web", TCP, 9000, NO),
                ("a/client", "a/web", UDP, 8080, NO),
            ],
        ),
        case(
            "a named port is the pod's own",
            &on(json!([
                {"port": "http"}, {"protocol": "UDP", "port": "dns"}, {"protocol": "SCTP", "port": "diameter"}])),
            &[
                ("a/client", "a/web", TCP, 8080, YES),
                ("a/client", "a/web", TCP, 8081, NO),
                ("a/client", "a/web", UDP, 5353, YES),
                ("a/client", "a/web", SCTP, 3868, YES),
                ("a/client", "a/web", SCTP, 3869, NO),
                ("outside", "a/web", TCP, 8080, YES),
            ],
        ),
        case(
            "a named port of another protocol",
            &on(json!([{"protocol": "UDP", "port": "http"}])),
            &[
                ("a/client", "a/web", TCP, 8080, NO),
                ("a/client", "a/web", UDP, 8080, NO),
            ],
        ),
        case(
            "peers and ports must hold, rules are alternatives",
            &[(
                "a/web",
                web(json!([
                    {"from": [{"podSelector": {}}], "ports": [{"port": 8080}]},
                    {"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}], "ports": [{"port": 8081}, {"protocol": "UDP"}]},
                ])),
            )],
            &[
                ("a/client", "a/web", TCP, 8080, YES),
                ("a/client", "a/web", TCP, 8081, NO),
                ("b/client", "a/web", TCP, 8080, NO),
                ("b/client", "a/web", TCP, 8081, YES),
                ("b/client", "a/web", UDP, 5353, YES),
                ("a/client", "a/web", UDP, 5353, NO),
                ("a/remote", "a/web", TCP, 8080, YES),
                ("outside", "a/web", TCP, 8080, NO),
            ],
        ),
    ]
}

fn egress() -> Vec<Case> {
    let to = |rules: Value| vec![("a/out", client_out(rules))];
    vec![
        case(
            "egress to pods",
            &to(json!([{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}])),
            &[
                ("a/client", "a/web", TCP, 8080, YES),
                ("a/client", "a/remote", TCP, 8080, NO),
                ("a/client", "outside", TCP, 8080, NO),
                ("b/client", "outside", TCP, 8080, YES),
                ("a/web", "a/client", TCP, 8080, YES),
            ],
        ),
        case(
            "egress to a block and a port",
            &to(json!([
                {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}],
                 "ports": [{"port": 8080}, {"protocol": "UDP", "port": 5353}]}])),
            &[
                ("a/client", "outside", TCP, 8080, YES),
                ("a/client", "outside", UDP, 5353, YES),
                ("a/client", "outside", TCP, 8081, NO),
                ("a/client", "a/web", TCP, 8080, NO),
            ],
        ),
        case(
            "egress to a named port is the other's own",
            &to(json!([{"ports": [{"port": "http"}]}])),
            &[
                ("a/client", "a/web", TCP, 8080, YES),
                ("a/client", "a/web", TCP, 8081, NO),
                ("a/client", "a/remote", TCP, 8081, YES),
                ("a/client", "a/remote", TCP, 8080, NO),
                ("a/client", "outside", TCP, 8080, NO),
            ],
        ),
        case(
            "egress to another namespace",
            &to(json!([
                {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "b"}}}],
                 "ports": [{"protocol": "SCTP", "port": 3868, "endPort": 3870}]}])),
            &[
                ("a/client", "b/client", SCTP, 3869, YES),
                ("a/client", "b/client", TCP, 8080, NO),
                ("a/client", "a/web", SCTP, 3868, NO),
            ],
        ),
    ]
}

fn both_ends() -> Vec<Case> {
    let lets_in = web(json!([{"from": [{"namespaceSelector": {}}], "ports": [{"port": 8080}]}]));
    let lets_out =
        client_out(json!([{"to": [{"namespaceSelector": {}}], "ports": [{"port": 8080, "endPort": 8081}]}]));
    vec![
        case(
            "both ends have a say",
            &[("a/in", lets_in), ("a/out", lets_out)],
            &[
                ("a/client", "a/web", TCP, 8080, YES),
                ("a/client", "a/web", TCP, 8081, NO),
                ("a/client", "b/client", TCP, 8081, YES),
                ("a/client", "b/client", TCP, 9000, NO),
                ("b/client", "a/web", TCP, 8081, NO),
                ("b/client", "a/web", TCP, 8080, YES),
            ],
        ),
        case(
            "answers come back to the isolated",
            &[("a/deny", json!({"podSelector": {}, "policyTypes": ["Ingress"]}))],
            &[
                ("a/client", "outside", TCP, 8080, YES),
                ("a/client", "b/client", UDP, 5353, YES),
                ("a/web", "a/remote", SCTP, 3868, YES),
            ],
        ),
    ]
}
