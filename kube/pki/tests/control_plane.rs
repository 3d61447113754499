//! The control plane's material over several starts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use knode_pki::kubeconfig::Kubeconfig;
use knode_pki::{ApiServerSans, Certificate, ControlPlanePki};

fn sans(node_ip: &str) -> ApiServerSans {
    ApiServerSans {
        service_ip: "10.254.0.1".parse().unwrap(),
        node_ips: vec![node_ip.parse().unwrap()],
        dns: vec!["node1".to_owned(), "localhost".to_owned()],
        cluster_domain: "cluster.local".to_owned(),
    }
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

fn certificate(pem: &str) -> Certificate {
    Certificate::from_pem(pem).unwrap()
}

#[test]
fn everyone_gets_the_identity_that_rbac_knows() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ControlPlanePki::ensure(&dir.path().join("pki"), &sans("10.99.0.1"), Timestamp::now()).unwrap();
    let who = |identity: &knode_pki::IdentityFile| {
        let subject = certificate(&identity.identity.cert_pem).subject;
        (subject.common_name, subject.organizations)
    };
    assert_eq!(
        who(&pki.admin),
        ("kubernetes-admin".to_owned(), vec!["system:masters".to_owned()])
    );
    assert_eq!(who(&pki.controller_manager).0, "system:kube-controller-manager");
    assert_eq!(who(&pki.scheduler).0, "system:kube-scheduler");
    assert_eq!(who(&pki.kubelet_client).0, "kube-apiserver-kubelet-client");
    let names = certificate(&pki.apiserver.identity.cert_pem).names;
    for name in [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "node1",
    ] {
        assert_eq!(
            names.dns.iter().filter(|found| *found == name).count(),
            1,
            "{name}: {names:?}"
        );
    }
    for ip in ["10.254.0.1", "127.0.0.1", "10.99.0.1", "::1"] {
        assert!(names.ips.contains(&ip.parse().unwrap()), "{ip}: {names:?}");
    }
    for identity in [
        &pki.apiserver,
        &pki.kubelet_client,
        &pki.admin,
        &pki.controller_manager,
        &pki.scheduler,
    ] {
        assert!(
            pki.ca.signed(&certificate(&identity.identity.cert_pem)),
            "{identity:?}"
        );
        assert_eq!(
            std::fs::read_to_string(&identity.cert_path).unwrap(),
            identity.identity.cert_pem
        );
    }
}

#[test]
fn a_second_start_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    ControlPlanePki::ensure(dir.path(), &sans("10.99.0.1"), Timestamp::now()).unwrap();
    let before = contents(dir.path());
    let pki = ControlPlanePki::ensure(dir.path(), &sans("10.99.0.1"), Timestamp::now()).unwrap();
    assert_eq!(contents(dir.path()), before);
    for (name, _) in before.iter().filter(|(name, _)| name.ends_with("-key.pem")) {
        let mode = std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
    let token = pki.service_account.sign(&serde_json::json!({"sub": "x"}));
    let again = ControlPlanePki::ensure(dir.path(), &sans("10.99.0.1"), Timestamp::now()).unwrap();
    assert!(again.service_account.verify(&token).is_ok());
}

#[test]
fn what_is_wrong_is_made_anew_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    ControlPlanePki::ensure(dir.path(), &sans("10.99.0.1"), now).unwrap();
    let before = contents(dir.path());
    // Another address, a lost certificate, a torn pair, and a write that was interrupted.
    std::fs::remove_file(dir.path().join("admin.pem")).unwrap();
    std::fs::copy(
        dir.path().join("admin-key.pem"),
        dir.path().join("scheduler-key.pem"),
    )
    .unwrap();
    std::fs::write(dir.path().join(".admin.pem.knode-tmp-0123"), "half").unwrap();
    let pki = ControlPlanePki::ensure(dir.path(), &sans("10.99.0.2"), now).unwrap();
    let after = contents(dir.path());
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    let changed: Vec<_> = after
        .iter()
        .filter(|(name, data)| before[*name] != **data)
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        changed,
        [
            "admin-key.pem",
            "admin.pem",
            "apiserver-key.pem",
            "apiserver.pem",
            "scheduler-key.pem",
            "scheduler.pem"
        ]
    );
    assert!(
        certificate(&pki.apiserver.identity.cert_pem)
            .names
            .ips
            .contains(&"10.99.0.2".parse().unwrap())
    );
}

#[test]
fn certificates_are_renewed_before_they_end_and_the_authority_stays() {
    let dir = tempfile::tempdir().unwrap();
    let start = Timestamp::now();
    let first = ControlPlanePki::ensure(dir.path(), &sans("10.99.0.1"), start).unwrap();
    let later = start + SignedDuration::from_hours(24 * 200);
    let same = ControlPlanePki::ensure(dir.path(), &sans("10.99.0.1"), later).unwrap();
    assert_eq!(first.admin.identity.cert_pem, same.admin.identity.cert_pem);
    let late = start + SignedDuration::from_hours(24 * 300);
    let renewed = ControlPlanePki::ensure(dir.path(), &sans("10.99.0.1"), late).unwrap();
    assert_ne!(first.admin.identity.cert_pem, renewed.admin.identity.cert_pem);
    assert!(
        certificate(&renewed.admin.identity.cert_pem).not_after > late + SignedDuration::from_hours(24 * 300)
    );
    assert_eq!(first.ca.cert_pem(), renewed.ca.cert_pem());
}

#[test]
fn the_admin_kubeconfig_says_it_all() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ControlPlanePki::ensure(&dir.path().join("pki"), &sans("10.99.0.1"), Timestamp::now()).unwrap();
    let file = dir.path().join("admin.kubeconfig");
    pki.kubeconfig("https://127.0.0.1:6443", &pki.admin)
        .write(&file)
        .unwrap();
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let access = Kubeconfig::load_access(&file).unwrap();
    assert_eq!(access.server, "https://127.0.0.1:6443");
    assert_eq!(access.ca.unwrap().read().unwrap(), pki.ca.cert_pem());
    assert_eq!(
        access.client_cert.unwrap().read().unwrap(),
        pki.admin.identity.cert_pem
    );
    assert_eq!(
        access.client_key.unwrap().read().unwrap(),
        pki.admin.identity.key_pem
    );
}
