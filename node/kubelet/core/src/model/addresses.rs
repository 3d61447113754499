//! Which of its runtime's addresses a pod shows (upstream: `sortPodIPs`). Pure.

/// At most one address of each family, that of the node's primary address first.
pub fn pod_ips(of_sandbox: &[String], of_node: &[String]) -> Vec<String> {
    let is_ipv6 = |ip: &String| ip.contains(':');
    let Some(primary) = of_node.first().or(of_sandbox.first()).map(is_ipv6) else {
        return Vec::new();
    };
    [primary, !primary]
        .into_iter()
        .filter_map(|family| of_sandbox.iter().find(|ip| is_ipv6(ip) == family).cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_primary_family_comes_first_and_none_twice() {
        let list = |ips: &[&str]| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (four, six, other) = ("10.0.0.5", "fd00::5", "10.0.0.6");
        let cases = [
            (vec![four, six], vec!["10.99.0.1", "fd99::1"], vec![four, six]),
            (vec![four, six], vec!["fd99::1", "10.99.0.1"], vec![six, four]),
            (vec![six, four], vec!["10.99.0.1"], vec![four, six]),
            (vec![four, other], vec!["10.99.0.1"], vec![four]),
            (vec![six], vec!["10.99.0.1"], vec![six]),
            (vec![six, four], vec![], vec![six, four]),
            (vec![], vec!["10.99.0.1"], vec![]),
        ];
        for (of_sandbox, of_node, shown) in cases {
            assert_eq!(
                pod_ips(&list(&of_sandbox), &list(&of_node)),
                list(&shown),
                "{of_sandbox:?}"
            );
        }
    }
}
