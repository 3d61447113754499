//! Pods of one node talk over a bridge, past the rules for what is forwarded, unless the bridge asks them
//! (br_netfilter).

use knode_netlink::sysctl;

const SWITCHES: [&str; 2] = [
    "bridge/bridge-nf-call-iptables",
    "bridge/bridge-nf-call-ip6tables",
];

/// Is there where the kernel can show bridged packets to the rules.
const DIRECTORY: &str = "/proc/sys/net/bridge";

/// Makes bridges of this network namespace ask the rules; says in the log where they cannot.
pub(super) fn ask_the_rules() {
    if !std::path::Path::new(DIRECTORY).exists() {
        tracing::error!(
            "the kernel has no br_netfilter (not built in, module not loaded): network policies are not enforced \
             between pods of this node that share a bridge"
        );
        return;
    }
    for switch in SWITCHES {
        if let Err(error) = sysctl::set_if_present(switch, "1") {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "network policies are not enforced between pods of this node that share a bridge"
            );
        }
    }
}
