//! The authority: what it issues and signs, cross-checked with OpenSSL.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use knode_pki::{
    AuthorityFiles, CA_CERT_FILE, CA_KEY_FILE, Certificate, CertificateAuthority, Error, Identity,
    PrivateKey, Profile, SigningRequest, Subject, SubjectAltNames, Usage, identity_from_der,
    pem_certificates, split_identity_pem,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    Timestamp::now()
}

fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(args)
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "openssl {args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

fn names() -> SubjectAltNames {
    SubjectAltNames::new(
        vec!["node1".to_owned()],
        vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
    )
}

#[test]
fn openssl_verifies_what_was_issued() {
    let dir = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    let subject = Subject::new("alice", &["g1", "g2"]);
    let server = ca
        .issue(&Profile::server(subject.clone(), names(), DAY), now())
        .unwrap();
    let client = ca.issue(&Profile::client(subject, DAY), now()).unwrap();
    std::fs::write(dir.path().join("server.pem"), &server.cert_pem).unwrap();
    std::fs::write(dir.path().join("client.pem"), &client.cert_pem).unwrap();
    std::fs::write(dir.path().join("client-key.pem"), &client.key_pem).unwrap();
    let ca_file = path(dir.path(), CA_CERT_FILE);
    let verify = |purpose: &str, file: &str| {
        openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            &ca_file,
            &path(dir.path(), file),
        ])
    };
    verify("sslserver", "server.pem");
    verify("sslclient", "client.pem");
    let text = openssl(&["x509", "-noout", "-text", "-in", &path(dir.path(), "server.pem")]);
    assert!(
        text.contains("DNS:node1, IP Address:10.0.0.1, IP Address:FD00:0:0:0:0:0:0:1"),
        "{text}"
    );
    assert!(
        text.contains("CA:FALSE") && text.contains("Digital Signature"),
        "{text}"
    );
    let subject = openssl(&[
        "x509",
        "-noout",
        "-subject",
        "-in",
        &path(dir.path(), "client.pem"),
    ]);
    assert_eq!(subject.trim(), "subject=O = g1, O = g2, CN = alice");
    let key = openssl(&["pkey", "-pubout", "-in", &path(dir.path(), "client-key.pem")]);
    assert_eq!(
        key,
        openssl(&[
            "x509",
            "-noout",
            "-pubkey",
            "-in",
            &path(dir.path(), "client.pem")
        ])
    );
}

#[test]
fn a_client_certificate_names_user_and_groups_in_their_order() {
    let ca = CertificateAuthority::create("kubernetes", now()).unwrap();
    let subject = Subject::new("system:node:n1", &["zulu", "system:nodes", "alpha"]);
    let issued = ca.issue(&Profile::client(subject, DAY), now()).unwrap();
    let der = pem_certificates(&issued.cert_pem).unwrap().remove(0);
    let (user, groups) = identity_from_der(&der).unwrap();
    assert_eq!(user, "system:node:n1");
    assert_eq!(groups, ["zulu", "system:nodes", "alpha"]);
    assert!(identity_from_der(&der[..der.len() - 3]).is_err());
    assert!(identity_from_der(b"").is_err());
}

#[test]
fn openssl_accepts_our_request_and_we_sign_it_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let key = PrivateKey::generate();
    let subject = Subject::new("system:node:n1", &["system:nodes"]);
    let pem = SigningRequest::create(&key, &subject, &names()).unwrap();
    std::fs::write(dir.path().join("csr.pem"), &pem).unwrap();
    openssl(&["req", "-verify", "-noout", "-in", &path(dir.path(), "csr.pem")]);

    let request = SigningRequest::parse(&pem).unwrap();
    assert_eq!(request.subject, subject);
    assert_eq!(request.names, names());
    assert_eq!(request.public_key().unwrap(), key.public_key_der().unwrap());
    let ca = CertificateAuthority::create("kubernetes", now()).unwrap();
    let usages = [Usage::DigitalSignature, Usage::ServerAuth];
    let signed = Certificate::from_pem(&ca.sign_request(&request, &usages, DAY, now()).unwrap()).unwrap();
    assert_eq!((signed.subject, signed.names), (subject, names()));
    assert_eq!(signed.usages, usages);
    assert!(!signed.is_ca);
}

#[test]
fn requests_of_other_tools_and_keys_keep_their_subject_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    for (kind, options) in [
        ("rsa", &["-newkey", "rsa:2048"][..]),
        ("p384", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        ("ed25519", &["-newkey", "ed25519"]),
    ] {
        let file = path(dir.path(), kind);
        let mut args = vec!["req", "-new", "-nodes", "-keyout", "/dev/null", "-out", &file];
        args.extend(options);
        args.extend([
            "-subj",
            "/C=DE/O=g1/O=g2/CN=alice",
            "-addext",
            "subjectAltName=DNS:a.example",
        ]);
        openssl(&args);
        let request = SigningRequest::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(request.subject, Subject::new("alice", &["g1", "g2"]), "{kind}");
        let signed = ca
            .sign_request(&request, &[Usage::ClientAuth], DAY, now())
            .unwrap();
        let out = path(dir.path(), &format!("{kind}.pem"));
        std::fs::write(&out, &signed).unwrap();
        let subject = openssl(&["x509", "-noout", "-subject", "-in", &out]);
        assert_eq!(
            subject.trim(),
            "subject=C = DE, O = g1, O = g2, CN = alice",
            "{kind}"
        );
        openssl(&["verify", "-CAfile", &path(dir.path(), CA_CERT_FILE), &out]);
        assert_eq!(
            Certificate::from_pem(&signed).unwrap().names.dns,
            ["a.example"],
            "{kind}"
        );
    }
}

#[test]
fn a_request_that_was_changed_after_signing_is_refused() {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    let pem = SigningRequest::create(
        &PrivateKey::generate(),
        &Subject::new("mallory", &[]),
        &SubjectAltNames::default(),
    )
    .unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut der = engine.decode(body).unwrap();
    let at = der.windows(7).position(|window| window == b"mallory").unwrap();
    der[at] = b'M';
    let forged = engine.encode(&der);
    let lines: Vec<&str> = forged
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let forged = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        lines.join("\n")
    );
    assert!(matches!(
        SigningRequest::parse(&forged),
        Err(Error::RequestSignature)
    ));
    assert!(matches!(SigningRequest::parse("nothing"), Err(Error::Pem { .. })));
}

#[test]
fn no_certificate_outlives_its_authority() {
    let ca = CertificateAuthority::create("kubernetes", now()).unwrap();
    let profile = Profile::client(Subject::new("a", &[]), DAY * 365 * 50);
    let issued = Certificate::from_pem(&ca.issue(&profile, now()).unwrap().cert_pem).unwrap();
    assert_eq!(issued.not_after, ca.certificate().not_after);
    assert!(issued.not_before < now());
    assert!(ca.signed(&issued));
    let other = CertificateAuthority::create("kubernetes", now()).unwrap();
    assert!(!other.signed(&issued));
}

#[test]
fn the_authority_is_made_once_and_then_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let first = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    let again = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    assert_eq!(first.cert_pem(), again.cert_pem());
    let mode = std::fs::metadata(dir.path().join(CA_KEY_FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    // An interruption between the two files: the key is kept.
    std::fs::remove_file(dir.path().join(CA_CERT_FILE)).unwrap();
    let mended = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    assert_eq!(mended.public_key_hash(), first.public_key_hash());
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    let key = dir.path().join(CA_KEY_FILE);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap_err();
    assert!(
        matches!(error, Error::WeakPermissions { mode: 0o640, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn a_certificate_without_its_key_or_with_another_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    let other = PrivateKey::generate().to_pem().unwrap();
    knode_pki::files::write_atomic(&dir.path().join(CA_KEY_FILE), other.as_bytes(), 0o600).unwrap();
    let error = CertificateAuthority::load(dir.path()).unwrap_err();
    assert!(matches!(error, Error::KeyMismatch { .. }), "{error}");
    std::fs::remove_file(dir.path().join(CA_KEY_FILE)).unwrap();
    let error = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap_err();
    assert!(matches!(error, Error::MissingCaKey { .. }), "{error}");
}

#[test]
fn the_pin_is_what_kubeadm_prints() {
    let dir = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    let script = format!(
        "openssl x509 -pubkey -noout -in {} | openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1",
        path(dir.path(), CA_CERT_FILE)
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let expected = format!("sha256:{}", String::from_utf8_lossy(&output.stdout).trim());
    assert_eq!(ca.public_key_hash(), expected);
    assert_eq!(knode_pki::public_key_hash(ca.cert_pem()).unwrap(), expected);
}

#[test]
fn keys_of_openssl_are_read_in_both_forms() {
    let dir = tempfile::tempdir().unwrap();
    let (sec1, pkcs8) = (path(dir.path(), "sec1"), path(dir.path(), "pkcs8"));
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-out", &sec1]);
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", &sec1, "-out", &pkcs8]);
    let read = |file: &str| PrivateKey::from_pem(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(
        read(&sec1).public_key_der().unwrap(),
        read(&pkcs8).public_key_der().unwrap()
    );
    let rsa = openssl(&["genpkey", "-algorithm", "RSA"]);
    assert!(matches!(PrivateKey::from_pem(&rsa), Err(Error::PrivateKey)));
}

#[test]
fn certificate_and_key_in_one_file_are_parted() {
    let profile = Profile::server(Subject::new("n", &[]), names(), DAY);
    let identity = Identity::self_signed(&profile, now()).unwrap();
    let text = format!("{}{}", identity.cert_pem, identity.key_pem);
    let (cert, key) = split_identity_pem(&text).unwrap();
    assert_eq!(
        (cert.as_str(), key.as_str()),
        (identity.cert_pem.as_str(), identity.key_pem.as_str())
    );
    assert!(split_identity_pem(&identity.cert_pem).is_err());
    assert!(split_identity_pem(&identity.key_pem).is_err());
}

#[test]
fn usages_have_kubernetes_names() {
    for usage in Usage::ALL {
        assert_eq!(usage.name().parse::<Usage>().unwrap(), *usage);
    }
    assert!(matches!("teleport".parse::<Usage>(), Err(Error::UnknownUsage(_))));
}

#[test]
fn what_a_successor_issues_is_accepted_by_those_who_know_only_the_old_authority() {
    let dir = tempfile::tempdir().unwrap();
    let files = AuthorityFiles::in_dir(dir.path());
    let old = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    let old_file = path(dir.path(), "old.pem");
    std::fs::write(&old_file, old.cert_pem()).unwrap();
    let issued_before = old
        .issue(&Profile::server(Subject::new("before", &[]), names(), DAY), now())
        .unwrap();
    let new = old.succeeded(10 * DAY, now()).unwrap();
    new.save(&files).unwrap();
    let new = CertificateAuthority::load_files(&files).unwrap();
    assert_ne!(new.public_key_hash(), old.public_key_hash());
    let after = new
        .issue(&Profile::server(Subject::new("after", &[]), names(), DAY), now())
        .unwrap();
    let chain = pem_certificates(&after.cert_pem).unwrap();
    assert_eq!(
        chain.len(),
        2,
        "its own authority comes along, signed by the old one"
    );
    assert!(
        Certificate::from_der(&chain[1])
            .unwrap()
            .signed_by(old.certificate())
    );
    assert!(!old.signed(&Certificate::from_der(&chain[0]).unwrap()));

    let verify = |trusted: &str, identity: &Identity| {
        let file = path(dir.path(), "chain.pem");
        std::fs::write(&file, &identity.cert_pem).unwrap();
        openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-CAfile",
            trusted,
            "-untrusted",
            &file,
            &file,
        ]);
    };
    let bundle = path(dir.path(), CA_CERT_FILE);
    verify(&old_file, &issued_before);
    verify(&old_file, &after);
    verify(&bundle, &issued_before);
    verify(&bundle, &after);
}

#[test]
fn an_interrupted_change_of_the_key_leaves_a_whole_authority() {
    let dir = tempfile::tempdir().unwrap();
    let files = AuthorityFiles::in_dir(dir.path());
    let old = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    let key = std::fs::read(&files.key).unwrap();
    old.succeeded(DAY, now()).unwrap().save(&files).unwrap();
    // The power went before the key was written.
    std::fs::write(&files.key, key).unwrap();
    let found = CertificateAuthority::load_files(&files).unwrap();
    assert_eq!(found.public_key_hash(), old.public_key_hash());
    assert_eq!(pem_certificates(found.cert_pem()).unwrap().len(), 2);
}

#[test]
fn nothing_is_written_over_unless_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token.csv");
    knode_pki::files::write_new(&file, b"a", 0o600, false).unwrap();
    let error = knode_pki::files::write_new(&file, b"b", 0o600, false).unwrap_err();
    assert!(
        matches!(error, Error::Exists { .. }) && error.to_string().contains("token.csv"),
        "{error}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"a");
    knode_pki::files::write_new(&file, b"b", 0o600, true).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"b");
}

#[test]
fn certificates_are_found_with_their_keys_and_what_is_wrong_with_these() {
    let dir = tempfile::tempdir().unwrap();
    let ca = CertificateAuthority::load_or_create(dir.path(), "kubernetes", now()).unwrap();
    let write = |stem: &str, identity: &Identity, mode: u32| {
        let (cert, key) = (
            dir.path().join(format!("{stem}.pem")),
            dir.path().join(format!("{stem}-key.pem")),
        );
        knode_pki::files::write_atomic(&cert, identity.cert_pem.as_bytes(), 0o644).unwrap();
        knode_pki::files::write_atomic(&key, identity.key_pem.as_bytes(), mode).unwrap();
    };
    let one = ca
        .issue(&Profile::client(Subject::new("one", &[]), DAY), now())
        .unwrap();
    let two = ca
        .issue(&Profile::client(Subject::new("two", &[]), DAY), now())
        .unwrap();
    write("good", &one, 0o600);
    write("open", &one, 0o640);
    write(
        "mixed",
        &Identity {
            key_pem: two.key_pem,
            ..one
        },
        0o600,
    );
    std::fs::write(
        dir.path().join("broken.crt"),
        "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let inventory = knode_pki::inventory::scan(&[dir.path().to_owned()]).unwrap();
    let of = |name: &str| inventory.found.iter().find(|f| f.file.ends_with(name)).unwrap();
    assert_eq!(of("good.pem").fault, None);
    let weak = of("open.pem").fault.clone().unwrap();
    assert!(
        weak.contains("open-key.pem") && weak.contains("0640") && weak.contains("chmod 600"),
        "{weak}"
    );
    assert!(
        of("mixed.pem")
            .fault
            .clone()
            .unwrap()
            .contains("another certificate's")
    );
    assert!(of(CA_CERT_FILE).certificate.is_ca);
    assert_eq!(inventory.broken.len(), 1);
    assert!(inventory.broken[0].0.ends_with("broken.crt"));
}
