//! Pods of one node talk over a bridge, past the rules for what is forwarded, unless the bridge asks them
//! (br_netfilter).

use std::path::Path;

use knode_netlink::{Error, sysctl};

const SWITCHES: [&str; 2] = [
    "bridge/bridge-nf-call-iptables",
    "bridge/bridge-nf-call-ip6tables",
];

/// Is there where the kernel can show bridged packets to the rules.
const DIRECTORY: &str = "/proc/sys/net/bridge";

/// Keeps the bridges of this network namespace asking the rules.
#[derive(Debug, Default)]
pub(super) struct Bridges {
    /// That it cannot be done is told once.
    has_complained: bool,
}

impl Bridges {
    /// Switches on what someone may have switched off; says in the log where it cannot.
    pub fn ask_the_rules(&mut self) {
        let done = if Path::new(DIRECTORY).exists() {
            SWITCHES
                .into_iter()
                .try_for_each(|switch| sysctl::set_if_present(switch, "1"))
        } else {
            self.complain(None);
            return;
        };
        match done {
            Ok(()) => self.has_complained = false,
            Err(error) => self.complain(Some(&error)),
        }
    }

    fn complain(&mut self, error: Option<&Error>) {
        if std::mem::replace(&mut self.has_complained, true) {
            return;
        }
        const MEANS: &str = "network policies are not enforced between pods of this node that share a bridge";
        match error {
            Some(error) => tracing::error!(error = error as &dyn std::error::Error, "{MEANS}"),
            None => {
                tracing::error!("the kernel has no br_netfilter (not built in, module not loaded): {MEANS}")
            }
        }
    }
}
