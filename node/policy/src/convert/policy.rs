use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as SelectorObject;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use knode_api::selector::LabelSelector;

use crate::model::{Blocks, Namespaces, Peers, Policy, PortList, PortMatch, Ports, Protocol, Rule, Selector};

const LONGEST_PORT_NAME: usize = 15;

/// What the model keeps of a policy. What cannot be understood in it matches nothing, so that nothing is allowed
/// by it.
pub fn policy(object: &NetworkPolicy) -> Policy {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let Some(spec) = &object.spec else {
        return Policy {
            pods: LabelSelector::nothing(),
            ingress: None,
            egress: None,
        };
    };
    let rule = |peers: &Option<Vec<NetworkPolicyPeer>>, ports: &Option<Vec<NetworkPolicyPort>>| Rule {
        peers: self::peers(namespace, peers.as_deref().unwrap_or_default()),
        ports: self::ports(ports.as_deref().unwrap_or_default()),
    };
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let names = |name: &str| types.iter().any(|own| own == name);
    let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    let is_ingress = types.is_empty() || names("Ingress");
    let is_egress = names("Egress") || (types.is_empty() && has_egress);
    let ingress = || {
        spec.ingress
            .iter()
            .flatten()
            .map(|one| rule(&one.from, &one.ports))
    };
    let egress = || spec.egress.iter().flatten().map(|one| rule(&one.to, &one.ports));
    Policy {
        pods: spec
            .pod_selector
            .as_ref()
            .map_or_else(LabelSelector::everything, selector),
        ingress: is_ingress.then(|| ingress().collect()),
        egress: is_egress.then(|| egress().collect()),
    }
}

/// One that asks for something that does not exist selects nothing.
fn selector(object: &SelectorObject) -> LabelSelector {
    let value = serde_json::to_value(object).ok();
    LabelSelector::from_object(value.as_ref()).unwrap_or_else(|_| LabelSelector::nothing())
}

fn peers(namespace: &str, peers: &[NetworkPolicyPeer]) -> Peers {
    if peers.is_empty() {
        return Peers::All;
    }
    let blocks: Vec<_> = peers
        .iter()
        .filter_map(|peer| block(peer.ip_block.as_ref()?))
        .collect();
    let mut pods: Vec<Arc<Selector>> = Vec::new();
    for one in peers.iter().filter_map(|peer| pod_peer(namespace, peer)) {
        if !pods.iter().any(|other| **other == one) {
            pods.push(Arc::new(one));
        }
    }
    Peers::Some {
        pods: pods.into(),
        blocks: (!blocks.is_empty()).then(|| Arc::new(Blocks::new(&blocks))),
    }
}

fn pod_peer(namespace: &str, peer: &NetworkPolicyPeer) -> Option<Selector> {
    if peer.ip_block.is_some() {
        return None;
    }
    let (namespaces, pods) = match (&peer.namespace_selector, &peer.pod_selector) {
        (None, None) => return None,
        (Some(namespaces), pods) => (
            Namespaces::Matching(selector(namespaces)),
            pods.as_ref().map_or_else(LabelSelector::everything, selector),
        ),
        (None, Some(pods)) => (Namespaces::One(namespace.into()), selector(pods)),
    };
    let readable = |selector: &LabelSelector| *selector != LabelSelector::nothing();
    let is_readable = readable(&pods)
        && match &namespaces {
            Namespaces::One(_) => true,
            Namespaces::Matching(selector) => readable(selector),
        };
    is_readable.then(|| Selector::new(namespaces, pods))
}

/// A block with its exceptions. One exception that is none leaves nothing of the block: who excepts means to forbid.
fn block(block: &IPBlock) -> Option<(IpNet, Vec<IpNet>)> {
    let net = |text: &String| text.parse::<IpNet>().ok();
    let except = block.except.iter().flatten().map(net).collect::<Option<_>>()?;
    Some((net(&block.cidr)?, except))
}

fn ports(ports: &[NetworkPolicyPort]) -> Ports {
    if ports.is_empty() {
        return Ports::All;
    }
    let list = PortList::new(ports.iter().filter_map(port));
    Ports::Some(Arc::new(list))
}

fn port(port: &NetworkPolicyPort) -> Option<PortMatch> {
    let protocol = Protocol::from_name(port.protocol.as_deref())?;
    match (&port.port, port.end_port) {
        (None, None) => Some(PortMatch::Protocol(protocol)),
        (Some(IntOrString::Int(first)), last) => {
            let number = |port: i32| u16::try_from(port).ok();
            let (first, last) = (number(*first)?, number(last.unwrap_or(*first))?);
            (first <= last).then_some(PortMatch::Range {
                protocol,
                first,
                last,
            })
        }
        (Some(IntOrString::String(name)), None) if is_port_name(name) => Some(PortMatch::Named {
            protocol,
            name: name.as_str().into(),
        }),
        _ => None,
    }
}

/// As the API server wants it (RFC 6335); the name becomes part of a set's name.
fn is_port_name(name: &str) -> bool {
    let fits = (1..=LONGEST_PORT_NAME).contains(&name.len());
    fits && name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(spec: Value) -> Policy {
        let object = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
        policy(&serde_json::from_value(object).expect("a policy"))
    }

    fn rules(policy: &Policy) -> [Option<usize>; 2] {
        [&policy.ingress, &policy.egress].map(|rules| rules.as_ref().map(|rules| rules.len()))
    }

    #[test]
    fn what_a_policy_is_about_follows_from_its_types_or_its_rules() {
        assert_eq!(rules(&of(json!({"podSelector": {}}))), [Some(0), None]);
        assert_eq!(
            rules(&of(json!({"podSelector": {}, "egress": [{}]}))),
            [Some(0), Some(1)]
        );
        assert_eq!(
            rules(&of(json!({"podSelector": {}, "egress": []}))),
            [Some(0), None]
        );
        let both = json!({"policyTypes": ["Egress"], "ingress": [{}], "egress": [{}, {}]});
        assert_eq!(rules(&of(both)), [None, Some(2)]);
        assert_eq!(
            rules(&of(json!({"policyTypes": ["Ingress", "Egress"]}))),
            [Some(0), Some(0)]
        );
    }

    fn first(rule: Value) -> Rule {
        of(json!({"ingress": [rule]})).ingress.expect("ingress")[0].clone()
    }

    #[test]
    fn missing_peers_are_all_and_strange_ones_nobody() {
        assert_eq!(first(json!({})).peers, Peers::All);
        assert_eq!(first(json!({"from": []})).peers, Peers::All);
        let nobody = Peers::Some {
            pods: [].into(),
            blocks: None,
        };
        let odd = json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]});
        for peer in [
            json!({}),
            json!({"ipBlock": {"cidr": "10.0.0.0/33"}}),
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["everything"]}}),
            json!({"podSelector": odd.clone()}),
            json!({"namespaceSelector": odd}),
        ] {
            assert_eq!(first(json!({"from": [peer.clone()]})).peers, nobody, "{peer}");
        }
    }

    #[test]
    fn equal_selectors_have_one_set_and_others_have_others() {
        let name = |peer: Value| match first(json!({"from": [peer]})).peers {
            Peers::Some { pods, .. } => pods[0].name().to_owned(),
            Peers::All => panic!("a peer"),
        };
        let web = json!({"matchLabels": {"app": "web"}});
        let names = [
            name(json!({"podSelector": {}})),
            name(json!({"podSelector": web.clone()})),
            name(json!({"namespaceSelector": {}})),
            name(json!({"namespaceSelector": web.clone()})),
            name(json!({"namespaceSelector": {}, "podSelector": web.clone()})),
        ];
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert_eq!(names[1], name(json!({"podSelector": web})));
    }

    #[test]
    fn ports_are_understood_or_match_nothing() {
        let items = |ports: Value| match first(json!({"ports": ports})).ports {
            Ports::Some(list) => format!("{:?}", list.items()),
            Ports::All => "all".to_owned(),
        };
        assert_eq!(items(json!([])), "all");
        assert_eq!(items(json!([{}])), "[Protocol(Tcp)]");
        let range = "[Range { protocol: Sctp, first: 1, last: 9 }]";
        assert_eq!(
            items(json!([{"protocol": "SCTP", "port": 1, "endPort": 9}])),
            range
        );
        let named = "[Named { protocol: Udp, name: \"dns\" }]";
        assert_eq!(items(json!([{"protocol": "UDP", "port": "dns"}])), named);
        for odd in [
            json!({"protocol": "DCCP"}),
            json!({"port": 9, "endPort": 1}),
            json!({"port": 70000}),
            json!({"port": "http", "endPort": 9}),
            json!({"port": "a } accept"}),
            json!({"endPort": 9}),
        ] {
            assert_eq!(items(json!([odd])), "[]", "{odd}");
        }
    }
}
