//! wrk and long-lived connections through Services while endpoints roll, Services come and go by the hundred, and the
//! proxy is killed: nothing that isn't concerned notices.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use knode_e2e::BOUND;
use knode_e2e::proxy::{ECHO_PORT, HTTP_PORT, Kept, Pod, ProxySite, User, Wrk, at, reached};
use knode_testkit::{Host, Process, wait_until};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Changes a second, how many in all, and how many are under way at once.
const RATE: u32 = 100;
const CHANGES: u32 = 1500;
const LANES: u32 = 5;
/// After so many changes of a lane the proxy is killed.
const KILL: u32 = 75;
/// After so many changes of the first lane the Services under load have other endpoints.
const ROLL: u32 = 10;

const WEB: &str = "10.254.0.10";

fn service(name: &str, ip: Option<&str>, node_ports: [u16; 2]) -> Value {
    let port = |(name, port, node_port): (&str, u16, u16)| {
        if node_port == 0 {
            return json!({"name": name, "port": port});
        }
        json!({"name": name, "port": port, "nodePort": node_port})
    };
    let ports = [("http", 80, node_ports[0]), ("echo", ECHO_PORT, node_ports[1])].map(port);
    let kind = if node_ports[0] == 0 {
        "ClusterIP"
    } else {
        "NodePort"
    };
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": kind, "clusterIP": ip, "ports": ports}})
}

fn endpoints(ips: &[IpAddr]) -> Value {
    ips.iter().map(|ip| json!({"addresses": [ip]})).collect()
}

fn slice(owner: &str, ips: &[IpAddr]) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{owner}-1"), "labels": {"kubernetes.io/service-name": owner}},
        "endpoints": endpoints(ips),
        "ports": [{"name": "http", "port": HTTP_PORT}, {"name": "echo", "port": ECHO_PORT}]})
}

/// What the changes have made.
#[derive(Debug, Default)]
struct Made {
    /// Names and addresses of the Services that are there in the end.
    there: BTreeMap<String, String>,
    /// Addresses of those that are not.
    gone: BTreeSet<String>,
}

/// The API of the changes, and what they are made of.
#[derive(Clone)]
struct Changes {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    pods: Vec<IpAddr>,
    /// Counts the changes of the first lane.
    progress: Arc<watch::Sender<u32>>,
}

impl Changes {
    /// Makes all of them at their rate.
    async fn make(self) -> Made {
        let began = Instant::now();
        let lanes = (0..LANES).map(|lane| tokio::spawn(self.clone().lane(lane)));
        let mut all = Made::default();
        for lane in futures::future::join_all(lanes).await {
            let lane = lane.unwrap();
            all.there.extend(lane.there);
            all.gone.extend(lane.gone);
        }
        let rate = f64::from(CHANGES) / began.elapsed().as_secs_f64();
        println!("{CHANGES} changes, {rate:.0} a second");
        // An address may have been given anew.
        let there: BTreeSet<&String> = all.there.values().collect();
        all.gone.retain(|ip| !there.contains(ip));
        all
    }

    /// Services and their slices come; of five, four go again.
    async fn lane(self, lane: u32) -> Made {
        let mut made = Made::default();
        let mut tick = tokio::time::interval(Duration::from_secs(1) * LANES / RATE);
        for change in 0..CHANGES / LANES {
            tick.tick().await;
            let number = change / 4;
            let name = format!("passing-{lane}-{number}");
            match change % 4 {
                0 => {
                    let ip = self.create(&name).await;
                    made.there.insert(name, ip);
                }
                1 => self.create_slice(&name).await,
                _ if number % 5 == 0 => {}
                2 => drop(
                    self.slices
                        .delete(&format!("{name}-1"), &DeleteParams::default())
                        .await
                        .unwrap(),
                ),
                _ => {
                    self.services
                        .delete(&name, &DeleteParams::default())
                        .await
                        .unwrap();
                    made.gone.extend(made.there.remove(&name));
                }
            }
            if lane == 0 {
                self.roll(change).await;
                self.progress.send_replace(change + 1);
            }
        }
        made
    }

    async fn create(&self, name: &str) -> String {
        let object: Service = serde_json::from_value(service(name, None, [0, 0])).unwrap();
        let made = self
            .services
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        made.spec.and_then(|spec| spec.cluster_ip).unwrap()
    }

    async fn create_slice(&self, name: &str) {
        let object: EndpointSlice = serde_json::from_value(slice(name, &self.pods[..2])).unwrap();
        self.slices.create(&PostParams::default(), &object).await.unwrap();
    }

    /// Other pods for the Service under load: each leaves it and comes back, and serves on meanwhile.
    async fn roll(&self, change: u32) {
        if !change.is_multiple_of(ROLL) {
            return;
        }
        let number = self.pods.len();
        let first = (change / ROLL) as usize;
        let two = [self.pods[first % number], self.pods[(first + 1) % number]];
        let patch = Patch::Merge(json!({"endpoints": endpoints(&two)}));
        self.slices
            .patch("web-1", &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
}

/// Makes the changes on a thread of the control plane's host.
fn start_changes(site: &ProxySite, progress: watch::Sender<u32>) -> std::thread::JoinHandle<Made> {
    let kubeconfig = site.kubeconfig(User::Admin);
    let pods = backends(site).iter().map(|pod| pod.ip.into()).collect();
    let control = site.control.clone();
    std::thread::spawn(move || {
        control.block_on(async || {
            let client = knode_client::from_kubeconfig(Path::new(&kubeconfig))
                .unwrap()
                .client;
            let changes = Changes {
                services: Api::default_namespaced(client.clone()),
                slices: Api::default_namespaced(client),
                pods,
                progress: Arc::new(progress),
            };
            changes.make().await
        })
    })
}

/// The pods that Services lead to; the last one is a client.
fn backends(site: &ProxySite) -> &[Pod] {
    &site.pods[..site.pods.len() - 1]
}

/// The client among the pods.
fn client(site: &ProxySite) -> &Arc<Host> {
    &site.pods[site.pods.len() - 1].host
}

fn start_proxy(site: &ProxySite, mode: &str) -> Process {
    let file = format!("--kubeconfig={}", site.kubeconfig(User::Proxy));
    let cidr = format!("--cluster-cidr={}", ProxySite::PODS);
    let nodes = format!("--nodeport-addresses={}/32", ProxySite::NODE);
    let mode = format!("--proxy-mode={mode}");
    site.proxy(&["--hostname-override=node1", &mode, &nodes, &cidr, &file])
}

/// Kills the proxy each time the changes have come so far, and starts it again.
fn kill_again_and_again(
    site: &ProxySite,
    mode: &str,
    mut proxy: Process,
    progress: &watch::Receiver<u32>,
) -> Process {
    for at in (KILL..CHANGES / LANES).step_by(KILL as usize) {
        wait_until("the changes", BOUND, || {
            let made = *progress.borrow();
            if made >= at {
                Ok(())
            } else {
                Err(format!("{made} of {at} in the first lane"))
            }
        });
        proxy.signal(Signal::SIGKILL);
        proxy.wait(BOUND);
        proxy = start_proxy(site, mode);
    }
    proxy
}

#[track_caller]
fn until_reached(host: &Host, to: SocketAddr) {
    wait_until(&format!("an answer of {to}"), BOUND, || {
        reached(host, to).result()
    });
}

/// The Service under load, a proxy of this mode, everything changing; no request may fail, no connection break.
/// Answers the proxy that runs in the end.
fn load_while_all_changes(site: &ProxySite, mode: &str) -> (Process, Made) {
    site.apply(&[
        service("web", Some(WEB), [30080, 30007]),
        slice("web", &[site.pods[0].ip.into(), site.pods[1].ip.into()]),
    ]);
    let proxy = start_proxy(site, mode);
    let client = client(site);
    let (inside, outside) = (at(WEB, 80), at(ProxySite::NODE, 30080));
    until_reached(client, inside);
    until_reached(&site.outside, outside);

    let kept = [
        Kept::open(client.clone(), at(WEB, ECHO_PORT), 8),
        Kept::open(site.outside.clone(), at(ProxySite::NODE, 30007), 8),
    ];
    let loads = [Wrk::start(client, inside), Wrk::start(&site.outside, outside)];
    let (sender, progress) = watch::channel(0);
    let changes = start_changes(site, sender);
    let proxy = kill_again_and_again(site, mode, proxy, &progress);
    let made = changes.join().unwrap();
    for (load, to) in loads.into_iter().zip([inside, outside]) {
        let (requests, printed) = load.requests();
        println!("{mode}, {to}: {printed}");
        assert!(requests > 100, "{to}: {printed}");
    }
    for kept in kept {
        assert!(kept.echoes() > 100);
    }
    assert!(made.there.len() >= (CHANGES / 20) as usize, "{made:?}");
    (proxy, made)
}

#[test]
fn nothing_fails_while_services_change_and_the_proxy_is_killed() {
    let site = ProxySite::new("proxy-load", 5, &[]);
    let (proxy, made) = load_while_all_changes(&site, "nftables");
    // What came under fire is served, what went is not.
    for (ips, word) in [
        (made.there.values().collect::<Vec<_>>(), "spread over"),
        (made.gone.iter().collect(), "no service has"),
    ] {
        for ip in ips {
            wait_until(&format!("{ip}: {word}"), BOUND, || {
                let said = site.inspect(&["explain", ip]).ok();
                if said.contains(word) {
                    Ok(())
                } else {
                    Err(format!("{said}{}", proxy.output()))
                }
            });
        }
    }
    for ip in made.there.values().step_by(20) {
        until_reached(client(&site), at(ip, 80));
    }
}

#[test]
fn nothing_fails_in_the_mode_iptables_either() {
    let site = ProxySite::new("proxy-load-iptables", 5, &[]);
    let (_proxy, made) = load_while_all_changes(&site, "iptables");
    for ip in made.there.values().step_by(5) {
        until_reached(client(&site), at(ip, 80));
    }
    for ip in made.gone.iter().step_by(50) {
        wait_until(&format!("{ip} to go"), BOUND, || {
            reached(client(&site), at(ip, 80)).code != 0
        });
    }
}
