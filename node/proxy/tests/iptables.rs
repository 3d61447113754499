//! The mode iptables: what is written, and what Debian's iptables makes of it.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::fixture::{add, config, service, slice};
use common::hand::Hand;
use common::history::{Random, event};
use common::hosts::{Host, nft, run};
use knode_proxy::ProxyMode;
use knode_proxy::iptables::{
    Chains, Forwarding, Fragment, Saved, Table, Tables, full, is_ours, is_per_service, partial,
};
use knode_proxy::model::{IpFamily, Model, Name, Protocol};

/// What `iptables-restore --noflush` makes of a text; it refuses what the program refuses.
#[derive(Default)]
struct Restored(BTreeMap<String, Chains>);

impl Restored {
    fn new() -> Self {
        let mut tables = Self::default();
        for (table, chains) in [
            ("filter", ["INPUT", "FORWARD", "OUTPUT"]),
            ("nat", ["PREROUTING", "OUTPUT", "POSTROUTING"]),
        ] {
            let chains = chains.map(|chain| (chain.to_owned(), Vec::new()));
            tables.0.insert(table.to_owned(), chains.into());
        }
        tables
    }

    fn restore(&mut self, text: &str) {
        let mut table = String::new();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            if let Some(name) = word.strip_prefix('*') {
                table = name.to_owned();
                continue;
            }
            let chains = self.0.entry(table.clone()).or_default();
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            if let Some(chain) = word.strip_prefix(':') {
                chains.insert(chain.to_owned(), Vec::new());
                continue;
            }
            match word {
                "-A" => chains
                    .get_mut(chain)
                    .unwrap_or_else(|| panic!("no chain for {line}"))
                    .push(rule.to_owned()),
                "-I" => chains
                    .get_mut(chain)
                    .unwrap_or_else(|| panic!("no chain for {line}"))
                    .insert(0, rule.to_owned()),
                "-D" => {
                    let rules = chains
                        .get_mut(chain)
                        .unwrap_or_else(|| panic!("no chain for {line}"));
                    let at = rules.iter().position(|found| found == rule);
                    rules.remove(at.unwrap_or_else(|| panic!("no rule for {line}")));
                }
                "-X" => assert_eq!(
                    chains.remove(chain),
                    Some(Vec::new()),
                    "{line}: not there, or not empty"
                ),
                "COMMIT" => {}
                _ => panic!("{line}"),
            }
        }
        for (table, chains) in &self.0 {
            for (chain, rules) in chains {
                for target in rules
                    .iter()
                    .filter_map(|rule| Some(rule.split_once("-j KUBE-")?.1))
                {
                    let target = format!("KUBE-{target}");
                    assert!(
                        chains.contains_key(&target),
                        "{table} {chain} leads to {target}, which is not there"
                    );
                }
            }
        }
    }

    fn ours(&self, table: &str) -> Chains {
        let chains = self.0.get(table).cloned().unwrap_or_default();
        in_order(chains.into_iter().filter(|(name, _)| is_ours(name)).collect())
    }
}

/// Chains in which the order of the rules is of no meaning are sorted, but for the last rule of one.
fn in_order(mut chains: Chains) -> Chains {
    for (name, rules) in &mut chains {
        let lists = [
            "KUBE-SERVICES",
            "KUBE-EXTERNAL-SERVICES",
            "KUBE-NODEPORTS",
            "KUBE-PROXY-FIREWALL",
        ];
        if lists.contains(&name.as_str()) {
            let is_last = |rule: &String| rule.contains("must be the last rule");
            let last = rules.iter().position(is_last).unwrap_or(rules.len());
            assert!(rules.is_empty() || last + 1 >= rules.len(), "{name}: {rules:#?}");
            rules[..last].sort();
        }
    }
    chains
}

/// Fragments of all Services.
fn fragments(model: &Model, family: IpFamily) -> BTreeMap<Name, Fragment> {
    let of = |name: &Name| (name.clone(), Fragment::of(model, name, family, &config()));
    let all = model.names().map(of);
    all.filter(|(_, fragment)| !fragment.is_empty()).collect()
}

fn tables(model: &Model, family: IpFamily) -> Tables {
    Tables::of(
        &fragments(model, family),
        family,
        &config(),
        Forwarding::default(),
    )
}

fn web() -> Model {
    let mut model = Model::default();
    let mut web = service("10.96.0.10", Protocol::Tcp, 80, 30080);
    web.affinity = Some(10800);
    let pods = slice(Protocol::Tcp, 8080, &["10.244.0.2", "10.244.1.2"]);
    add(&mut model, "a/web", web, pods);
    model
}

#[test]
fn a_service_has_upstreams_chains() {
    let text = full(&tables(&web(), IpFamily::V4), &Saved::default()).concat();
    for line in [
        "-I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
        "-I FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
        "-A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line:?} is not in:\n{text}"
        );
    }
    let rule = |begin: &str, part: &str| {
        let found = text
            .lines()
            .find(|line| line.starts_with(begin) && line.contains(part));
        found
            .unwrap_or_else(|| panic!("no {begin} with {part} in:\n{text}"))
            .to_owned()
    };
    let entry = rule(
        "-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp",
        "--dport 80 -j KUBE-SVC-",
    );
    let chain = entry.rsplit(' ').next().expect("a chain");
    rule(
        &format!("-A {chain} ! -s 10.244.0.0/16 -d 10.96.0.10/32"),
        "-j KUBE-MARK-MASQ",
    );
    rule(
        &format!("-A {chain} "),
        "-m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-",
    );
    rule(
        &format!("-A {chain} "),
        "-m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-",
    );
    rule("-A KUBE-SEP-", "-s 10.244.1.2/32");
    rule("-A KUBE-SEP-", "-m tcp -j DNAT --to-destination 10.244.1.2:8080");
    rule("-A KUBE-NODEPORTS -p tcp", "--dport 30080 -j KUBE-EXT-");
    rule("-A KUBE-EXT-", "-j KUBE-MARK-MASQ");
    rule("-A KUBE-EXT-", &format!("-j {chain}"));
}

#[test]
fn a_changed_endpoint_rewrites_its_services_chains_alone() {
    let mut model = web();
    let pods = slice(Protocol::Tcp, 8080, &["10.244.0.2", "10.244.1.2"]);
    add(
        &mut model,
        "a/other",
        service("10.96.0.11", Protocol::Tcp, 80, 0),
        pods,
    );
    let before: BTreeMap<Name, Fragment> = fragments(&model, IpFamily::V4)
        .into_iter()
        .filter(|(name, _)| &**name == "a/web")
        .collect();
    let pods = slice(Protocol::Tcp, 8080, &["10.244.0.2", "10.244.1.3"]);
    model.set_slice("a/web-1", Some(("a/web", pods)));
    let text = partial(&before, &fragments(&model, IpFamily::V4));
    assert!(text.starts_with("*nat\n") && text.ends_with("COMMIT\n"), "{text}");
    let chains: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(':')).collect();
    assert_eq!(
        chains.len(),
        3,
        "the service, the endpoint that came and the one that went:\n{text}"
    );
    assert!(chains.iter().all(|chain| is_per_service(chain)), "{text}");
    assert_eq!(text.matches("\n-X KUBE-SEP-").count(), 1, "{text}");
}

#[test]
fn partial_texts_lead_to_what_a_full_one_says() {
    for seed in 1..=30 {
        let mut random = Random::new(seed + 500);
        let family = IpFamily::ALL[seed as usize % 2];
        let (mut model, mut restored) = (Model::default(), Restored::new());
        restored.restore(&full(&tables(&model, family), &Saved::default()).concat());
        for step in 0..60 {
            let old = fragments(&model, family);
            let mut dirty: BTreeSet<Name> = event(&mut random, &mut model).into_iter().collect();
            while random.chance(50) {
                dirty.extend(event(&mut random, &mut model));
            }
            let of = |name: &Name| (name.clone(), old.get(name).cloned().unwrap_or_default());
            let before = dirty.iter().map(of).collect();
            restored.restore(&partial(&before, &fragments(&model, family)));
            let wanted = tables(&model, family);
            assert_eq!(
                restored.ours("nat"),
                in_order(wanted.nat),
                "seed {seed} step {step}"
            );
            assert_eq!(
                restored.ours("filter"),
                in_order(wanted.filter),
                "seed {seed} step {step}"
            );
        }
    }
}

#[test]
fn many_services_are_written_in_parts_where_that_is_quicker() {
    let mut model = Model::default();
    for number in 0..400 {
        let ip = format!("10.96.{}.{}", number / 250, 1 + number % 250);
        let mut service = service(&ip, Protocol::Tcp, 80, 30000 + number);
        service.external_local = number % 2 == 0;
        service.balancer_ips = [format!("203.0.{}.{}", number / 250, 1 + number % 250)
            .parse()
            .expect("ip")]
        .into();
        service.sources = Some([common::fixture::cidr("192.0.2.0/24")].into());
        let pods = slice(Protocol::Tcp, 8080, &["10.244.0.2", "10.244.1.2"]);
        add(&mut model, &format!("a/s{number}"), service, pods);
    }
    let wanted = tables(&model, IpFamily::V4);
    assert_eq!(full(&wanted, &Saved::default()).len(), 1);
    let saved = Saved::parse(
        "# Generated by iptables-save v1.8.9 (nf_tables) on some day\n*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n",
    );
    let texts = full(&wanted, &saved);
    assert!(texts.len() > 2, "{} texts", texts.len());
    let mut restored = Restored::new();
    let (last, parts) = texts.split_last().expect("texts");
    for part in parts {
        // Whatever leads to a chain finds it there; this is looked at after each.
        restored.restore(part);
        assert!(
            !part.contains("-A KUBE-SERVICES") && !part.contains("-I "),
            "nothing leads there yet"
        );
    }
    restored.restore(last);
    assert_eq!(restored.ours("nat"), in_order(wanted.nat));
    assert_eq!(restored.ours("filter"), in_order(wanted.filter));
}

const PROGRAMS: [&str; 2] = ["iptables", "ip6tables"];

fn saved(family: IpFamily) -> Saved {
    Saved::parse(&run(&format!("{}-save", PROGRAMS[family as usize]), &[]))
}

fn ours(saved: &Saved, table: Table) -> Chains {
    let chains = saved.table(table).cloned().unwrap_or_default();
    in_order(chains.into_iter().filter(|(name, _)| is_ours(name)).collect())
}

#[test]
fn iptables_save_prints_what_was_planned() {
    let host = Host::new();
    for seed in 1..=3 {
        let mut random = Random::new(seed + 900);
        let mut model = Model::default();
        let mut hand = Hand::new(&host, ProxyMode::Iptables, config());
        hand.take_over(&host, &model);
        for step in 0..20 {
            let mut dirty: BTreeSet<Name> = event(&mut random, &mut model).into_iter().collect();
            while random.chance(70) {
                dirty.extend(event(&mut random, &mut model));
            }
            hand.update(&host, &model, dirty);
            let Hand::Iptables(applier) = &hand else {
                unreachable!("it was made so")
            };
            for family in IpFamily::ALL.into_iter().filter(|family| applier.serves(*family)) {
                let (wanted, found) = (applier.tables(family), host.run(|| saved(family)));
                assert_eq!(
                    ours(&found, Table::Nat),
                    in_order(wanted.nat),
                    "seed {seed} step {step}"
                );
                assert_eq!(
                    ours(&found, Table::Filter),
                    in_order(wanted.filter),
                    "seed {seed} step {step}"
                );
            }
        }
        // The next seed begins with what this one has left.
    }
}

#[test]
fn what_others_flush_is_noticed_and_written_again() {
    let host = Host::new();
    let model = web();
    let mut hand = Hand::new(&host, ProxyMode::Iptables, config());
    hand.take_over(&host, &model);
    let Hand::Iptables(mut applier) = hand else {
        unreachable!("it was made so")
    };
    host.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            assert!(applier.is_intact().await.expect("look"));
            let before = saved(IpFamily::V4);
            run("iptables", &["-t", "nat", "-F"]);
            run("iptables", &["-t", "nat", "-X"]);
            assert!(!applier.is_intact().await.expect("look"));
            applier.verify(&model).await.expect("verify");
            assert!(applier.is_intact().await.expect("look"));
            assert_eq!(saved(IpFamily::V4), before);
            applier.verify(&model).await.expect("verify");
            assert_eq!(saved(IpFamily::V4), before, "nothing is there twice");
        });
    });
}

#[test]
fn cleaning_up_leaves_the_hosts_rules() {
    let host = Host::new();
    host.run(|| {
        for program in PROGRAMS {
            run(program, &["-N", "KUBE-FIREWALL"]);
            run(program, &["-A", "INPUT", "-j", "KUBE-FIREWALL"]);
            run(
                program,
                &["-t", "nat", "-A", "POSTROUTING", "-o", "eth7", "-j", "MASQUERADE"],
            );
        }
    });
    let before = host.run(|| IpFamily::ALL.map(saved));
    let mut model = web();
    let six = service("fd10:96::10", Protocol::Tcp, 80, 0);
    add(
        &mut model,
        "a/six",
        six,
        slice(Protocol::Tcp, 8080, &["fd10:244::2"]),
    );
    Hand::new(&host, ProxyMode::Iptables, config()).take_over(&host, &model);
    assert!(host.run(|| {
        IpFamily::ALL
            .iter()
            .all(|family| !ours(&saved(*family), Table::Nat).is_empty())
    }));
    host.run(|| {
        let errors = knode_proxy::cleanup(&config());
        assert!(errors.is_empty(), "{errors:?}");
        // An empty table may be left where there was none.
        let of = |saved: &Saved| -> Vec<(String, Chains)> {
            let tables = saved
                .tables()
                .filter(|(_, chains)| chains.values().any(|rules| !rules.is_empty()));
            tables
                .map(|(name, chains)| (name.to_owned(), chains.clone()))
                .collect()
        };
        for (before, family) in before.iter().zip(IpFamily::ALL) {
            assert_eq!(of(&saved(family)), of(before));
        }
    });
}

/// Without iptables too: where its chains are kept in nf_tables, netlink is enough.
#[test]
fn what_a_kube_proxy_left_goes_and_nothing_else() {
    let host = Host::new();
    host.run(|| {
        for family in ["ip", "ip6"] {
            for chain in [
                "INPUT { type filter hook input priority 0; }",
                "KUBE-FIREWALL",
                "KUBE-EXTERNAL-SERVICES",
            ] {
                let (name, spec) = chain.split_once(' ').unwrap_or((chain, ""));
                nft(&["add", "table", family, "filter"]);
                nft(&["add", "chain", family, "filter", name, spec]);
            }
            nft(&["add", "rule", family, "filter", "INPUT", "tcp dport 22 accept"]);
            nft(&["add", "rule", family, "filter", "INPUT", "jump KUBE-FIREWALL"]);
            nft(&["add", "table", family, "other"]);
        }
        let without = |listing: String| {
            listing
                .replace("\tchain KUBE-EXTERNAL-SERVICES {\n\t}\n\n", "")
                .replace("\n\n\tchain KUBE-EXTERNAL-SERVICES {\n\t}", "")
        };
        let before = without(nft(&["list", "ruleset"]));
        assert!(!before.contains("EXTERNAL"), "{before}");
        for family in ["ip", "ip6"] {
            nft(&[
                "insert",
                "rule",
                family,
                "filter",
                "INPUT",
                "ct state new counter jump KUBE-EXTERNAL-SERVICES",
            ]);
            for chain in ["KUBE-SVC-ERIFXISQEP7F7OF4", "KUBE-SEP-2TLZC6QOUTI37HEJ"] {
                nft(&["add", "chain", family, "filter", chain]);
                nft(&[
                    "add",
                    "rule",
                    family,
                    "filter",
                    "KUBE-EXTERNAL-SERVICES",
                    "jump",
                    chain,
                ]);
            }
            nft(&["add", "table", family, "kube-proxy"]);
            nft(&["add", "chain", family, "kube-proxy", "services"]);
        }
        let mut applier = knode_proxy::Applier::open(config()).expect("open");
        applier.take_over(&web()).expect("take over");
        let errors = knode_proxy::cleanup(&config());
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(nft(&["list", "ruleset"]), before);
        assert!(
            knode_proxy::cleanup(&config()).is_empty(),
            "a second time is fine"
        );
    });
}
