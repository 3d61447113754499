//! Hosts whose leases are in etcd, real packets between their pods while the store misbehaves. Needs root and
//! Debian's etcd.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "etcd/server.rs"]
mod server;

use std::sync::Arc;
use std::time::Duration;

use common::{Fabric, Host, Pod, ask, eventually, serve_tcp};
use knode_overlay::{EtcdConfig, EtcdLeases, LeaseStore, NetConf, Prefix, Subnet};
use server::Cluster;

const PREFIX: &str = "/coreos.com/network";
const LONG: Duration = Duration::from_secs(20);

fn store(host: &Host, cluster: &Cluster) -> Arc<dyn LeaseStore> {
    let conf = NetConf::vxlan("172.30.0.0/16".parse().unwrap());
    let config = EtcdConfig::new(Prefix::new(PREFIX), conf, host.subnet_file());
    let client = cluster.client();
    host.enter(|| Arc::new(EtcdLeases::start(client, config)))
}

fn start(host: &mut Host, cluster: &Cluster) -> Subnet {
    let store = store(host, cluster);
    host.start_ready(NetConf::vxlan("172.30.0.0/16".parse().unwrap()), store)
}

fn key(subnet: Subnet) -> String {
    format!("{PREFIX}/subnets/{}", subnet.ipv4.to_string().replace('/', "-"))
}

fn reach(from: &Pod, to: &Pod) {
    let server = serve_tcp(&to.netns, 80, 1);
    let answer = ask(&from.netns, (to.ip, 80), 100_000);
    assert_eq!(answer, format!("{} 100000", from.ip));
    server.join().unwrap();
}

/// Waits for a lease in etcd.
fn leased(cluster: &Cluster, subnet: Subnet) {
    let there = || {
        let value = cluster.ctl(&["get", "--print-value-only", &key(subnet)]);
        value.contains("VtepMAC").then_some(())
    };
    eventually("the lease", LONG, there, || {
        cluster.ctl(&["get", "--prefix", PREFIX])
    });
}

fn routed(host: &Host, subnet: Subnet) {
    let want = subnet.ipv4.to_string();
    let there = || host.destinations("flannel.1").contains(&want).then_some(());
    eventually("the route", LONG, there, || {
        format!("{:?}", host.destinations("flannel.1"))
    });
}

#[test]
fn pods_talk_on_while_leases_are_lost_and_etcd_is_away() {
    let fabric = Fabric::new();
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let mut cluster = Cluster::start_at(a.netns.clone(), "192.0.2.1");
    let subnets = [start(&mut a, &cluster), start(&mut b, &cluster)];
    routed(&a, subnets[1]);
    routed(&b, subnets[0]);
    let (here, there) = (a.pod(subnets[0], 2), b.pod(subnets[1], 2));
    reach(&here, &there);

    let state = b.state();
    cluster.ctl(&["del", &key(subnets[1])]);
    leased(&cluster, subnets[1]);
    routed(&a, subnets[1]);
    assert_eq!(b.state(), state, "the node kept what it had");
    reach(&here, &there);
    reach(&there, &here);

    cluster.kill(0);
    let before = (a.state(), b.state());
    reach(&here, &there);
    b.links.execute(knode_netlink::delete_link("flannel.1")).unwrap();
    routed(&b, subnets[0]);
    reach(&there, &here);
    assert_eq!(
        (a.state(), b.state()),
        before,
        "nobody is forgotten while the store is away"
    );

    cluster.run(0);
    cluster.settle();
    cluster.ctl(&["del", "--prefix", &format!("{PREFIX}/subnets/")]);
    for subnet in subnets {
        leased(&cluster, subnet);
    }
    routed(&a, subnets[1]);
    routed(&b, subnets[0]);
    reach(&here, &there);
}

#[test]
fn a_restarted_daemon_keeps_subnet_and_station_and_a_rebooted_one_too() {
    let fabric = Fabric::new();
    let mut a = Host::new(&fabric, 1);
    let cluster = Cluster::start_at(a.netns.clone(), "192.0.2.1");
    let subnet = start(&mut a, &cluster);
    let value = cluster.ctl(&["get", "--print-value-only", &key(subnet)]);
    a.kill();
    assert_eq!(start(&mut a, &cluster), subnet);
    assert_eq!(cluster.ctl(&["get", "--print-value-only", &key(subnet)]), value);
    a.kill();
    a.links.execute(knode_netlink::delete_link("flannel.1")).unwrap();
    std::fs::remove_file(a.subnet_file()).unwrap();
    assert_eq!(start(&mut a, &cluster), subnet, "known by its address");
    assert_eq!(cluster.ctl(&["get", "--print-value-only", &key(subnet)]), value);
    a.kill();
    cluster.ctl(&["del", &key(subnet)]);
    assert_eq!(start(&mut a, &cluster), subnet, "known by the subnet file");
}

#[test]
fn a_node_with_a_new_address_keeps_its_subnet() {
    let fabric = Fabric::new();
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let cluster = Cluster::start_at(a.netns.clone(), "192.0.2.1");
    let subnets = [start(&mut a, &cluster), start(&mut b, &cluster)];
    routed(&a, subnets[1]);
    let (here, there) = (a.pod(subnets[0], 2), b.pod(subnets[1], 2));
    b.readdress("192.0.2.2/24", "192.0.2.52/24");
    let there_now = || {
        let value = cluster.ctl(&["get", "--print-value-only", &key(subnets[1])]);
        value.contains(r#""PublicIP":"192.0.2.52""#).then_some(())
    };
    eventually("the new address", LONG, there_now, || {
        cluster.ctl(&["get", "--prefix", PREFIX])
    });
    let keys = cluster.ctl(&["get", "--prefix", "--keys-only", PREFIX]);
    assert_eq!(keys.lines().filter(|l| !l.is_empty()).count(), 2, "{keys}");
    let remote = || {
        let index = a.links.link("flannel.1").unwrap().unwrap().index;
        let fdb = a.links.fdb(index).unwrap();
        fdb.iter()
            .any(|e| e.remote == Some("192.0.2.52".parse().unwrap()))
            .then_some(())
    };
    eventually("the way there", LONG, remote, || format!("{:?}", a.state()));
    routed(&b, subnets[0]);
    reach(&here, &there);
}

#[test]
fn a_thousand_peers_are_programmed_and_forgotten() {
    let fabric = Fabric::new();
    let mut a = Host::new(&fabric, 1);
    let cluster = Cluster::start_at(a.netns.clone(), "192.0.2.1");
    let etcd = cluster.client();
    let peers: Vec<(u8, u8)> = (0..1000_u16)
        .map(|n| ((n / 250) as u8, (n % 250) as u8))
        .collect();
    let write = async {
        for (high, low) in &peers {
            let key = format!("{PREFIX}/subnets/10.{high}.{low}.0-24");
            let value = format!(
                r#"{{"PublicIP":"198.18.{high}.{low}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:{high:02x}:{low:02x}"}}}}"#
            );
            etcd.put(&key, &value).await.unwrap();
        }
    };
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(write);
    };
    a.netns
        .run(|| std::thread::scope(|scope| scope.spawn(run).join().unwrap()))
        .unwrap();

    let conf = NetConf::vxlan("10.0.0.0/8".parse().unwrap());
    let config = EtcdConfig::new(Prefix::new(PREFIX), conf.clone(), a.subnet_file());
    let client = cluster.client();
    let store: Arc<dyn LeaseStore> = a.enter(|| Arc::new(EtcdLeases::start(client, config)));
    let begun = std::time::Instant::now();
    a.start_ready(conf, store);
    let count = || a.destinations("flannel.1").len();
    eventually(
        "a thousand routes",
        LONG,
        || (count() == 1000).then_some(()),
        || count().to_string(),
    );
    eprintln!("a thousand peers after {:?}", begun.elapsed());
    let index = a.links.link("flannel.1").unwrap().unwrap().index;
    let stations = a
        .links
        .fdb(index)
        .unwrap()
        .iter()
        .filter(|e| e.remote.is_some())
        .count();
    let neighbours = a
        .links
        .neighbours(index)
        .unwrap()
        .iter()
        .filter(|n| n.permanent)
        .count();
    assert_eq!((stations, neighbours >= 1000), (1000, true), "{neighbours}");
    cluster.ctl(&["del", "--prefix", &format!("{PREFIX}/subnets/10.")]);
    eventually(
        "none left",
        LONG,
        || (count() == 0).then_some(()),
        || count().to_string(),
    );
}

#[test]
fn a_node_cut_off_from_etcd_catches_up() {
    let fabric = Fabric::new();
    let (mut a, mut b) = (Host::new(&fabric, 1), Host::new(&fabric, 2));
    let cluster = Cluster::start_at(a.netns.clone(), "192.0.2.1");
    let subnets = [start(&mut a, &cluster), start(&mut b, &cluster)];
    routed(&a, subnets[1]);
    routed(&b, subnets[0]);
    let (here, there) = (a.pod(subnets[0], 2), b.pod(subnets[1], 2));
    reach(&here, &there);

    fabric.plug(2, false);
    let state = b.state();
    let mut c = Host::new(&fabric, 3);
    let third = start(&mut c, &cluster);
    routed(&a, third);
    let pod = c.pod(third, 2);
    reach(&here, &pod);
    assert_eq!(b.state(), state, "who is cut off keeps what it knows");

    fabric.plug(2, true);
    routed(&b, third);
    reach(&here, &there);
    reach(&there, &pod);
    reach(&pod, &there);
}

#[test]
fn a_subnet_that_became_anothers_is_given_up() {
    let fabric = Fabric::new();
    let mut a = Host::new(&fabric, 1);
    let cluster = Cluster::start_at(a.netns.clone(), "192.0.2.1");
    let before = start(&mut a, &cluster);
    let thief = r#"{"PublicIP":"192.0.2.66","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:66"}}"#;
    cluster.ctl(&["put", &key(before), thief]);
    routed(&a, before);
    let file = || {
        a.subnet_env()
            .map(|file| file.subnet)
            .filter(|now| *now != before.ipv4)
    };
    let now = eventually("another subnet", LONG, file, || format!("{:?}", a.state()));
    let address = format!("{}/32", now.network());
    let state = a.state();
    assert!(
        state.contains(&address),
        "the device has the new one's address: {state:?}"
    );
    let old = format!("{}/32", before.ipv4.network());
    assert!(!state.contains(&old), "and not the old one's: {state:?}");
    leased(&cluster, Subnet { ipv4: now, ..before });
}
