//! Tables of allocations, and any order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use knode_kubelet_resources::topology::{NumaMask, TopologyHint};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::{Count, Device, GRACE, Options, Table};
use crate::asked::{Asked, Part};
use crate::v1beta1::ContainerAllocateResponse;

const R: &str = "example.com/r";

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn devices(list: &[(&str, bool, &[i64])]) -> BTreeMap<String, Device> {
    let device = |(id, healthy, nodes): &(&str, bool, &[i64])| {
        let nodes = nodes.iter().copied().collect();
        let device = Device {
            healthy: *healthy,
            nodes,
        };
        ((*id).to_owned(), device)
    };
    list.iter().map(device).collect()
}

fn plain(ids: &[&str]) -> BTreeMap<String, Device> {
    ids.iter().flat_map(|id| devices(&[(id, true, &[])])).collect()
}

fn table(all: BTreeMap<String, Device>, preferred: bool) -> Table {
    let mut table = Table::default();
    let options = Options {
        preferred,
        ..Options::default()
    };
    table.connected(R, options);
    table.listed(R, all);
    table
}

fn part(name: &str, is_init: bool, count: usize) -> Part {
    Part {
        name: name.to_owned(),
        is_init,
        requests: [(R.to_owned(), count)].into(),
    }
}

fn asked(uid: &str, parts: &[Part]) -> Asked {
    Asked {
        uid: uid.to_owned(),
        parts: parts.to_vec(),
    }
}

fn ids(table: &Table, uid: &str, container: &str) -> Vec<String> {
    let held = table.of_container(uid, container).and_then(|all| all.get(R));
    held.map(|held| held.devices.keys().cloned().collect())
        .unwrap_or_default()
}

fn reserve(table: &mut Table, asked: &Asked) -> Result<(), String> {
    for part in &asked.parts {
        let reserved = table.reserve(asked, part, None);
        reserved.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn what_cannot_be_given_is_told_in_upstreams_words() {
    let mut table = table(devices(&[("a", true, &[]), ("b", false, &[])]), false);
    let two = asked("p", &[part("c", false, 2)]);
    assert_eq!(
        reserve(&mut table, &two).unwrap_err(),
        "requested number of devices unavailable for example.com/r. Requested: 2, Available: 1"
    );
    let one = asked("p", &[part("c", false, 1)]);
    reserve(&mut table, &one).unwrap();
    assert_eq!(
        reserve(&mut table, &two).unwrap_err(),
        "pod \"p\" container \"c\" changed request for resource \"example.com/r\" from 1 to 2"
    );
    table.listed(R, devices(&[("a", false, &[]), ("b", true, &[])]));
    assert_eq!(
        reserve(&mut table, &one).unwrap_err(),
        "previously allocated devices are no longer healthy; cannot allocate unhealthy devices example.com/r"
    );
    table.disconnected(R, at(0));
    assert_eq!(
        reserve(&mut table, &one).unwrap_err(),
        "no healthy devices present; cannot allocate unhealthy devices example.com/r"
    );
    table.counts(at(0) + GRACE);
    assert_eq!(
        reserve(&mut table, &one).unwrap_err(),
        "cannot allocate unregistered device example.com/r"
    );
}

#[test]
fn a_resource_of_nobody_is_somebody_elses() {
    let mut table = Table::default();
    reserve(&mut table, &asked("p", &[part("c", false, 5)])).unwrap();
    assert!(table.of_container("p", "c").is_none());
}

#[test]
fn init_containers_hand_on_their_devices_and_sidecars_keep_them() {
    let mut table = table(plain(&["a", "b", "c"]), false);
    let mut sidecar = part("s", false, 1);
    sidecar.is_init = false;
    let pod = asked("p", &[part("i", true, 2), sidecar, part("m", false, 2)]);
    reserve(&mut table, &pod).unwrap();
    assert_eq!(ids(&table, "p", "i"), ["a", "b"]);
    assert_eq!(ids(&table, "p", "s"), ["a"]);
    assert_eq!(ids(&table, "p", "m"), ["b", "c"]);
    let other = reserve(&mut table, &asked("q", &[part("c", false, 1)]));
    assert_eq!(
        other.unwrap_err(),
        "requested number of devices unavailable for example.com/r. Requested: 1, Available: 0"
    );
    assert!(table.release("p"));
    reserve(&mut table, &asked("q", &[part("c", false, 3)])).unwrap();
}

#[test]
fn a_plugin_that_is_gone_counts_for_five_minutes_and_is_nought_then() {
    let mut table = table(devices(&[("a", true, &[]), ("b", false, &[])]), false);
    let count = |capacity, allocatable| {
        BTreeMap::from([(
            R.to_owned(),
            Count {
                capacity,
                allocatable,
            },
        )])
    };
    assert_eq!(table.counts(at(1)), count(2, 1));
    table.disconnected(R, at(10));
    assert_eq!(table.counts(at(309)), count(2, 0));
    table.connected(R, Options::default());
    assert_eq!(
        table.counts(at(400)),
        count(2, 0),
        "nothing is healthy until it is listed"
    );
    table.disconnected(R, at(500));
    assert_eq!(table.counts(at(799)), count(2, 0));
    assert_eq!(table.counts(at(800)), count(0, 0));
    assert_eq!(table.counts(at(801)), count(0, 0));
    assert!(!table.knows(R));
}

#[test]
fn what_was_remembered_is_kept_and_the_capacity_is_not() {
    let mut before = table(plain(&["a", "b"]), false);
    reserve(&mut before, &asked("p", &[part("c", false, 1)])).unwrap();
    assert_eq!(before.held(), [], "nobody has answered yet");
    before.answered("p", "c", R, ContainerAllocateResponse::default());
    let mut after = Table::restored([R.to_owned()], before.held(), at(0));
    assert_eq!(after.counts(at(1))[R], Count::default());
    assert_eq!(ids(&after, "p", "c"), ["a"]);
    after.connected(R, Options::default());
    after.listed(R, plain(&["a", "b"]));
    reserve(&mut after, &asked("q", &[part("c", false, 1)])).unwrap();
    assert_eq!(ids(&after, "q", "c"), ["b"]);
    assert!(after.retain(&BTreeSet::from(["q".to_owned()])));
    assert_eq!(ids(&after, "p", "c"), [""; 0]);
}

#[test]
fn the_plugin_may_choose_among_what_is_free_and_near() {
    let all = devices(&[
        ("a", true, &[0]),
        ("b", true, &[0]),
        ("c", true, &[1]),
        ("d", true, &[1]),
        ("e", true, &[1]),
        ("f", true, &[]),
    ]);
    for (size, nodes, available, must, preferred, got) in [
        (
            1,
            None,
            vec!["a", "b", "c", "d", "e", "f"],
            vec![],
            vec!["e"],
            vec!["e"],
        ),
        (
            2,
            Some(1),
            vec!["c", "d", "e"],
            vec![],
            vec!["e", "a"],
            vec!["c", "e"],
        ),
        (
            3,
            Some(0),
            vec!["a", "b", "c", "d", "e", "f"],
            vec!["a", "b"],
            vec!["f"],
            vec!["a", "b", "f"],
        ),
        (
            3,
            Some(0),
            vec!["a", "b", "c", "d", "e", "f"],
            vec!["a", "b"],
            vec![],
            vec!["a", "b", "c"],
        ),
    ] {
        let mut table = table(all.clone(), true);
        let (pod, one) = (asked("p", &[part("c", false, size)]), part("c", false, size));
        table
            .reserve(&pod, &one, nodes.map(|node| NumaMask::of([node])))
            .unwrap();
        let question = table.question(&pod, &one, R).expect("a plugin that is asked");
        let set = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(
            (question.available, question.must_include),
            (set(&available), set(&must))
        );
        table.prefer(&pod, &one, R, &set(&preferred));
        assert_eq!(ids(&table, "p", "c"), got, "{size} near {nodes:?}");
    }
    // Exactly what is near needs no question.
    let mut table = table(all, true);
    let (pod, one) = (asked("p", &[part("c", false, 2)]), part("c", false, 2));
    table.reserve(&pod, &one, Some(NumaMask::of([0]))).unwrap();
    assert_eq!(table.question(&pod, &one, R), None);
    assert_eq!(ids(&table, "p", "c"), ["a", "b"]);
}

#[test]
fn hints_are_the_sets_of_nodes_that_have_enough() {
    let all = devices(&[("a", true, &[0]), ("b", true, &[1]), ("c", true, &[1])]);
    let mut table = table(all, false);
    let hints = |table: &Table, size| {
        let pod = asked("p", &[part("c", false, size)]);
        let hints = table.container_hints(&pod, &pod.parts[0], &[0, 1]);
        assert_eq!(hints, table.pod_hints(&pod, &[0, 1]), "one container is the pod");
        hints[R].clone().expect("devices with topology")
    };
    let hint = |nodes: &[u32], preferred| TopologyHint::new(NumaMask::of(nodes.iter().copied()), preferred);
    assert_eq!(
        hints(&table, 1),
        [hint(&[0], true), hint(&[1], true), hint(&[0, 1], false)]
    );
    assert_eq!(hints(&table, 2), [hint(&[1], true), hint(&[0, 1], false)]);
    assert_eq!(hints(&table, 3), [hint(&[0, 1], true)]);
    assert_eq!(hints(&table, 4), []);
    // What is used cannot be had, and yet says what would be preferred.
    let other = asked("q", &[part("c", false, 1)]);
    table
        .reserve(&other, &other.parts[0], Some(NumaMask::of([1])))
        .unwrap();
    assert_eq!(hints(&table, 2), [hint(&[0, 1], false)]);
}

/// Random events, after each of which nothing may be wrong.
#[test]
fn no_device_is_given_twice_whatever_happens() {
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut table = Table::default();
        let mut seconds = 0;
        for _ in 0..120 {
            seconds += random.random_range(0..60);
            step(&mut table, &mut random, at(seconds));
            check(&table, seed);
        }
        // Whatever happened, once everything is given back all that is healthy can be had.
        for pod in 0..4 {
            table.release(&format!("p{pod}"));
        }
        table.connected(R, Options::default());
        table.listed(R, plain(&["d0", "d1", "d2"]));
        reserve(&mut table, &asked("last", &[part("c", false, 3)])).unwrap();
    }
}

fn step(table: &mut Table, random: &mut StdRng, now: Duration) {
    let pod = pod(random.random_range(0..4));
    let part = &pod.parts[random.random_range(0..pod.parts.len())];
    match random.random_range(0..9) {
        0 => table.connected(
            R,
            Options {
                preferred: true,
                pre_start: false,
            },
        ),
        1 => table.disconnected(R, now),
        2 | 3 => {
            // One in eight is not there, and one in eight of the others is not healthy.
            let (there, healthy) = (random.next_u32(), random.next_u32());
            let one = |bits: u32, number: i64| (bits >> (3 * number)) & 7 != 0;
            let all = (0..8).filter(|number| one(there, *number)).map(|number| {
                let device = Device {
                    healthy: one(healthy, number),
                    nodes: [number % 2].into(),
                };
                (format!("d{number}"), device)
            });
            table.listed(R, all.collect());
        }
        4 => drop(table.release(&pod.uid)),
        5 => drop(table.counts(now)),
        6 => {
            let liked = (0..8).map(|number| format!("d{number}"));
            let liked = liked.filter(|_| random.next_u32().is_multiple_of(2)).collect();
            table.prefer(&pod, part, R, &liked);
        }
        _ => {
            let affinity = [None, Some(NumaMask::of([1]))][random.random_range(0..2)];
            for part in &pod.parts {
                if table.reserve(&pod, part, affinity).is_err() {
                    table.release(&pod.uid);
                    break;
                }
                table.answered(&pod.uid, &part.name, R, ContainerAllocateResponse::default());
            }
        }
    }
}

fn pod(number: usize) -> Asked {
    let parts = [
        part("i", true, number % 3 + 1),
        part("a", false, 1),
        part("b", false, number % 2 + 1),
    ];
    asked(&format!("p{number}"), &parts)
}

/// Nobody has what another has, but the containers that come after an init container of the same pod; everybody has as
/// much as was asked for.
fn check(table: &Table, seed: u64) {
    let mut owners: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
    for number in 0..4 {
        let pod = pod(number);
        for part in &pod.parts {
            let held = ids(table, &pod.uid, &part.name);
            assert!(
                held.is_empty() || held.len() == part.requests[R],
                "seed {seed}: {} has {held:?}",
                part.name
            );
            for id in held {
                owners.entry(id).or_default().push((number, part.name.clone()));
            }
        }
    }
    for (id, owners) in owners {
        let pods: BTreeSet<usize> = owners.iter().map(|(pod, _)| *pod).collect();
        assert_eq!(pods.len(), 1, "seed {seed}: {id} belongs to {owners:?}");
        let lasting = owners.iter().filter(|(_, name)| name != "i").count();
        assert!(lasting <= 1, "seed {seed}: {id} belongs to {owners:?}");
    }
}
