//! Leases in etcd v3, against Debian's etcd in a namespace. Needs root, etcd-server and etcd-client.

#![allow(clippy::unwrap_used)]

#[path = "etcd/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use knode_netlink::{MacAddr, Netns};
use knode_overlay::{
    BackendData, Etcd, EtcdConfig, EtcdLeases, LeaseAttributes, LeaseStore, Leases, NetConf, Prefix,
    StoreError, list_leases, read_config,
};
use server::Cluster;

const PREFIX: &str = "/kubernetes/network";
const CONFIG: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

/// Runs a test's future on a thread in the cluster's namespace.
fn inside<T: Send>(cluster: &Cluster, test: impl Future<Output = T> + Send) -> T {
    roomy(&cluster.netns, || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(test)
    })
}

/// Runs in the namespace, with more room on the stack than its own threads have.
fn roomy<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> T {
    let run = || std::thread::scope(|scope| scope.spawn(work).join());
    match netns.run(run).unwrap() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn config(cluster: &Cluster, conf: &str) -> EtcdConfig {
    let file = cluster.directory().join("no-subnet.env");
    EtcdConfig::new(Prefix::new(PREFIX), NetConf::parse(conf).unwrap(), file)
}

fn attributes(n: u8) -> LeaseAttributes {
    let backend = BackendData::Vxlan {
        vni: 1,
        mac: MacAddr([2, 0, 0, 0, 0, n]),
    };
    LeaseAttributes::ipv4(Ipv4Addr::new(192, 0, 2, n), backend)
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}

async fn leases(store: &EtcdLeases, what: &str, ready: impl Fn(&Leases) -> bool) -> Leases {
    let mut leases = store.leases();
    let found = soon(what, leases.wait_for(|l| l.as_ref().is_some_and(|l| ready(l)))).await;
    found.unwrap().as_deref().unwrap().clone()
}

/// Acquires as the overlay does: again after failures.
async fn persist(store: &EtcdLeases, n: u8) -> knode_overlay::Lease {
    loop {
        match store.acquire(&attributes(n)).await {
            Ok(lease) => return lease,
            Err(error) => {
                eprintln!("node {n}: {}", knode_client::brief(&error));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Asks again, for a minute, after failures that pass: with much to do the members elect another leader now and then.
async fn again<T, E, F>(passes: impl Fn(&E) -> bool, mut ask: impl FnMut() -> F) -> Result<T, E>
where
    E: std::error::Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match ask().await {
            Err(error) if passes(&error) && tokio::time::Instant::now() < end => {
                eprintln!("{}", knode_client::brief(&error));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            outcome => return outcome,
        }
    }
}

#[test]
fn a_lease_is_upstreams_key_over_tls() {
    let cluster = Cluster::start(3, true);
    cluster.ctl(&["put", "/kubernetes/network/config", CONFIG]);
    let reserved = r#"{"PublicIP":"192.0.2.9","PublicIPv6":null,"BackendType":"host-gw"}"#;
    cluster.ctl(&["put", "/kubernetes/network/subnets/172.30.9.0-24", reserved]);
    let (etcd, prefix) = (cluster.client(), Prefix::new(PREFIX));
    let plain = Etcd::new(knode_overlay::Access {
        tls: knode_overlay::Tls::default(),
        ..cluster.access()
    });
    inside(&cluster, async {
        assert_eq!(
            read_config(&etcd, &prefix).await.unwrap().as_deref(),
            Some(CONFIG)
        );
        let stranger = read_config(&plain.unwrap(), &prefix).await;
        assert!(stranger.is_err(), "without certificates: {stranger:?}");
        let store = EtcdLeases::start(etcd.clone(), config(&cluster, CONFIG));
        let lease = soon("the lease", store.acquire(&attributes(1))).await.unwrap();
        let key = lease.subnet.to_string().replace('/', "-");
        let value = cluster.ctl(&["get", "--print-value-only", &format!("{PREFIX}/subnets/{key}")]);
        assert_eq!(
            value.trim_end(),
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}}"#
        );
        let seen = leases(&store, "both", |l| l.own.is_some() && l.peers.len() == 1).await;
        assert_eq!(seen.own, Some(lease.clone()));
        let listed = list_leases(&etcd, &prefix).await.unwrap();
        let own = listed.iter().find(|l| l.key.ipv4 == lease.subnet).unwrap();
        let left = own.seconds_left.unwrap();
        assert!((86_390..=86_400).contains(&left), "{left}");
        let reserved = listed.iter().find(|l| l.key.ipv4 != lease.subnet).unwrap();
        assert_eq!(reserved.seconds_left, None);

        let again = EtcdLeases::start(etcd.clone(), config(&cluster, CONFIG));
        let previous = again.previous(Ipv4Addr::new(192, 0, 2, 1)).await.unwrap();
        assert_eq!(previous.mac, Some(MacAddr([2, 0, 0, 0, 0, 1])));
        assert_eq!(again.acquire(&attributes(1)).await.unwrap().subnet, lease.subnet);
        let ninth = EtcdLeases::start(etcd.clone(), config(&cluster, CONFIG));
        let reserved = ninth.acquire(&attributes(9)).await.unwrap();
        assert_eq!(reserved.subnet.to_string(), "172.30.9.0/24");
        let listed = list_leases(&etcd, &prefix).await.unwrap();
        let kept = listed.iter().find(|l| l.key.ipv4 == reserved.subnet).unwrap();
        assert_eq!(kept.seconds_left, None, "a reservation stays one");
    });
}

#[test]
fn two_nodes_never_get_the_last_subnet_both() {
    let rounds = 1000;
    let cluster = Cluster::start(3, true);
    let one = r#"{"Network":"172.30.0.0/16","SubnetMin":"172.30.7.0","SubnetMax":"172.30.7.0"}"#;
    let clients = [cluster.client(), cluster.client()];
    inside(&cluster, async {
        let [a, b] = clients.map(|etcd| {
            let mut config = config(&cluster, one);
            // What is lost by its owner's end comes free by itself.
            config.time_to_live = Duration::from_secs(600);
            EtcdLeases::start(etcd, config)
        });
        let (free, key) = (cluster.client(), format!("{PREFIX}/subnets/172.30.7.0-24"));
        let mut won = [0, 0];
        for round in 0..rounds {
            let (left, right) = (attributes(1), attributes(2));
            let passes = |error: &StoreError| matches!(error, StoreError::Etcd { .. });
            let (left, right) = (
                again(passes, || a.acquire(&left)),
                again(passes, || b.acquire(&right)),
            );
            let (left, right) = tokio::join!(left, right);
            let lost = |r: &Result<_, _>| matches!(r, Err(StoreError::Exhausted { leases: 1, .. }));
            match (&left, &right) {
                (Ok(lease), other) if lost(other) => {
                    assert_eq!(lease.subnet.to_string(), "172.30.7.0/24");
                    won[0] += 1;
                }
                (other, Ok(_)) if lost(other) => won[1] += 1,
                both => panic!("round {round}: {both:?}"),
            }
            again(|_| true, || free.delete(&key)).await.unwrap();
        }
        eprintln!("won: {won:?}");
        assert_eq!(won[0] + won[1], rounds);
    });
}

#[test]
fn leases_are_taken_while_the_leader_dies() {
    let mut cluster = Cluster::start(3, true);
    let clients: Vec<_> = (1..=20).map(|_| cluster.client()).collect();
    let configs: Vec<_> = clients.iter().map(|_| config(&cluster, CONFIG)).collect();
    let leader = cluster.leader();
    let (begun, begin) = std::sync::mpsc::channel();
    let netns = cluster.netns.clone();
    let nodes = std::thread::spawn(move || {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let taken = clients
                    .into_iter()
                    .zip(configs)
                    .zip(1..)
                    .map(|((etcd, config), n)| {
                        let begun = begun.clone();
                        async move {
                            let store = EtcdLeases::start(etcd, config);
                            let lease = persist(&store, n).await;
                            // Nobody listens after the first.
                            let _ = begun.send(());
                            let second = persist(&store, n).await;
                            assert_eq!(lease, second, "node {n}");
                            lease.subnet
                        }
                    });
                soon("twenty leases", futures::future::join_all(taken)).await
            })
        };
        roomy(&netns, work)
    });
    begin.recv_timeout(Duration::from_secs(20)).unwrap();
    cluster.kill(leader);
    let subnets: BTreeSet<_> = nodes.join().unwrap().into_iter().collect();
    assert_eq!(subnets.len(), 20, "{subnets:?}");
    let keys = cluster.ctl(&["get", "--prefix", "--keys-only", &format!("{PREFIX}/subnets/")]);
    let keys = keys.lines().filter(|l| !l.is_empty()).count();
    assert_eq!(keys, 20, "each node has one key");
}

#[test]
fn what_is_lost_is_told_and_taken_again() {
    let cluster = Cluster::start(1, false);
    let etcd = cluster.client();
    inside(&cluster, async {
        let store = EtcdLeases::start(etcd, config(&cluster, CONFIG));
        let lease = soon("the lease", store.acquire(&attributes(1))).await.unwrap();
        leases(&store, "the lease", |l| l.own.is_some()).await;
        let grants = cluster.ctl(&["lease", "list"]);
        let grant = grants.lines().last().unwrap();
        cluster.ctl(&["lease", "revoke", grant]);
        leases(&store, "the loss", |l| l.own.is_none()).await;
        let again = soon("the lease", store.acquire(&attributes(1))).await.unwrap();
        assert_eq!(again, lease);

        let key = format!("{PREFIX}/subnets/{}", lease.subnet.to_string().replace('/', "-"));
        let thief = r#"{"PublicIP":"192.0.2.66","PublicIPv6":null,"BackendType":"host-gw"}"#;
        cluster.ctl(&["put", &key, thief]);
        let seen = leases(&store, "the theft", |l| l.own.is_none()).await;
        assert!(seen.peers.contains_key(&lease.subnet));
        let other = soon("another", store.acquire(&attributes(1))).await.unwrap();
        assert_ne!(other.subnet, lease.subnet, "what is another's is left to it");
    });
}

#[test]
fn a_lease_is_renewed_before_its_end() {
    let cluster = Cluster::start(1, false);
    let etcd = cluster.client();
    inside(&cluster, async {
        let mut config = config(&cluster, CONFIG);
        config.time_to_live = Duration::from_secs(3);
        config.renew_margin = Duration::from_secs(2);
        let store = EtcdLeases::start(etcd.clone(), config);
        let lease = soon("the lease", store.acquire(&attributes(1))).await.unwrap();
        let mut seen = store.leases();
        let end = tokio::time::Instant::now() + Duration::from_secs(8);
        while let Ok(changed) = tokio::time::timeout_at(end, seen.changed()).await {
            changed.unwrap();
            let now = seen.borrow_and_update().clone().unwrap();
            assert_eq!(now.own.as_ref(), Some(&lease), "it never was away");
        }
        let listed = list_leases(&etcd, &Prefix::new(PREFIX)).await.unwrap();
        assert_eq!(listed.len(), 1);
        let grants = cluster.ctl(&["lease", "list"]);
        let grants = grants.lines().filter(|l| !l.starts_with("found")).count();
        assert!(grants <= 2, "old grants go: {grants}");
    });
}

#[test]
fn leases_stand_while_etcd_is_away_and_compaction_and_new_certificates_are_caught_up_with() {
    let mut cluster = Cluster::start(1, true);
    let etcd = cluster.client();
    // Its worker stays in the namespace in which it began.
    let build = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let runtime = roomy(&cluster.netns, build);
    let put = |cluster: &Cluster, n: u8| {
        let value = format!(r#"{{"PublicIP":"192.0.2.{n}","PublicIPv6":null,"BackendType":"host-gw"}}"#);
        cluster.ctl(&["put", &format!("{PREFIX}/subnets/172.30.{n}.0-24"), &value]);
    };
    put(&cluster, 5);
    let store = {
        let _inside = runtime.enter();
        EtcdLeases::start(etcd, config(&cluster, CONFIG))
    };
    runtime.block_on(leases(&store, "the first", |l| l.peers.len() == 1));
    for round in 0..3_u8 {
        cluster.kill(0);
        cluster.certificates();
        assert_eq!(
            store.leases().borrow().as_ref().unwrap().peers.len(),
            1 + usize::from(round)
        );
        cluster.run(0);
        cluster.settle();
        put(&cluster, 6 + round);
        put(&cluster, 66);
        cluster.ctl(&["del", &format!("{PREFIX}/subnets/172.30.66.0-24")]);
        put(&cluster, 5);
        let status = cluster.ctl(&["endpoint", "status", "--write-out", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let revision = status[0]["Status"]["header"]["revision"].to_string();
        cluster.ctl(&["compact", &revision]);
        let want = 2 + usize::from(round);
        runtime.block_on(leases(&store, "what came meanwhile", |l| {
            l.peers.len() == want && !l.peers.contains_key(&"172.30.66.0/24".parse().unwrap())
        }));
    }
    drop(store);
    runtime.shutdown_background();
}

#[test]
fn user_and_password() {
    let cluster = Cluster::start(1, false);
    for args in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "flannel:passw0rd"],
        &["role", "add", "network"],
        &[
            "role",
            "grant-permission",
            "network",
            "readwrite",
            "--prefix=true",
            PREFIX,
        ],
        &["user", "grant-role", "flannel", "network"],
        &["auth", "enable"],
    ] {
        cluster.ctl(args);
    }
    let (right, wrong) = (
        cluster.client_as("flannel", "passw0rd"),
        cluster.client_as("flannel", "no"),
    );
    let nobody = cluster.client();
    inside(&cluster, async {
        let prefix = Prefix::new(PREFIX);
        for other in [wrong, nobody] {
            let refused = read_config(&other, &prefix).await.unwrap_err();
            assert!(!refused.to_string().contains("passw0rd"), "{refused}");
        }
        let store = EtcdLeases::start(right.clone(), config(&cluster, CONFIG));
        let lease = soon("the lease", store.acquire(&attributes(1))).await.unwrap();
        let seen = leases(&store, "the lease", |l| l.own.is_some()).await;
        assert_eq!(seen.own, Some(lease));
        right.put(&prefix.config(), CONFIG).await.unwrap();
        let elsewhere = right.put("/elsewhere", "x").await.unwrap_err();
        assert!(elsewhere.to_string().contains("permission denied"), "{elsewhere}");
    });
}

const DUAL: &str =
    r#"{"Network":"172.30.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}"#;

fn dual_attributes(n: u8) -> LeaseAttributes {
    LeaseAttributes {
        public_ipv6: Some(format!("2001:db8::{n}").parse().unwrap()),
        backend_v6: Some(BackendData::Vxlan {
            vni: 1,
            mac: MacAddr([2, 0, 0, 0, 0, 0x60 + n]),
        }),
        ..attributes(n)
    }
}

#[test]
fn a_lease_of_both_families_is_upstreams_key_and_value() {
    let cluster = Cluster::start(1, false);
    let etcd = cluster.client();
    inside(&cluster, async {
        let store = EtcdLeases::start(etcd.clone(), config(&cluster, DUAL));
        let lease = soon("the lease", store.acquire(&dual_attributes(1)))
            .await
            .unwrap();
        let ipv6 = lease.ipv6_subnet.unwrap();
        let name = format!("{}&{ipv6}", lease.subnet).replace('/', "-");
        let value = cluster.ctl(&["get", "--print-value-only", &format!("{PREFIX}/subnets/{name}")]);
        assert_eq!(
            value.trim_end(),
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:00:61"}}"#
        );
        let again = EtcdLeases::start(etcd.clone(), config(&cluster, DUAL));
        let previous = again.previous(Ipv4Addr::new(192, 0, 2, 1)).await.unwrap();
        assert_eq!(previous.mac_v6, Some(MacAddr([2, 0, 0, 0, 0, 0x61])));
        assert_eq!(
            soon("the lease", again.acquire(&dual_attributes(1)))
                .await
                .unwrap(),
            lease
        );

        // The network loses IPv6: the old lease no longer fits and is given up.
        let single = EtcdLeases::start(etcd.clone(), config(&cluster, CONFIG));
        let now = soon("the lease", single.acquire(&attributes(1))).await.unwrap();
        assert_eq!(now.ipv6_subnet, None);
        let keys = cluster.ctl(&["get", "--prefix", "--keys-only", PREFIX]);
        let keys: Vec<_> = keys.lines().filter(|l| !l.is_empty()).collect();
        assert_eq!(keys.len(), 1, "{keys:?}");
        assert!(!keys[0].contains('&'), "{keys:?}");
    });
}

#[test]
fn two_nodes_never_get_the_last_ipv6_subnet_both() {
    let rounds = 100;
    let cluster = Cluster::start(1, false);
    // Of IPv4 there are many, so that the nodes' keys are different ones.
    let one = r#"{"Network":"172.30.0.0/16","EnableIPv6":true,
        "IPv6Network":"fd00::/48","IPv6SubnetMin":"fd00:0:0:7::","IPv6SubnetMax":"fd00:0:0:7::"}"#;
    let clients = [cluster.client(), cluster.client(), cluster.client()];
    inside(&cluster, async {
        let [a, b, free] = clients;
        let [a, b] = [a, b].map(|etcd| EtcdLeases::start(etcd, config(&cluster, one)));
        for round in 0..rounds {
            let (left, right) = (dual_attributes(1), dual_attributes(2));
            let (left, right) = tokio::join!(a.acquire(&left), b.acquire(&right));
            let lost = |r: &Result<_, _>| matches!(r, Err(StoreError::Exhausted { .. }));
            let one_won = (left.is_ok() && lost(&right)) || (lost(&left) && right.is_ok());
            assert!(one_won, "round {round}: {left:?} {right:?}");
            let lease = left.or(right).unwrap();
            assert_eq!(lease.ipv6_subnet.unwrap().to_string(), "fd00:0:0:7::/64");
            let ipv4 = lease.subnet.to_string().replace('/', "-");
            let key = format!("{PREFIX}/subnets/{ipv4}&fd00:0:0:7::-64");
            free.delete(&key).await.unwrap();
        }
    });
}

#[test]
fn what_expires_is_forgotten_and_free_again() {
    let cluster = Cluster::start(1, false);
    let clients = [cluster.client(), cluster.client()];
    let one = r#"{"Network":"172.30.0.0/16","SubnetMin":"172.30.7.0","SubnetMax":"172.30.7.0"}"#;
    inside(&cluster, async {
        let [short, long] = clients;
        let mut brief = config(&cluster, one);
        brief.time_to_live = Duration::from_secs(2);
        brief.renew_margin = Duration::from_millis(500);
        let gone = EtcdLeases::start(short, brief);
        let lease = soon("the lease", gone.acquire(&attributes(1))).await.unwrap();
        let other = EtcdLeases::start(long, config(&cluster, one));
        leases(&other, "the peer", |l| l.peers.contains_key(&lease.subnet)).await;
        let full = other.acquire(&attributes(2)).await;
        assert!(matches!(full, Err(StoreError::Exhausted { .. })), "{full:?}");
        // Its process ends without a word.
        drop(gone);
        leases(&other, "the end of the peer", |l| l.peers.is_empty()).await;
        let freed = soon("the lease", other.acquire(&attributes(2))).await.unwrap();
        assert_eq!(freed.subnet, lease.subnet);
    });
}
