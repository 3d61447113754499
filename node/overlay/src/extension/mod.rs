//! The backend of the administrator's own commands (`pkg/backend/extension`).

mod run;

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use crate::config::{ExtensionConf, NetConf};
use crate::lease::{BackendData, Lease, LeaseAttributes, Leases};

pub(crate) use run::run;

/// A command to run: its text, its environment and what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub command: String,
    pub environment: Vec<(&'static str, String)>,
    pub input: String,
}

/// The command before the lease is taken, if there is one.
pub(crate) fn pre_startup(conf: &ExtensionConf) -> Option<Call> {
    call(&conf.pre_startup, Vec::new(), String::new())
}

/// The command after the lease was taken, if there is one.
pub(crate) fn post_startup(network: &NetConf, conf: &ExtensionConf, own: &Lease) -> Option<Call> {
    let mut environment = vec![("NETWORK", network.network.to_string())];
    environment.extend(of_lease(own));
    call(&conf.post_startup, environment, String::new())
}

/// The command when the daemon ends, if there is one.
pub(crate) fn shutdown(conf: &ExtensionConf) -> Option<Call> {
    call(&conf.shutdown, Vec::new(), String::new())
}

/// The commands that lead from the peers known so far to those of now: the gone ones first.
pub(crate) fn changes(
    conf: &ExtensionConf,
    known: &BTreeMap<Ipv4Net, Lease>,
    now: &BTreeMap<Ipv4Net, Lease>,
) -> Vec<Call> {
    let removed = known
        .iter()
        .filter(|(subnet, lease)| now.get(*subnet) != Some(*lease));
    let added = now
        .iter()
        .filter(|(subnet, lease)| known.get(*subnet) != Some(*lease));
    let of = |command: &str, lease: &Lease| {
        let BackendData::Extension(said) = &lease.attributes.backend else {
            return None;
        };
        call(command, of_lease(lease), said.clone().unwrap_or_default())
    };
    let removed = removed.filter_map(|(_, lease)| of(&conf.subnet_remove, lease));
    let added = added.filter_map(|(_, lease)| of(&conf.subnet_add, lease));
    removed.chain(added).collect()
}

/// The peers whose packets the commands carry.
pub(crate) fn peers(own: &Lease, leases: &Leases) -> BTreeMap<Ipv4Net, Lease> {
    let theirs = |(subnet, lease): &(&Ipv4Net, &Lease)| {
        **subnet != own.subnet && matches!(lease.attributes.backend, BackendData::Extension(_))
    };
    let peers = leases.peers.iter().filter(theirs);
    peers.map(|(subnet, lease)| (*subnet, lease.clone())).collect()
}

fn of_lease(lease: &Lease) -> Vec<(&'static str, String)> {
    let LeaseAttributes {
        public_ip,
        public_ipv6,
        ..
    } = &lease.attributes;
    let or_empty = |text: Option<String>| text.unwrap_or_default();
    vec![
        ("SUBNET", lease.subnet.to_string()),
        ("IPV6SUBNET", or_empty(lease.ipv6_subnet.map(|n| n.to_string()))),
        ("PUBLIC_IP", public_ip.to_string()),
        ("PUBLIC_IPV6", or_empty(public_ipv6.map(|ip| ip.to_string()))),
    ]
}

/// Upstream ends what a command reads with a line's end.
fn call(command: &str, environment: Vec<(&'static str, String)>, input: String) -> Option<Call> {
    let command = command.trim().to_owned();
    (!command.is_empty()).then(|| Call {
        command,
        environment,
        input: input + "\n",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(n: u8, said: &str) -> Lease {
        let backend = BackendData::Extension(Some(said.into()));
        let attributes = LeaseAttributes::ipv4([192, 0, 2, n].into(), backend);
        Lease::ipv4(format!("10.5.{n}.0/24").parse().unwrap(), attributes)
    }

    fn by_subnet(leases: impl IntoIterator<Item = Lease>) -> BTreeMap<Ipv4Net, Lease> {
        leases.into_iter().map(|l| (l.subnet, l)).collect()
    }

    fn conf() -> ExtensionConf {
        ExtensionConf {
            post_startup: "post".into(),
            subnet_add: "add".into(),
            subnet_remove: " remove ".into(),
            ..ExtensionConf::default()
        }
    }

    fn shown(calls: &[Call]) -> Vec<String> {
        let show = |c: &Call| format!("{} {} {:?}", c.command, c.environment[0].1, c.input);
        calls.iter().map(show).collect()
    }

    #[test]
    fn peers_that_came_changed_and_went_are_told() {
        let known = by_subnet([lease(2, "a"), lease(3, "b"), lease(4, "c")]);
        let now = by_subnet([lease(3, "b"), lease(4, "moved"), lease(5, "new")]);
        assert_eq!(
            shown(&changes(&conf(), &known, &now)),
            [
                r#"remove 10.5.2.0/24 "a\n""#,
                r#"remove 10.5.4.0/24 "c\n""#,
                r#"add 10.5.4.0/24 "moved\n""#,
                r#"add 10.5.5.0/24 "new\n""#,
            ]
        );
        assert_eq!(changes(&conf(), &now, &now), []);
    }

    #[test]
    fn the_environment_is_upstreams() {
        let calls = changes(&conf(), &BTreeMap::new(), &by_subnet([lease(2, "a")]));
        let want = [
            ("SUBNET", "10.5.2.0/24"),
            ("IPV6SUBNET", ""),
            ("PUBLIC_IP", "192.0.2.2"),
            ("PUBLIC_IPV6", ""),
        ]
        .map(|(k, v)| (k, v.to_owned()));
        assert_eq!(calls[0].environment, want);
        let network = NetConf::vxlan("10.5.0.0/16".parse().unwrap());
        let post = post_startup(&network, &conf(), &lease(1, "")).unwrap();
        assert_eq!(post.environment[0], ("NETWORK", "10.5.0.0/16".to_owned()));
        assert_eq!(post.environment[1], ("SUBNET", "10.5.1.0/24".to_owned()));
        assert_eq!(pre_startup(&conf()), None, "none is none");
    }

    #[test]
    fn only_such_leases_are_peers() {
        let mut foreign = lease(3, "");
        foreign.attributes.backend = BackendData::HostGw;
        let leases = Leases {
            own: None,
            peers: by_subnet([lease(1, ""), lease(2, ""), foreign]),
        };
        let peers = peers(&lease(1, ""), &leases);
        assert_eq!(
            peers.keys().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.5.2.0/24"]
        );
    }
}
