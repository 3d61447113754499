//! Either mode behind one face, so that the same packets can be sent through both.

use std::collections::BTreeSet;

use knode_proxy::iptables::Forwarding;
use knode_proxy::model::{Model, Name};
use knode_proxy::table::TableConfig;
use knode_proxy::{Applier, IptablesApplier, ProxyMode};

use super::hosts::Host;

/// What writes the rules of a host.
pub enum Hand {
    Nftables(Box<Applier>),
    Iptables(Box<IptablesApplier>),
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(work)
}

impl Hand {
    pub fn new(host: &Host, mode: ProxyMode, config: TableConfig) -> Self {
        host.run(|| match mode {
            ProxyMode::Nftables => Self::Nftables(Box::new(Applier::open(config).expect("open"))),
            ProxyMode::Iptables => {
                let applier = IptablesApplier::open(config, Forwarding::default());
                Self::Iptables(Box::new(
                    applier.expect("iptables is installed (Debian: iptables)"),
                ))
            }
        })
    }

    pub fn take_over(&mut self, host: &Host, model: &Model) {
        host.run(|| match self {
            Self::Nftables(applier) => applier.take_over(model).map(drop).expect("take over"),
            Self::Iptables(applier) => wait(applier.take_over(model)).map(drop).expect("take over"),
        });
    }

    pub fn update(&mut self, host: &Host, model: &Model, dirty: BTreeSet<Name>) {
        host.run(|| match self {
            Self::Nftables(applier) => applier.update(model, dirty).map(drop).expect("update"),
            Self::Iptables(applier) => wait(applier.update(model, dirty)).map(drop).expect("update"),
        });
    }
}
