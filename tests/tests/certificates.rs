//! The life of every certificate, with real clocks: made, renewed while in use, ended, approved by a person.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use knode_client::Api;
use knode_e2e::{BOUND, Output, ROOMY, Site, binary, ready};
use knode_testkit::wait_until;
use kube::api::{ListParams, LogParams};

/// As long a certificate of the control plane, or of a node, lives here.
const LIFE: &str = "24s";

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: talker, image: "busybox:test", imagePullPolicy: Never, command: [sh, -c, "echo here; sleep 3600"]}
"#;

/// Asks without a pause as the administrator, the API server and through it the kubelet, while `meanwhile` goes on. No
/// request may fail.
#[track_caller]
fn while_asking(site: &Site, meanwhile: impl FnOnce()) {
    let (ends, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    let kubeconfig = site.path("admin.kubeconfig");
    let failed = std::thread::scope(|scope| {
        let asking = scope.spawn(|| site.hosts[0].block_on(async || ask(&kubeconfig, &ends, &asked).await));
        let stop = Stop(&ends);
        meanwhile();
        drop(stop);
        asking.join().unwrap()
    });
    let asked = asked.load(Ordering::Relaxed);
    assert!(
        failed.is_empty(),
        "{} of {asked} requests failed: {failed:#?}",
        failed.len()
    );
    assert!(asked > 200, "only {asked} requests");
}

/// Ends the asking, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn ask(kubeconfig: &str, ends: &AtomicBool, asked: &AtomicU32) -> Vec<String> {
    let client = knode_client::from_kubeconfig(Path::new(kubeconfig))
        .unwrap()
        .client;
    let nodes: Api<Node> = Api::all(client.clone());
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let mut failed = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        let listed = nodes.list(&ListParams::default()).await.map(drop);
        let told = pods.logs("talker", &LogParams::default()).await.map(drop);
        asked.fetch_add(2, Ordering::Relaxed);
        for error in [listed.err(), told.err()].into_iter().flatten() {
            failed.push(knode_client::brief(&error));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    failed
}

/// The public part of the certificate that a server shows.
fn shown(site: &Site, address: &str) -> Result<String, String> {
    let script =
        format!("openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -serial");
    let mut command = site.hosts[0].command("sh");
    command.args(["-c", &script]);
    Output::of(&mut command).result()
}

/// What is in a file, by which its renewals are told apart.
fn content(site: &Site, file: &str) -> Result<String, String> {
    std::fs::read_to_string(site.scratch.join(file)).map_err(|e| format!("{file}: {e}"))
}

/// Every credential that is renewed, with what it has been so far.
struct Seen<'a> {
    site: &'a Site,
    all: Vec<(&'static str, BTreeSet<String>)>,
}

impl<'a> Seen<'a> {
    const FILES: [&'static str; 7] = [
        "server/pki/apiserver.pem",
        "server/pki/apiserver-kubelet-client.pem",
        "server/pki/controller-manager.pem",
        "server/pki/scheduler.pem",
        "admin.kubeconfig",
        "one/kubelet/pki/kubelet-client-current.pem",
        "one/kubelet/pki/kubelet-server-current.pem",
    ];
    const SERVERS: [&'static str; 2] = ["10.99.0.1:6443", "10.99.0.2:10250"];

    fn new(site: &'a Site) -> Self {
        let all = Self::FILES.iter().chain(&Self::SERVERS);
        Self {
            site,
            all: all.map(|name| (*name, BTreeSet::new())).collect(),
        }
    }

    fn look(&mut self) {
        for (name, seen) in &mut self.all {
            let now = match name.contains(':') {
                true => shown(self.site, name),
                false => content(self.site, name),
            };
            // A server that is busy is asked again.
            seen.extend(now.ok().filter(|now| !now.trim().is_empty()));
        }
    }

    /// Whether each has been `times` different ones.
    fn each(&mut self, times: usize) -> Result<(), String> {
        self.look();
        let count = |(name, seen): &(&str, BTreeSet<String>)| format!("{name}: {}", seen.len());
        match self.all.iter().all(|(_, seen)| seen.len() >= times) {
            true => Ok(()),
            false => Err(self.all.iter().map(count).collect::<Vec<_>>().join(", ")),
        }
    }
}

fn pki(site: &Site, arguments: &[&str]) -> Output {
    let mut command = site.hosts[0].command(binary());
    command.arg("pki").args(arguments);
    Output::of(&mut command)
}

#[test]
fn certificates_of_seconds_are_renewed_twice_without_a_failed_request() {
    let mut site = Site::new("certs", 2);
    let lives = ["--certificate-validity", LIFE, "--cluster-signing-duration", LIFE];
    site.server(&lives);
    site.node("one", 1, &[]);
    site.all_ready(&["nodes"], 1);
    site.apply(POD);
    wait_until("the pod", BOUND, || {
        let pod = site.json(&["pod", "talker"])?;
        if ready(&pod) {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
    let (old_ca, site) = (content(&site, "server/pki/ca.pem").unwrap(), &site);
    while_asking(site, || {
        let mut seen = Seen::new(site);
        wait_until("two renewals of everything", BOUND, || {
            seen.each(3).map_err(|e| format!("{e}\n{}", site.logs()))
        });
        follow_a_new_authority(site, &old_ca);
        forget_the_old_one(site, &old_ca);
    });
    // The node did not notice anything, and keeps only the last few.
    site.all_ready(&["nodes"], 1);
    let files = std::fs::read_dir(site.scratch.join("one/kubelet/pki")).unwrap();
    let names: Vec<String> = files
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    for prefix in ["kubelet-client-2", "kubelet-server-2"] {
        let dated = names.iter().filter(|name| name.starts_with(prefix)).count();
        assert!((1..=3).contains(&dated), "{names:?}");
    }
}

/// Another key for the authority of the running cluster: everything moves to it, and the old one stays trusted.
fn follow_a_new_authority(site: &Site, old_ca: &str) {
    let dir = site.path("server/pki");
    pki(site, &["renew", "ca", "--new-key", "--dir", &dir]).ok();
    wait_until("everything to be signed by the new authority", BOUND, || {
        let bundle = content(site, "server/pki/ca.pem")?;
        assert!(
            bundle.ends_with(old_ca) && bundle.len() > old_ca.len(),
            "both are trusted: {bundle}"
        );
        let files = [
            "server/pki/apiserver.pem",
            "one/kubelet/pki/kubelet-client-current.pem",
            "one/kubelet/pki/kubelet-server-current.pem",
        ];
        let new = site.path("new-ca.pem");
        std::fs::write(&new, bundle.strip_suffix(old_ca).unwrap()).unwrap();
        for file in files {
            let mut command = site.hosts[0].command("openssl");
            command.args(["verify", "-no_check_time", "-CAfile", &new, &site.path(file)]);
            Output::of(&mut command).result()?;
        }
        let maps = ["configmap", "kube-root-ca.crt", "-n", "default"];
        let published = site.json(&maps)?["data"]["ca.crt"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let node = content(site, "one/kubelet/kubeconfig")?;
        let known = base64_of(&bundle);
        match (published == bundle, node.contains(&known)) {
            (true, true) => Ok(()),
            other => Err(format!("ConfigMap and node know it: {other:?}\n{}", site.logs())),
        }
    });
}

/// Once everything has moved, the old authority need not be trusted any more.
fn forget_the_old_one(site: &Site, old_ca: &str) {
    let dir = site.path("server/pki");
    pki(site, &["renew", "ca", "--distrust-old", "--dir", &dir]).ok();
    let own = content(site, "server/pki/ca.pem").unwrap();
    assert!(!own.contains(old_ca), "{own}");
    wait_until("everybody to trust the new authority alone", BOUND, || {
        let node = content(site, "one/kubelet/kubeconfig")?;
        let admin = content(site, "admin.kubeconfig")?;
        let known = format!("certificate-authority-data: {}\n", base64_of(&own));
        match (node.contains(&known), admin.contains(&known)) {
            (true, true) => Ok(()),
            other => Err(format!("node and administrator: {other:?}\n{}", site.logs())),
        }
    });
    // The kubelet's server is asked by a client of the new authority, and its own client goes on.
    let before = site.json(&["lease", "one", "-n", "kube-node-lease"]).unwrap();
    wait_until("another beat of the node", BOUND, || {
        let now = site.json(&["lease", "one", "-n", "kube-node-lease"])?;
        let beat = |lease: &serde_json::Value| lease["spec"]["renewTime"].to_string();
        if beat(&now) == beat(&before) {
            Err(beat(&now))
        } else {
            Ok(())
        }
    });
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The requests that a person has not decided.
fn pending(site: &Site) -> Result<Vec<(String, String)>, String> {
    let list = site.json(&["csr"])?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let waits = |item: &&serde_json::Value| item["status"]["conditions"].is_null();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(items
        .iter()
        .filter(waits)
        .map(|item| (text(&item["metadata"]["name"]), text(&item["spec"]["username"])))
        .collect())
}

/// Waits for one request of the bootstrap user, and approves it.
#[track_caller]
fn approve_one(site: &Site) {
    let (name, user) = wait_until("a request that waits for a person", BOUND, || {
        let waiting = pending(site)?;
        let found = waiting.first().cloned();
        found.ok_or_else(|| site.logs())
    });
    assert_eq!(user, "kubelet-bootstrap");
    let shown = site.kubectl(&["get", "csr", &name]).ok();
    assert!(
        shown.contains("Pending") && shown.contains("kubelet-bootstrap"),
        "{shown}"
    );
    let approved = site.kubectl(&["certificate", "approve", &name]).ok();
    assert!(approved.contains("approved"), "{approved}");
}

/// A node that was given another cluster's authority says so, and gets nowhere.
#[track_caller]
fn stray(site: &mut Site, csv: &str) {
    let (other, join) = (site.path("other"), site.path("stray.kubeconfig"));
    pki(site, &["init", "--name", "10.99.0.1", "--dir", &other]).ok();
    let url = "https://10.99.0.1:6443";
    let words = [
        "kubeconfig",
        "kubelet-bootstrap",
        "--token-csv",
        csv,
        "--server",
        url,
        "--out",
        &join,
        "--dir",
        &other,
    ];
    pki(site, &words).ok();
    site.start(
        "stray",
        1,
        &[
            "node",
            "--node-name",
            "stray",
            "--bootstrap-kubeconfig",
            &join,
            ROOMY,
        ],
    );
    wait_until("the other authority to be named", BOUND, || {
        let log = site.log("stray");
        let named = log.contains("is not signed by the authority that is known here");
        named.then_some(()).ok_or(log)
    });
    assert!(
        !site.scratch.join("stray/kubelet/kubeconfig").exists(),
        "nothing is written"
    );
    site.end("stray");
}

/// A control plane that does not start.
#[track_caller]
fn started_in_vain(site: &Site, options: &[&str]) -> Output {
    let mut command = site.hosts[0].command(binary());
    command.arg("server").args(options);
    command.args(["--data-dir", &site.path("server")]);
    command.args(["--write-kubeconfig", &site.path("admin.kubeconfig")]);
    let output = Output::of(&mut command);
    assert_ne!(output.code, 0, "{output}");
    output
}

#[test]
fn a_person_approves_as_the_seed_has_it_and_a_node_that_was_off_too_long_comes_back() {
    let mut site = Site::new("manual", 2);
    let csv = site.path("token.csv");
    pki(&site, &["token-csv", "--out", &csv]).ok();
    let server = [
        "--token-auth-file",
        &csv,
        "--node-approval",
        "none",
        "--cluster-signing-duration",
        "20s",
        "--certificate-validity",
        "15s",
    ];
    site.server(&server);
    let bindings = site.kubectl(&["get", "clusterrolebindings", "-o", "name"]).ok();
    assert!(
        !bindings.contains("autoapprove") && !bindings.contains("kubelet-bootstrap"),
        "{bindings}"
    );
    let join = site.path("seed.kubeconfig");
    let ca = site.path("server/pki");
    let url = "https://10.99.0.1:6443";
    let words = [
        "kubeconfig",
        "kubelet-bootstrap",
        "--token-csv",
        &csv,
        "--server",
        url,
        "--out",
        &join,
        "--dir",
        &ca,
    ];
    pki(&site, &words).ok();
    let binding = [
        "create",
        "clusterrolebinding",
        "kubelet-bootstrap",
        "--clusterrole=system:node-bootstrapper",
        "--user=kubelet-bootstrap",
    ];
    site.kubectl(&binding).ok();
    stray(&mut site, &csv);
    let node = [
        "node",
        "--node-name",
        "one",
        "--bootstrap-kubeconfig",
        &join,
        ROOMY,
    ];
    site.start("one", 1, &node);
    approve_one(&site);
    site.all_ready(&["nodes"], 1);

    // Node and control plane off until their certificates have ended, and the authority too.
    site.kill("one");
    site.kill("server");
    pki(&site, &["renew", "ca", "--validity", "10s", "--dir", &ca]).ok();
    let certificate = site.path("one/kubelet/pki/kubelet-client-current.pem");
    for file in [
        &certificate,
        &format!("{ca}/apiserver.pem"),
        &format!("{ca}/ca.pem"),
    ] {
        wait_until("its end", BOUND, || {
            let mut command = site.hosts[0].command("openssl");
            command.args(["x509", "-noout", "-checkend", "0", "-in", file]);
            let still = Output::of(&mut command);
            if still.code == 0 {
                Err(still.to_string())
            } else {
                Ok(())
            }
        });
    }
    let state = pki(&site, &["show", &certificate]);
    assert!(state.code != 0 && state.stdout.contains("expired"), "{state}");

    // The control plane says which command helps against an authority that has ended; all else it renews.
    let refused = started_in_vain(&site, &server);
    let command = format!("knode pki renew ca --dir {ca}");
    assert!(refused.stderr.contains(&command), "{refused}");
    let words: Vec<&str> = command.split(' ').skip(2).collect();
    pki(&site, &words).ok();
    site.server(&server);

    // The node asks again by its bootstrap credential.
    for (name, _) in pending(&site).unwrap() {
        site.kubectl(&["delete", "csr", &name]).ok();
    }
    site.start("one", 1, &node);
    approve_one(&site);
    wait_until("the node to be back", BOUND, || {
        let log = site.log("one");
        if log.contains("its certificate ended at") && log.contains("the node is Ready") {
            Ok(())
        } else {
            Err(log)
        }
    });
}
