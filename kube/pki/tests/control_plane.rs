//! The control plane's material over several starts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use knode_pki::kubeconfig::Kubeconfig;
use knode_pki::{ApiServerSans, Certificate, ControlPlanePki, Error, Terms};

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

fn short(random: f64) -> Terms {
    Terms {
        ca: std::time::Duration::from_secs(600),
        certificates: std::time::Duration::from_secs(30),
        random,
    }
}

#[test]
fn lives_of_seconds_are_renewed_between_70_and_90_percent() {
    let dir = tempfile::tempdir().unwrap();
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let ensure = |random: f64, seconds: i64| {
        let now = start + SignedDuration::from_secs(seconds);
        ControlPlanePki::ensure_on(dir.path(), &sans("10.99.0.1"), short(random), now).unwrap()
    };
    let first = ensure(0.0, 0);
    // It begins a tenth of its life in the past: 33 s, of which 70 % are over 20.1 s after it was made.
    let due =
        |pki: &ControlPlanePki, random: f64| pki.due(random).unwrap().duration_since(start).as_secs_f64();
    assert!((due(&first, 0.0) - 20.1).abs() < 0.01, "{}", due(&first, 0.0));
    assert!((due(&first, 0.999) - 26.7).abs() < 0.01, "{}", due(&first, 0.999));
    let same = ensure(0.0, 20);
    assert_eq!(
        same.apiserver.identity.cert_pem,
        first.apiserver.identity.cert_pem
    );
    let jittered = ensure(0.999, 21);
    assert_eq!(
        jittered.apiserver.identity.cert_pem,
        first.apiserver.identity.cert_pem
    );
    let renewed = ensure(0.0, 21);
    for (old, new) in [
        (&first.apiserver, &renewed.apiserver),
        (&first.kubelet_client, &renewed.kubelet_client),
        (&first.admin, &renewed.admin),
        (&first.controller_manager, &renewed.controller_manager),
        (&first.scheduler, &renewed.scheduler),
    ] {
        assert_ne!(old.identity.cert_pem, new.identity.cert_pem);
    }
    let token = first.service_account.sign(&serde_json::json!({"sub": "x"}));
    assert!(
        renewed.service_account.verify(&token).is_ok(),
        "the key of tokens stays"
    );
}

#[test]
fn a_control_plane_that_was_off_renews_all_but_an_authority_that_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let start = Timestamp::now();
    let ensure = |seconds: i64| {
        let now = start + SignedDuration::from_secs(seconds);
        ControlPlanePki::ensure_on(dir.path(), &sans("10.99.0.1"), short(0.0), now)
    };
    ensure(0).unwrap();
    let late = ensure(400).unwrap();
    assert!(
        certificate(&late.apiserver.identity.cert_pem).not_after > start + SignedDuration::from_secs(400)
    );
    let before = contents(dir.path());
    let error = ensure(601).unwrap_err();
    assert!(matches!(error, Error::CaExpired { .. }), "{error}");
    let text = error.to_string();
    let command = format!("knode pki renew ca --dir {}", dir.path().display());
    assert!(text.contains(&command) && text.contains("ca.pem"), "{text}");
    assert_eq!(contents(dir.path()), before, "nothing is written over");
}

#[test]
fn an_authority_near_its_end_is_renewed_with_its_key_and_both_are_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let start = Timestamp::now();
    let ensure = |seconds: i64| {
        let now = start + SignedDuration::from_secs(seconds);
        ControlPlanePki::ensure_on(dir.path(), &sans("10.99.0.1"), short(0.0), now).unwrap()
    };
    let first = ensure(0);
    let renewed = ensure(421);
    assert_eq!(
        renewed.ca.public_key_hash(),
        first.ca.public_key_hash(),
        "pins stay good"
    );
    assert!(renewed.ca.certificate().not_after > first.ca.certificate().not_after);
    let trusted = knode_pki::pem_certificates(renewed.ca.cert_pem()).unwrap();
    assert_eq!(trusted.len(), 2, "old and new");
    assert_eq!(trusted[1], first.ca.certificate().der);
    let later = ensure(421 + 420);
    assert_eq!(
        knode_pki::pem_certificates(later.ca.cert_pem()).unwrap().len(),
        2,
        "the first one has ended and is gone"
    );
}
