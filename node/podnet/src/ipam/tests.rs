use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "knode-ipam-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }

    fn open(&self) -> Ipam {
        Ipam::open(&self.0).unwrap()
    }

    fn lease(&self, ip: IpAddr) -> PathBuf {
        self.0.join("leases").join(ip.to_string())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A subnet of one family.
fn single(text: &str) -> Subnet {
    subnet(&[text])
}

fn subnet(networks: &[&str]) -> Subnet {
    let mut subnet = Subnet {
        ipv4: None,
        ipv6: None,
        mtu: 1450,
    };
    for text in networks {
        match net(text) {
            IpNet::V4(net) => subnet.ipv4 = Some(net),
            IpNet::V6(net) => subnet.ipv6 = Some(net),
        }
    }
    subnet
}

fn dual() -> Subnet {
    subnet(&[SUBNET, SUBNET6])
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(172, 30, 65, last).into()
}

fn ip6(last: u16) -> IpAddr {
    std::net::Ipv6Addr::new(0xfd00, 0, 0, 0x65, 0, 0, 0, last).into()
}

impl Ipam {
    /// The one address of a sandbox in a network of one family.
    fn one(&mut self, network: &str, sandbox: &str) -> Result<IpAddr> {
        Ok(self.acquire(single(network), sandbox, &[])?[0])
    }
}

const SUBNET: &str = "172.30.65.0/24";
const SUBNET6: &str = "fd00:0:0:65::/64";

#[test]
fn first_address_is_the_bridges_and_the_next_the_first_pods() {
    let dir = Dir::new();
    assert_eq!(gateway(net(SUBNET)).unwrap(), ip(1));
    assert_eq!(dir.open().one(SUBNET, "a").unwrap(), ip(2));
}

#[test]
fn addresses_go_round_before_one_is_used_again() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    assert_eq!(ipam.one(SUBNET, "a").unwrap(), ip(2));
    ipam.release("a").unwrap();
    assert_eq!(ipam.one(SUBNET, "b").unwrap(), ip(3));
    drop(ipam);
    assert_eq!(
        dir.open().one(SUBNET, "c").unwrap(),
        ip(4),
        "the round goes on after a restart"
    );
}

#[test]
fn a_full_subnet_says_so_and_recovers() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    let small = "10.0.0.0/29";
    let given: BTreeSet<_> = (0..5)
        .map(|n| ipam.one(small, &format!("s{n}")).unwrap())
        .collect();
    assert_eq!(given.len(), 5);
    let error = ipam.one(small, "more").unwrap_err();
    assert_eq!(error.to_string(), "no free address in 10.0.0.0/29: 5 are taken");
    let freed = ipam.release("s3").unwrap();
    assert_eq!(ipam.one(small, "more").unwrap(), freed[0]);
}

#[test]
fn subnets_without_room_are_refused() {
    for text in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "fd00::/128"] {
        assert!(
            matches!(gateway(net(text)), Err(Error::SubnetTooSmall(_))),
            "{text}"
        );
    }
    let dir = Dir::new();
    assert_eq!(
        dir.open().one("10.0.0.0/30", "a").unwrap(),
        IpAddr::from([10, 0, 0, 2])
    );
}

#[test]
fn a_sandbox_keeps_its_address() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    let first = ipam.one(SUBNET, "a").unwrap();
    assert_eq!(ipam.one(SUBNET, "a").unwrap(), first);
    drop(ipam);
    assert_eq!(dir.open().one(SUBNET, "a").unwrap(), first);
}

#[test]
fn one_process_at_a_time() {
    let dir = Dir::new();
    let _first = dir.open();
    assert!(matches!(Ipam::open(&dir.0), Err(Error::Locked(_))));
}

#[test]
fn what_a_crash_cut_short_is_removed_and_strange_files_are_let_be() {
    let dir = Dir::new();
    drop(dir.open());
    fs::write(dir.lease(ip(2)), "").unwrap();
    fs::write(dir.lease(ip(3)), "half-an-i").unwrap();
    fs::write(dir.lease(ip(4)), "whole\n").unwrap();
    fs::write(dir.0.join("leases/README"), "hello").unwrap();
    let mut ipam = dir.open();
    assert_eq!(ipam.owners().collect::<Vec<_>>(), [(ip(4), "whole")]);
    assert_eq!(ipam.one(SUBNET, "a").unwrap(), ip(2));
    assert!(dir.0.join("leases/README").exists());
}

#[test]
fn an_address_that_somebody_took_behind_our_back_is_not_given() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    fs::write(dir.lease(ip(2)), "stranger\n").unwrap();
    assert_eq!(ipam.one(SUBNET, "a").unwrap(), ip(3));
    ipam.release("a").unwrap();
    assert_eq!(fs::read_to_string(dir.lease(ip(2))).unwrap(), "stranger\n");
}

#[test]
fn ids_that_would_break_the_file_are_refused() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    for id in ["", "a\nb"] {
        assert!(matches!(ipam.one(SUBNET, id), Err(Error::SandboxId(_))), "{id:?}");
    }
}

#[test]
fn both_families_have_the_same_place_when_they_can() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    assert_eq!(ipam.acquire(dual(), "a", &[]).unwrap(), [ip(2), ip6(2)]);
    assert_eq!(ipam.acquire(dual(), "b", &[]).unwrap(), [ip(3), ip6(3)]);
    assert_eq!(ipam.acquire(dual(), "c", &[ip6(4)]).unwrap(), [ip(4), ip6(4)]);
    assert_eq!(
        ipam.acquire(dual(), "d", &[ip6(5), ip(7)]).unwrap(),
        [ip(7), ip6(5)]
    );
    ipam.release("b").unwrap();
    assert_eq!(ipam.acquire(dual(), "e", &[ip(5)]).unwrap(), [ip(5), ip6(3)]);
    drop(ipam);
    let ipam = dir.open();
    assert_eq!(ipam.addresses("d"), [ip(7), ip6(5)], "read back");
}

#[test]
fn a_second_family_comes_to_those_who_have_one() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    assert_eq!(ipam.one(SUBNET, "a").unwrap(), ip(2));
    assert_eq!(ipam.acquire(dual(), "a", &[]).unwrap(), [ip(2), ip6(2)]);
    assert_eq!(
        ipam.one(SUBNET6, "b").unwrap(),
        ip6(3),
        "without the first family"
    );
}

#[test]
fn a_family_without_room_leaves_nothing_of_the_other() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    let narrow = subnet(&[SUBNET, "fd00::/126"]);
    ipam.acquire(narrow, "a", &[]).unwrap();
    ipam.acquire(narrow, "b", &[]).unwrap();
    let error = ipam.acquire(narrow, "c", &[]).unwrap_err();
    assert_eq!(error.to_string(), "no free address in fd00::/126: 2 are taken");
    assert!(ipam.addresses("c").is_empty());
    assert_eq!(fs::read_dir(dir.0.join("leases")).unwrap().count(), 4);
}

#[test]
fn addresses_that_are_asked_for_are_given_or_refused() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    assert_eq!(ipam.acquire(dual(), "a", &[ip(9)]).unwrap()[0], ip(9));
    let taken = ipam.acquire(dual(), "b", &[ip(9)]).unwrap_err();
    assert_eq!(taken.to_string(), "172.30.65.9 is taken by a");
    for no in [ip(0), ip(1), ip(255), "10.0.0.1".parse().unwrap(), ip6(1)] {
        let refused = ipam.acquire(dual(), "b", &[no]);
        assert!(
            matches!(refused, Err(Error::AddressOutside(ip)) if ip == no),
            "{no}: {refused:?}"
        );
    }
    assert_eq!(
        ipam.acquire(dual(), "a", &[ip(10)]).unwrap()[0],
        ip(10),
        "it moves"
    );
    assert_eq!(ipam.acquire(dual(), "b", &[ip(9)]).unwrap()[0], ip(9));
}

/// Small deterministic generator, so that a failure can be told by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What each sandbox is known to have.
type Model = BTreeMap<String, Vec<IpAddr>>;

fn must_be_alone(model: &Model, id: &str, ips: &[IpAddr], context: &str) {
    for (other, held) in model.iter().filter(|(other, _)| *other != id) {
        let twice = held.iter().find(|ip| ips.contains(ip));
        assert!(twice.is_none(), "{twice:?} of {other} twice: {context}");
    }
}

/// What a crash may leave: half a lease of an address that nobody has.
fn tear(dir: &Dir, random: &mut Random, model: &Model) {
    let place = 2 + random.below(13) as u8;
    let torn = [IpAddr::from([10, 1, 0, place]), ip6(place.into())];
    let torn = torn[random.below(2) as usize];
    if !model.values().flatten().any(|ip| *ip == torn) {
        fs::write(dir.lease(torn), "cut-sh").unwrap();
    }
}

/// Any sequence of acquiring (also by wish), releasing, collecting, crashing and crash leftovers, in both families: an
/// address has one owner at a time, files and memory agree, nothing leaks.
#[test]
fn never_twice_whatever_happens() {
    for seed in 1..=6 {
        let dir = Dir::new();
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let subnet = subnet(&["10.1.0.0/28", SUBNET6]);
        let mut model = Model::new();
        let mut ipam = dir.open();
        for step in 0..100 {
            let id = format!("s{}", random.below(16));
            let context = format!("seed {seed} step {step} id {id} model {model:?}");
            match random.below(10) {
                0..=4 => {
                    let wish = ip6(2 + random.below(20) as u16);
                    let wanted: &[IpAddr] = if random.below(4) == 0 { &[wish] } else { &[] };
                    match ipam.acquire(subnet, &id, wanted) {
                        Ok(ips) => {
                            assert_eq!(ips.len(), 2, "{context}");
                            must_be_alone(&model, &id, &ips, &context);
                            let before = model.insert(id, ips.clone());
                            let kept = before.is_none_or(|b| b == ips || !wanted.is_empty());
                            assert!(kept, "{context}");
                        }
                        Err(Error::Exhausted { .. }) => assert_eq!(model.len(), 13, "{context}"),
                        Err(Error::AddressTaken { ip, holder }) => {
                            assert!(model[&holder].contains(&ip), "{context}");
                            let before = model.get(&id).cloned().unwrap_or_default();
                            assert_eq!(ipam.addresses(&id), before, "{context}");
                        }
                        Err(error) => panic!("{error}: {context}"),
                    }
                }
                5..=6 => {
                    ipam.release(&id).unwrap();
                    model.remove(&id);
                }
                7 => {
                    let live: HashSet<String> =
                        model.keys().filter(|_| random.below(4) > 0).cloned().collect();
                    ipam.retain(&live).unwrap();
                    model.retain(|owner, _| live.contains(owner));
                }
                8 => {
                    drop(ipam);
                    ipam = dir.open();
                }
                _ => {
                    drop(ipam);
                    tear(&dir, &mut random, &model);
                    ipam = dir.open();
                }
            }
        }
        let mut owners = Model::new();
        for (ip, owner) in ipam.owners() {
            owners.entry(owner.to_owned()).or_default().push(ip);
        }
        assert_eq!(owners, model, "seed {seed}");
        let files = fs::read_dir(dir.0.join("leases")).unwrap().count();
        assert_eq!(files, model.values().flatten().count(), "seed {seed}");
    }
}

/// Where the process that is to be killed keeps its leases.
const VICTIM: &str = "KNODE_IPAM_VICTIM";

/// Not a test of its own: takes and gives back addresses until it is killed, and tells what it has done.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(VICTIM) else {
        return;
    };
    let mut ipam = Ipam::open(directory.as_ref()).unwrap();
    let mut out = std::io::stdout();
    for step in 0.. {
        let id = format!("p{}", step % 5);
        if step % 3 == 2 {
            writeln!(out, "freeing {id}").unwrap();
            ipam.release(&id).unwrap();
        } else {
            let ips = ipam.acquire(dual(), &id, &[]).unwrap();
            writeln!(out, "has {id} {} {}", ips[0], ips[1]).unwrap();
        }
        out.flush().unwrap();
    }
}

/// A process is killed in the middle of its work, again and again: what it said it had, it has.
#[test]
fn what_a_killed_process_had_is_kept() {
    let dir = Dir::new();
    let mut model = Model::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ipam::tests::victim", "--nocapture"])
            .env(VICTIM, &dir.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut unsure: HashSet<String> = HashSet::new();
        for line in lines.by_ref().take(20 + 7 * round) {
            follow(&line.unwrap(), &mut model, &mut unsure);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.for_each(|line| follow(&line.unwrap(), &mut model, &mut unsure));
        let ipam = dir.open();
        for (id, ips) in &model {
            let has = ipam.addresses(id);
            assert!(
                has == *ips || unsure.contains(id),
                "round {round}: {id} had {ips:?}, has {has:?}"
            );
        }
        // What it was about to do is done or not.
        model = Model::new();
        for (ip, owner) in ipam.owners() {
            model.entry(owner.to_owned()).or_default().push(ip);
        }
        assert!(model.len() <= 5, "round {round}: {model:?}");
    }
}

/// Follows what the victim tells. Its last word may be a half.
fn follow(line: &str, model: &mut Model, unsure: &mut HashSet<String>) {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["freeing", id] => {
            model.remove(id);
            unsure.insert(id.to_owned());
        }
        ["has", id, v4, v6] => {
            let ips = vec![v4.parse().unwrap(), v6.parse().unwrap()];
            unsure.remove(id);
            model.insert(id.to_owned(), ips);
        }
        _ => {}
    }
}
