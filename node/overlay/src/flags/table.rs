use super::syntax::{Flag, Kind};

const fn text(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind: Kind::Text,
        default,
        help,
    }
}

const fn truth(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind: Kind::Bool,
        default,
        help,
    }
}

const fn list(name: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind: Kind::List,
        default: "",
        help,
    }
}

/// All of upstream's flags, those of its logger too.
pub(super) const FLAGS: &[Flag] = &[
    text(
        "etcd-endpoints",
        "http://127.0.0.1:4001,http://127.0.0.1:2379",
        "etcd's members, separated by commas",
    ),
    text(
        "etcd-prefix",
        "/coreos.com/network",
        "where in etcd the network lies",
    ),
    text("etcd-keyfile", "", "key of the client certificate for etcd"),
    text("etcd-certfile", "", "client certificate for etcd"),
    text("etcd-cafile", "", "authorities of etcd's certificates"),
    text("etcd-username", "", "user at etcd"),
    text("etcd-password", "", "its password"),
    list(
        "iface",
        "interface to the other nodes, by name or address; the first that exists",
    ),
    list(
        "iface-regex",
        "pattern of the interface's name or address; the first that matches",
    ),
    text(
        "iface-can-reach",
        "",
        "the interface through which this address is reached",
    ),
    text(
        "subnet-file",
        "/run/flannel/subnet.env",
        "where to write the subnet's variables",
    ),
    text("public-ip", "", "address at which the other nodes reach this one"),
    text("public-ipv6", "", "likewise by IPv6"),
    text(
        "subnet-lease-renew-margin",
        "60",
        "how many minutes before its end a lease is renewed",
    ),
    truth("ip-masq", "false", "masquerade what leaves the pod network"),
    truth(
        "ip-masq-fully-random-disable",
        "false",
        "keep the ports of masqueraded connections where they are free",
    ),
    truth(
        "ip-blackhole-route",
        "false",
        "keep a blackhole route for the node's own subnet, for addresses that no bridge and no pod has",
    ),
    truth(
        "kube-subnet-mgr",
        "false",
        "keep leases in the Kubernetes API instead of etcd",
    ),
    text("kube-api-url", "", "the API server, whatever the kubeconfig says"),
    text(
        "kube-annotation-prefix",
        "flannel.alpha.coreos.com",
        "prefix of the nodes' annotations",
    ),
    text("kubeconfig-file", "", "kubeconfig for the Kubernetes API"),
    truth("version", "false", "print the version and end"),
    text("healthz-ip", "0.0.0.0", "address of the health check"),
    text("healthz-port", "0", "port of the health check; 0 for none"),
    text(
        "iptables-resync",
        "5",
        "taken and without meaning: the rules are watched",
    ),
    truth(
        "iptables-forward-rules",
        "true",
        "let the pod network's packets pass",
    ),
    text(
        "net-config-path",
        "/etc/kube-flannel/net-conf.json",
        "the network's configuration, with -kube-subnet-mgr",
    ),
    truth(
        "set-node-network-unavailable",
        "true",
        "set the node's condition NetworkUnavailable",
    ),
    text("v", "0", "how much to log"),
    text("vmodule", "", "taken and without meaning"),
    text("log_backtrace_at", "", "taken and without meaning"),
    text(
        "log_dir",
        "",
        "taken and without meaning: the log goes to standard error",
    ),
    text("stderrthreshold", "", "taken and without meaning"),
    truth(
        "logtostderr",
        "true",
        "taken and without meaning: the log goes to standard error",
    ),
    truth("alsologtostderr", "false", "taken and without meaning"),
];
