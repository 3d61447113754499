use jiff::Timestamp;
use knode_pki::{CertificateAuthority, Profile, Subject};
use serde_json::{Value, json};

use crate::find;

fn authority(name: &str) -> CertificateAuthority {
    CertificateAuthority::create(name, Timestamp::now()).unwrap()
}

fn bundle(name: &str, signer: &str, text: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": text}})
}

fn errors(bundle: &Value) -> Vec<String> {
    let kind = find("certificates.k8s.io", "v1beta1", "clustertrustbundles").unwrap();
    let errors = kind.strategy.validate(bundle);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_bundle_holds_authorities_each_once() {
    let (one, other) = (authority("one"), authority("other"));
    let day = std::time::Duration::from_secs(86_400);
    let leaf = one.issue(&Profile::client(Subject::new("x", &[]), day), Timestamp::now());
    let (a, b, leaf) = (one.cert_pem(), other.cert_pem(), leaf.unwrap().cert_pem);
    assert_eq!(
        errors(&bundle("b", "", &format!("said: by me\n{a}\n{b}"))),
        [""; 0]
    );
    let head = "-----BEGIN CERTIFICATE-----\n";
    for (text, why) in [
        (String::new(), "at least one trust anchor"),
        (
            format!("{head}?\n-----END CERTIFICATE-----"),
            "at least one trust anchor",
        ),
        (format!("{a}{leaf}"), "entry 1 does not have the CA bit set"),
        (format!("{a}{b}{a}"), "duplicate trust anchor (indices [0 2])"),
        (
            a.replace("CERTIFICATE", "PRIVATE KEY"),
            "entry 0 has bad block type: PRIVATE KEY",
        ),
        (
            a.replace(head, &format!("{head}Key: value\n\n")),
            "entry 0 has PEM block headers",
        ),
        (
            a.replace(&format!("{head}M"), &format!("{head}N")),
            "entry 0 does not parse as X.509",
        ),
        (format!("{a}{}", " ".repeat(1 << 20)), "Too long"),
    ] {
        let told = errors(&bundle("b", "", &text));
        assert!(told.len() == 1 && told[0].contains(why), "{why}: {told:?}");
    }
}

#[test]
fn a_bundle_is_named_after_its_signer() {
    let one = authority("one");
    let told = |name: &str, signer: &str| errors(&bundle(name, signer, one.cert_pem()));
    assert_eq!(told("example.com:mine:a", "example.com/mine"), [""; 0]);
    for (name, signer, why) in [
        (
            "example.com:mine:a",
            "",
            "without signer name must not have \":\"",
        ),
        ("A", "", "RFC 1123 subdomain"),
        (
            "a",
            "example.com/mine",
            "must be named with prefix example.com:mine:",
        ),
        ("example.com:mine:A", "example.com/mine", "RFC 1123 subdomain"),
        (
            "example.com:mine:x:a",
            "example.com/mine/x",
            "of the form 'example.com/signer-name'",
        ),
        ("example:mine:a", "example/mine", "at least two segments"),
        ("e_x.com:mine:a", "e_x.com/mine", "validating label \"e_x\""),
    ] {
        let told = told(name, signer);
        assert!(told.iter().any(|told| told.contains(why)), "{why}: {told:?}");
    }
}

#[test]
fn a_bundle_stays_its_signers() {
    let kind = find("certificates.k8s.io", "v1beta1", "clustertrustbundles").unwrap();
    let old = bundle("e.io:x:a", "e.io/x", "kept from before");
    let update = |new: &Value| -> Vec<String> {
        let errors = kind.strategy.validate_update(new, &old);
        errors.iter().map(ToString::to_string).collect()
    };
    assert_eq!(update(&old), [""; 0], "what does not change is not looked at");
    assert_eq!(update(&bundle("e.io:x:a", "e.io/x", "other")).len(), 1);
    let told = update(&bundle("e.io:x:a", "", "kept from before"));
    assert!(
        told.iter().any(|told| told.contains("field is immutable")),
        "{told:?}"
    );
}
