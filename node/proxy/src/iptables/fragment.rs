use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::names::{Chain, endpoint_chain};
use super::rules::{chance, comment, from_elsewhere, from_pods, host, recent, reject, to_port, to_port_from};
use super::{Chains, Rules};
use crate::model::{Endpoint, IpFamily, Model, Service, ServicePort};
use crate::plan::Usable;
use crate::table::{TableConfig, of_family};

/// What one Service contributes: chains of its own, and rules of the shared ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Own chains of the table `nat`.
    pub nat: Chains,
    /// Rules of shared chains of `nat`, by chain.
    pub nat_shared: BTreeMap<&'static str, Rules>,
    /// Rules of shared chains of `filter`, by chain.
    pub filter_shared: BTreeMap<&'static str, Rules>,
}

impl Fragment {
    /// What a Service contributes in one family.
    pub fn of(model: &Model, name: &str, family: IpFamily, config: &TableConfig) -> Self {
        let mut fragment = Self::default();
        let Some((entry, service)) = model
            .get(name)
            .and_then(|entry| Some((entry, entry.service.as_ref()?)))
        else {
            return fragment;
        };
        if !service.cluster_ips.iter().any(|ip| family.has(*ip)) {
            return fragment;
        }
        for port in &service.ports {
            let label = match &*port.name {
                "" => name.to_owned(),
                port => format!("{name}:{port}"),
            };
            let usable = Usable::of(model, entry, port, family);
            let writer = Writer {
                config,
                family,
                service,
                port,
                label,
                usable,
            };
            writer.write(&mut fragment);
        }
        if service.external_local && service.health_check_port != 0 {
            let text = format!("{name} health check node port");
            let rule = format!(
                "-p tcp {} -m tcp --dport {} -j ACCEPT",
                comment(&text),
                service.health_check_port
            );
            shared(&mut fragment.filter_shared, "KUBE-NODEPORTS", rule);
        }
        fragment
    }

    /// Whether it contributes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn shared(chains: &mut BTreeMap<&'static str, Rules>, chain: &'static str, rule: String) {
    chains.entry(chain).or_default().push(rule);
}

/// Writes one port of a Service.
struct Writer<'a> {
    config: &'a TableConfig,
    family: IpFamily,
    service: &'a Service,
    port: &'a ServicePort,
    /// `namespace/name:port`.
    label: String,
    usable: Usable,
}

/// Why packets are not let through.
struct Refusal {
    why: String,
    target: &'static str,
}

impl Writer<'_> {
    fn write(&self, to: &mut Fragment) {
        let (internal, external) = self.refusals();
        for ip in self.of_family(&self.service.cluster_ips) {
            match &internal {
                Some(refusal) => self.refuse(to, "KUBE-SERVICES", Some(ip), refusal),
                None => self.enter(to, Some(ip), "cluster IP", self.internal_chain()),
            }
        }
        let outside = [
            (&self.service.external_ips, "external IP", Chain::External),
            (
                &self.service.balancer_ips,
                "loadbalancer IP",
                self.balancer_chain(),
            ),
        ];
        for (addresses, what, chain) in outside {
            for ip in self.of_family(addresses) {
                self.enter_from_outside(to, Some(ip), what, chain, external.as_ref());
            }
        }
        if self.port.node_port != 0 {
            self.enter_from_outside(to, None, "", Chain::External, external.as_ref());
        }
        self.firewall(to);
        self.own_chains(to);
    }

    fn chain(&self, chain: Chain) -> String {
        chain.name(&self.label, self.port.protocol)
    }

    fn of_family(&self, addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
        addresses.iter().copied().filter(|ip| self.family.has(*ip))
    }

    fn internal_chain(&self) -> String {
        self.chain(if self.service.internal_local {
            Chain::Local
        } else {
            Chain::Cluster
        })
    }

    /// Why clients inside, and why those outside, reach nobody.
    fn refusals(&self) -> (Option<Refusal>, Option<Refusal>) {
        let none = self.usable.all.is_empty();
        let refusal = |local: bool| {
            let (what, target) = match (none, local && self.usable.local.is_empty()) {
                (true, _) => ("no endpoints", reject(self.family)),
                (false, true) => ("no local endpoints", "DROP"),
                (false, false) => return None,
            };
            Some(Refusal {
                why: format!("{} has {what}", self.label),
                target,
            })
        };
        (
            refusal(self.service.internal_local),
            refusal(self.service.external_local),
        )
    }

    fn refuse(&self, to: &mut Fragment, chain: &'static str, ip: Option<IpAddr>, refusal: &Refusal) {
        let (protocol, port) = (self.port.protocol, self.port.port);
        let rule = match ip {
            Some(_) => to_port(ip, protocol, port, &refusal.why),
            None => format!(
                "-p {protocol} {} -m addrtype --dst-type LOCAL -m {protocol} --dport {}",
                comment(&refusal.why),
                self.port.node_port
            ),
        };
        shared(
            &mut to.filter_shared,
            chain,
            format!("{rule} -j {}", refusal.target),
        );
    }

    /// The rule by which packets to an address, or to the node's port, enter the Service's chains.
    fn enter(&self, to: &mut Fragment, ip: Option<IpAddr>, what: &str, chain: String) {
        let (list, port, text) = match ip {
            Some(_) => ("KUBE-SERVICES", self.port.port, format!("{} {what}", self.label)),
            None => ("KUBE-NODEPORTS", self.port.node_port, self.label.clone()),
        };
        let rule = to_port(ip, self.port.protocol, port, &text);
        shared(&mut to.nat_shared, list, format!("{rule} -j {chain}"));
    }

    /// Clients inside are sent to all endpoints even where those outside get none.
    fn enter_from_outside(
        &self,
        to: &mut Fragment,
        ip: Option<IpAddr>,
        what: &str,
        chain: Chain,
        refusal: Option<&Refusal>,
    ) {
        if let Some(refusal) = refusal {
            self.refuse(to, "KUBE-EXTERNAL-SERVICES", ip, refusal);
        }
        if !self.usable.all.is_empty() {
            self.enter(to, ip, what, self.chain(chain));
        }
    }

    /// The source ranges of this family; `None` if they do not concern it.
    fn sources(&self) -> Option<Vec<&IpNet>> {
        let sources: Vec<&IpNet> = of_family(self.service.sources.as_deref()?, self.family).collect();
        (!sources.is_empty()).then_some(sources)
    }

    fn balancer_chain(&self) -> Chain {
        match self.sources() {
            Some(_) => Chain::Firewall,
            None => Chain::External,
        }
    }

    /// Only the source ranges may use the load balancer's addresses.
    fn firewall(&self, to: &mut Fragment) {
        let Some(sources) = self.sources() else { return };
        let addresses: Vec<IpAddr> = self.of_family(&self.service.balancer_ips).collect();
        if addresses.is_empty() || self.usable.all.is_empty() {
            return;
        }
        let (chain, external) = (self.chain(Chain::Firewall), self.chain(Chain::External));
        for ip in addresses {
            let text = format!("{} traffic not accepted by {chain}", self.label);
            let rule = to_port(Some(ip), self.port.protocol, self.port.port, &text);
            shared(
                &mut to.filter_shared,
                "KUBE-PROXY-FIREWALL",
                format!("{rule} -j DROP"),
            );
        }
        let text = comment(&format!("{} loadbalancer IP", self.label));
        let mut rules: Rules = sources
            .iter()
            .map(|net| format!("-s {net} {text} -j {external}"))
            .collect();
        rules.push(comment(&format!(
            "other traffic to {} will be dropped by KUBE-PROXY-FIREWALL",
            self.label
        )));
        to.nat.insert(chain, rules);
    }

    fn own_chains(&self, to: &mut Fragment) {
        if self.usable.all.is_empty() {
            return;
        }
        let is_external = self.port.node_port != 0
            || !self.service.external_ips.is_empty()
            || !self.service.balancer_ips.is_empty();
        let (internal, external) = (self.service.internal_local, self.service.external_local);
        if is_external {
            to.nat.insert(self.chain(Chain::External), self.external_rules());
        }
        // Clients inside use the endpoints of the whole cluster even where those outside may not.
        if !internal || is_external {
            self.spread(to, Chain::Cluster, &self.usable.all);
        }
        if (internal || (external && is_external)) && !self.usable.local.is_empty() {
            self.spread(to, Chain::Local, &self.usable.local);
        }
    }

    fn external_rules(&self) -> Rules {
        let cluster = self.chain(Chain::Cluster);
        let label = &self.label;
        if !self.service.external_local {
            let text = comment(&format!("masquerade traffic for {label} external destinations"));
            return vec![format!("{text} -j KUBE-MARK-MASQ"), format!("-j {cluster}")];
        }
        let pods = comment(&format!("pod traffic for {label} external destinations"));
        let from = from_pods(&self.config.locality, self.family);
        let mut rules: Rules = from
            .iter()
            .map(|from| format!("{}{}{pods} -j {cluster}", from.source, from.interface))
            .collect();
        let local = "-m addrtype --src-type LOCAL";
        let text = comment(&format!(
            "masquerade LOCAL traffic for {label} external destinations"
        ));
        rules.push(format!("{text} {local} -j KUBE-MARK-MASQ"));
        let text = comment(&format!("route LOCAL traffic for {label} external destinations"));
        rules.push(format!("{text} {local} -j {cluster}"));
        if !self.usable.local.is_empty() {
            rules.push(format!("-j {}", self.chain(Chain::Local)));
        }
        rules
    }

    /// The chain that spreads over endpoints, and theirs.
    fn spread(&self, to: &mut Fragment, chain: Chain, endpoints: &[Endpoint]) {
        let mut rules = Rules::new();
        let is_internal = (chain == Chain::Local) == self.service.internal_local;
        if is_internal {
            rules.extend(self.masquerade_rules());
        }
        let named: Vec<(String, String)> = endpoints.iter().map(|endpoint| self.named(endpoint)).collect();
        if let Some(seconds) = self.service.affinity {
            let known = named.iter().map(|(endpoint, chain)| {
                let test = recent(
                    self.family,
                    &format!("--rcheck --seconds {seconds} --reap"),
                    chain,
                );
                format!("{} {test} -j {chain}", self.leads_to(endpoint))
            });
            rules.extend(known);
        }
        for (at, (endpoint, chain)) in named.iter().enumerate() {
            let left = named.len() - at;
            let chance = if left > 1 {
                format!("{} ", chance(left))
            } else {
                String::new()
            };
            rules.push(format!("{} {chance}-j {chain}", self.leads_to(endpoint)));
        }
        to.nat.insert(self.chain(chain), rules);
        for (endpoint, (address, chain)) in endpoints.iter().zip(named) {
            let rules = self.endpoint_rules(endpoint, &address, &chain);
            to.nat.insert(chain, rules);
        }
    }

    fn leads_to(&self, endpoint: &str) -> String {
        comment(&format!("{} -> {endpoint}", self.label))
    }

    /// An endpoint's address with its port, and its chain.
    fn named(&self, endpoint: &Endpoint) -> (String, String) {
        let address = SocketAddr::new(endpoint.ip, endpoint.port).to_string();
        let chain = endpoint_chain(&self.label, self.port.protocol, &address);
        (address, chain)
    }

    /// What comes to a cluster address from outside the pod network gets the node's address as source.
    fn masquerade_rules(&self) -> Rules {
        let from = if self.config.masquerade_all {
            Some(super::rules::From::default())
        } else {
            from_elsewhere(&self.config.locality, self.family)
        };
        let Some(from) = from else { return Rules::new() };
        let text = format!("{} cluster IP", self.label);
        self.of_family(&self.service.cluster_ips)
            .map(|ip| {
                let rule = to_port_from(&from, Some(ip), self.port.protocol, self.port.port, &text);
                format!("{rule} -j KUBE-MARK-MASQ")
            })
            .collect()
    }

    fn endpoint_rules(&self, endpoint: &Endpoint, address: &str, chain: &str) -> Rules {
        let (label, protocol) = (comment(&self.label), self.port.protocol);
        let remember = self
            .service
            .affinity
            .map(|_| format!(" {}", recent(self.family, "--set", chain)))
            .unwrap_or_default();
        vec![
            format!("-s {} {label} -j KUBE-MARK-MASQ", host(endpoint.ip)),
            format!("-p {protocol} {label}{remember} -m {protocol} -j DNAT --to-destination {address}"),
        ]
    }
}
