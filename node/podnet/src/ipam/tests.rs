use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
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

    fn lease(&self, ip: Ipv4Addr) -> PathBuf {
        self.0.join("leases").join(ip.to_string())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 65, last)
}

const SUBNET: &str = "172.30.65.0/24";

#[test]
fn first_address_is_the_bridges_and_the_next_the_first_pods() {
    let dir = Dir::new();
    assert_eq!(gateway(net(SUBNET)).unwrap(), ip(1));
    assert_eq!(dir.open().acquire(net(SUBNET), "a").unwrap(), ip(2));
}

#[test]
fn addresses_go_round_before_one_is_used_again() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    assert_eq!(ipam.acquire(net(SUBNET), "a").unwrap(), ip(2));
    ipam.release("a").unwrap();
    assert_eq!(ipam.acquire(net(SUBNET), "b").unwrap(), ip(3));
    drop(ipam);
    assert_eq!(
        dir.open().acquire(net(SUBNET), "c").unwrap(),
        ip(4),
        "the round goes on after a restart"
    );
}

#[test]
fn a_full_subnet_says_so_and_recovers() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    let small = net("10.0.0.0/29");
    let given: BTreeSet<_> = (0..5)
        .map(|n| ipam.acquire(small, &format!("s{n}")).unwrap())
        .collect();
    assert_eq!(given.len(), 5);
    let error = ipam.acquire(small, "more").unwrap_err();
    assert_eq!(error.to_string(), "no free address in 10.0.0.0/29: 5 are taken");
    let freed = ipam.release("s3").unwrap();
    assert_eq!(ipam.acquire(small, "more").unwrap(), freed[0]);
}

#[test]
fn subnets_without_room_are_refused() {
    for text in ["10.0.0.0/31", "10.0.0.0/32"] {
        assert!(
            matches!(gateway(net(text)), Err(Error::SubnetTooSmall(_))),
            "{text}"
        );
    }
    let dir = Dir::new();
    assert_eq!(
        dir.open().acquire(net("10.0.0.0/30"), "a").unwrap(),
        Ipv4Addr::new(10, 0, 0, 2)
    );
}

#[test]
fn a_sandbox_keeps_its_address() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    let first = ipam.acquire(net(SUBNET), "a").unwrap();
    assert_eq!(ipam.acquire(net(SUBNET), "a").unwrap(), first);
    drop(ipam);
    assert_eq!(dir.open().acquire(net(SUBNET), "a").unwrap(), first);
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
    assert_eq!(ipam.acquire(net(SUBNET), "a").unwrap(), ip(2));
    assert!(dir.0.join("leases/README").exists());
}

#[test]
fn an_address_that_somebody_took_behind_our_back_is_not_given() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    fs::write(dir.lease(ip(2)), "stranger\n").unwrap();
    assert_eq!(ipam.acquire(net(SUBNET), "a").unwrap(), ip(3));
    ipam.release("a").unwrap();
    assert_eq!(fs::read_to_string(dir.lease(ip(2))).unwrap(), "stranger\n");
}

#[test]
fn ids_that_would_break_the_file_are_refused() {
    let dir = Dir::new();
    let mut ipam = dir.open();
    for id in ["", "a\nb"] {
        assert!(
            matches!(ipam.acquire(net(SUBNET), id), Err(Error::SandboxId(_))),
            "{id:?}"
        );
    }
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

/// Any sequence of acquiring, releasing, collecting, crashing and crash leftovers: an address has one owner at a
/// time, files and memory agree, nothing leaks.
#[test]
fn never_twice_whatever_happens() {
    for seed in 1..=6 {
        let dir = Dir::new();
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let subnet = net("10.1.0.0/28");
        let mut model: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
        let mut ipam = dir.open();
        for step in 0..100 {
            let id = format!("s{}", random.below(16));
            let context = format!("seed {seed} step {step} id {id} model {model:?}");
            match random.below(10) {
                0..=4 => match ipam.acquire(subnet, &id) {
                    Ok(ip) => {
                        let holder = model
                            .iter()
                            .find(|(_, held)| **held == ip)
                            .map(|(owner, _)| owner);
                        assert!(holder.is_none_or(|owner| *owner == id), "{ip} twice: {context}");
                        assert!(
                            model.insert(id, ip).is_none_or(|before| before == ip),
                            "{context}"
                        );
                    }
                    Err(Error::Exhausted { .. }) => assert_eq!(model.len(), 13, "{context}"),
                    Err(error) => panic!("{error}: {context}"),
                },
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
                    let torn = Ipv4Addr::from(u32::from(subnet.network()) + 2 + random.below(13) as u32);
                    if !model.values().any(|ip| *ip == torn) {
                        fs::write(dir.0.join("leases").join(torn.to_string()), "cut-sh").unwrap();
                    }
                    ipam = dir.open();
                }
            }
        }
        let owners: BTreeMap<String, Ipv4Addr> =
            ipam.owners().map(|(ip, owner)| (owner.to_owned(), ip)).collect();
        assert_eq!(owners, model, "seed {seed}");
        assert_eq!(
            fs::read_dir(dir.0.join("leases")).unwrap().count(),
            model.len(),
            "seed {seed}"
        );
    }
}
