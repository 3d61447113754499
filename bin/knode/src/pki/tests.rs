use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use knode_pki::kubeconfig::Kubeconfig;
use knode_pki::{Certificate, pem_certificates};

use super::cli::PkiCommand;
use super::{make, renew, show};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: PkiCommand,
}

/// A directory that goes away with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("knode-pki-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, into);
                } else {
                    into.insert(path.clone(), std::fs::read(&path).unwrap());
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.0, &mut found);
        found
    }

    fn certificate(&self, name: &str) -> Certificate {
        Certificate::from_pem(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory left behind does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a line of `knode pki` on a directory, at a time.
fn at(scratch: &Scratch, words: &[&str], now: Timestamp) -> Result<Vec<String>, String> {
    let dir = scratch.0.to_str().unwrap();
    let mut line = vec!["pki"];
    line.extend(words);
    if words[0] != "token-csv" {
        line.extend(["--dir", dir]);
    }
    let done = match Line::try_parse_from(line).unwrap().command {
        PkiCommand::Init(args) => make::init(&args, now),
        PkiCommand::Issue(args) => make::issue(&args, now),
        PkiCommand::Renew(args) => renew::renew(&args, now),
        PkiCommand::Kubeconfig(args) => make::kubeconfig(&args, now),
        PkiCommand::TokenCsv(args) => make::token_csv(&args),
        PkiCommand::Show(_) => unreachable!("shown by show::rows"),
    };
    done.map_err(|error| knode_client::brief(error.as_ref()))
}

fn run(scratch: &Scratch, words: &[&str]) -> Result<Vec<String>, String> {
    at(scratch, words, Timestamp::now())
}

const INIT: [&str; 5] = ["init", "--name", "192.0.2.7", "--name", "master"];

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_seeds_files_are_made_once_and_fit_together() {
    let scratch = Scratch::new("seed");
    run(&scratch, &INIT).unwrap();
    let (ca, api) = (
        scratch.certificate("ssl/ca.pem"),
        scratch.certificate("ssl/kubernetes.pem"),
    );
    assert!(api.signed_by(&ca));
    for ip in ["192.0.2.7", "10.254.0.1", "127.0.0.1"] {
        assert!(
            api.names.ips.contains(&ip.parse().unwrap()),
            "{ip}: {:?}",
            api.names
        );
    }
    assert!(api.names.dns.contains(&"master".to_owned()), "{:?}", api.names);
    for secret in [
        "ssl/ca-key.pem",
        "ssl/kubernetes-key.pem",
        "token.csv",
        "bootstrap.kubeconfig",
    ] {
        assert_eq!(mode(&scratch.path(secret)), 0o600, "{secret}");
    }
    let bootstrap = Kubeconfig::load_access(&scratch.path("bootstrap.kubeconfig")).unwrap();
    assert_eq!(bootstrap.server, "https://192.0.2.7:6443");
    let token = bootstrap.token.unwrap().read().unwrap();
    let csv = std::fs::read_to_string(scratch.path("token.csv")).unwrap();
    assert_eq!(
        csv,
        format!("{token},kubelet-bootstrap,10001,\"system:kubelet-bootstrap\"\n")
    );
    let proxy = Kubeconfig::load_access(&scratch.path("kube-proxy.kubeconfig")).unwrap();
    let proxy = Certificate::from_pem(&proxy.client_cert.unwrap().read().unwrap()).unwrap();
    assert_eq!(proxy.subject.common_name, "system:kube-proxy");

    let before = scratch.contents();
    let done = run(&scratch, &INIT).unwrap();
    assert!(done.iter().all(|line| line.starts_with("kept")), "{done:?}");
    assert_eq!(scratch.contents(), before);
    let done = run(&scratch, &[&INIT[..], &["--force"]].concat()).unwrap();
    assert!(done.iter().any(|line| line.starts_with("made")), "{done:?}");
    assert_eq!(
        scratch.certificate("ssl/ca.pem"),
        ca,
        "the authority is never made anew"
    );
}

#[test]
fn kubeadms_files_are_made_and_found_again() {
    let scratch = Scratch::new("kubeadm");
    run(&scratch, &[&INIT[..], &["--layout", "kubeadm"]].concat()).unwrap();
    for file in [
        "pki/apiserver-kubelet-client.crt",
        "pki/front-proxy-client.key",
        "pki/etcd/healthcheck-client.crt",
        "pki/sa.pub",
        "controller-manager.conf",
        "bootstrap-kubelet.conf",
    ] {
        assert!(scratch.path(file).exists(), "{file}");
    }
    let etcd = scratch.certificate("pki/etcd/server.crt");
    assert!(etcd.signed_by(&scratch.certificate("pki/etcd/ca.crt")));
    assert!(!etcd.signed_by(&scratch.certificate("pki/ca.crt")));
    let done = run(&scratch, &INIT).unwrap();
    assert!(
        done.iter().all(|line| line.starts_with("kept")),
        "the layout is recognised: {done:?}"
    );
    let inventory = knode_pki::inventory::scan(std::slice::from_ref(&scratch.0)).unwrap();
    let rows = show::rows(&inventory, Timestamp::now());
    assert!(
        rows.iter()
            .all(|row| row.state == "ok" && row.authority.is_some()),
        "{rows:?}"
    );
    assert_eq!(rows.len(), 3 + 7 + 4, "{rows:?}");
}

#[test]
fn renewing_keeps_everything_but_key_and_dates() {
    let scratch = Scratch::new("renew");
    run(&scratch, &INIT).unwrap();
    let old = scratch.certificate("ssl/kubernetes.pem");
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 300);
    let done = at(&scratch, &["renew"], later).unwrap();
    assert_eq!(done.len(), 3, "{done:?}");
    let new = scratch.certificate("ssl/kubernetes.pem");
    assert_eq!(
        (&new.subject, &new.names, &new.usages),
        (&old.subject, &old.names, &old.usages)
    );
    assert!(new.public_key != old.public_key && new.not_after > old.not_after);
    let one = at(
        &scratch,
        &["renew", "admin.kubeconfig", "--validity", "1h"],
        later,
    )
    .unwrap();
    assert_eq!(one.len(), 1, "{one:?}");
    assert!(
        run(&scratch, &["renew", "nothing"])
            .unwrap_err()
            .contains("nothing")
    );
}

#[test]
fn an_authority_is_renewed_with_its_key_and_can_follow_one_that_has_ended() {
    let scratch = Scratch::new("authority");
    run(&scratch, &[&INIT[..], &["--ca-validity", "1000h"]].concat()).unwrap();
    let old = scratch.certificate("ssl/ca.pem");
    let late = Timestamp::now() + SignedDuration::from_hours(1001);
    let before = scratch.contents();
    for words in [&["renew"][..], &["issue", "x", "--out", "x.pem"], &INIT] {
        let error = at(&scratch, words, late).unwrap_err();
        assert!(
            error.contains("ended") && error.contains("knode pki renew ca"),
            "{words:?}: {error}"
        );
    }
    assert_eq!(scratch.contents(), before, "nothing is written over");
    at(&scratch, &["renew", "ca"], late).unwrap();
    let new = scratch.certificate("ssl/ca.pem");
    assert_eq!(new.public_key_hash(), old.public_key_hash());
    let bootstrap = Kubeconfig::load_access(&scratch.path("bootstrap.kubeconfig")).unwrap();
    let trusted = pem_certificates(&bootstrap.ca.unwrap().read().unwrap()).unwrap();
    assert_eq!(
        trusted,
        [new.der],
        "kubeconfigs trust the new one; the old one has ended"
    );
}

#[test]
fn a_new_key_of_the_authority_takes_everything_with_it() {
    let scratch = Scratch::new("newkey");
    run(&scratch, &INIT).unwrap();
    let old = scratch.certificate("ssl/ca.pem");
    run(&scratch, &["renew", "ca", "--new-key"]).unwrap();
    let new = scratch.certificate("ssl/ca.pem");
    assert_ne!(new.public_key_hash(), old.public_key_hash());
    assert!(scratch.certificate("ssl/kubernetes.pem").signed_by(&new));
    for file in [
        "bootstrap.kubeconfig",
        "kube-proxy.kubeconfig",
        "admin.kubeconfig",
    ] {
        let access = Kubeconfig::load_access(&scratch.path(file)).unwrap();
        let trusted = pem_certificates(&access.ca.unwrap().read().unwrap()).unwrap();
        assert_eq!(
            trusted,
            [new.der.clone(), old.der.clone()],
            "{file}: both are trusted"
        );
    }
    let again = run(&scratch, &["renew"]).unwrap();
    assert_eq!(again.len(), 3, "{again:?}");

    assert!(scratch.path("ssl/ca-chain.pem").exists());
    run(&scratch, &["renew", "ca", "--distrust-old"]).unwrap();
    assert!(!scratch.path("ssl/ca-chain.pem").exists());
    for file in ["bootstrap.kubeconfig", "admin.kubeconfig"] {
        let access = Kubeconfig::load_access(&scratch.path(file)).unwrap();
        let trusted = pem_certificates(&access.ca.unwrap().read().unwrap()).unwrap();
        assert_eq!(
            trusted,
            std::slice::from_ref(&new.der),
            "{file}: the old one no longer"
        );
    }
}

#[test]
fn weak_keys_and_files_that_are_there_are_refused() {
    let scratch = Scratch::new("refuse");
    run(&scratch, &INIT).unwrap();
    let out = scratch.path("one.pem");
    let issue = ["issue", "one", "--out", out.to_str().unwrap()];
    run(&scratch, &issue).unwrap();
    let before = scratch.contents();
    let error = run(&scratch, &issue).unwrap_err();
    assert!(error.contains("one.pem") && error.contains("--force"), "{error}");
    let csv = scratch.path("token.csv");
    let error = run(&scratch, &["token-csv", "--out", csv.to_str().unwrap()]).unwrap_err();
    assert!(error.contains("token.csv"), "{error}");
    assert_eq!(scratch.contents(), before);
    run(
        &scratch,
        &[
            "token-csv",
            "--append",
            "--user",
            "two",
            "--out",
            csv.to_str().unwrap(),
        ],
    )
    .unwrap();
    assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 2);
    let config = scratch.path("two.kubeconfig");
    let words = [
        "kubeconfig",
        "two",
        "--server",
        "https://192.0.2.7:6443",
        "--out",
        config.to_str().unwrap(),
    ];
    run(
        &scratch,
        &[&words[..], &["--token-csv", csv.to_str().unwrap()]].concat(),
    )
    .unwrap();
    assert!(Kubeconfig::load_access(&config).unwrap().token.is_some());

    let key = scratch.path("ssl/ca-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    for words in [&["renew"][..], &["issue", "x", "--out", "x.pem"], &INIT] {
        let error = run(&scratch, words).unwrap_err();
        assert!(
            error.contains("ca-key.pem") && error.contains("0644") && error.contains("chmod 600"),
            "{words:?}: {error}"
        );
    }
}
