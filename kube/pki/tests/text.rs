//! Kubeconfigs, tokens, and the rotation plan.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use knode_pki::kubeconfig::{Access, Kubeconfig, Material};
use knode_pki::rotation::{self, Plan};
use knode_pki::{BootstrapToken, Error, JwtError, ServiceAccountKey};
use serde_json::json;

const FLEET: &str = r"
apiVersion: v1
kind: Config
preferences: {}
current-context: b
clusters:
- name: one
  cluster: {server: 'https://one:6443', certificate-authority: ca.pem}
- name: two
  cluster: {server: 'https://two:6443', certificate-authority-data: Y2E=, tls-server-name: api}
users:
- name: u
  user: {client-certificate: pki/c.pem, client-key: /abs/k.pem}
- name: t
  user: {token: abc, tokenFile: ''}
contexts:
- name: a
  context: {cluster: one, user: u, namespace: ns}
- name: b
  context: {cluster: two, user: t}
";

#[test]
fn the_current_context_is_taken() {
    let mut config = Kubeconfig::parse(FLEET, "fleet").unwrap();
    let access = config.access(Path::new("/etc/k"), "fleet").unwrap();
    assert_eq!(access.server, "https://two:6443");
    assert_eq!(access.ca, Some(Material::Data("ca".to_owned())));
    assert_eq!(access.tls_server_name.as_deref(), Some("api"));
    assert_eq!(access.token, Some(Material::Data("abc".to_owned())));
    config.current_context = "a".to_owned();
    let access = config.access(Path::new("/etc/k"), "fleet").unwrap();
    assert_eq!(access.ca, Some(Material::File("/etc/k/ca.pem".into())));
    assert_eq!(
        access.client_cert,
        Some(Material::File("/etc/k/pki/c.pem".into()))
    );
    assert_eq!(access.client_key, Some(Material::File("/abs/k.pem".into())));
    assert_eq!(access.namespace.as_deref(), Some("ns"));
}

#[test]
fn what_is_written_is_read_again_and_unknown_fields_stay() {
    let config = Kubeconfig::parse(FLEET, "fleet").unwrap();
    assert_eq!(
        Kubeconfig::parse(&config.to_yaml().unwrap(), "again").unwrap(),
        config
    );
    let access = Access {
        server: "https://10.0.0.1:6443".to_owned(),
        ca: Some(Material::Data("ca\n".to_owned())),
        client_cert: Some(Material::File(
            "/var/lib/kubelet/pki/kubelet-client-current.pem".into(),
        )),
        client_key: Some(Material::File(
            "/var/lib/kubelet/pki/kubelet-client-current.pem".into(),
        )),
        namespace: Some("default".to_owned()),
        ..Access::default()
    };
    let yaml = Kubeconfig::for_access(&access).to_yaml().unwrap();
    for name in ["default-cluster", "default-auth", "default-context"] {
        assert!(yaml.contains(name), "{yaml}");
    }
    assert_eq!(
        Kubeconfig::parse(&yaml, "k")
            .unwrap()
            .access(Path::new("/"), "k")
            .unwrap(),
        access
    );
}

#[test]
fn dangling_names_and_unsupported_ways_are_named() {
    let refused = |from: &str, to: &str| {
        Kubeconfig::parse(&FLEET.replace(from, to), "f").and_then(|config| config.access(Path::new("/"), "f"))
    };
    let error = refused("current-context: b", "current-context: c").unwrap_err();
    assert_eq!(error.to_string(), "kubeconfig f: no context named \"c\"");
    let error = refused("user: t}", "user: ghost}").unwrap_err();
    assert_eq!(error.to_string(), "kubeconfig f: no user named \"ghost\"");
    let error = refused("token: abc", "exec: {command: x}").unwrap_err();
    assert!(
        matches!(error, Error::Unsupported { feature: "exec", .. }),
        "{error}"
    );
    let error = refused("tls-server-name: api", "insecure-skip-tls-verify: true").unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unsupported {
                feature: "insecure-skip-tls-verify",
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(refused("Y2E=", "a-b"), Err(Error::Kubeconfig { .. })));
    assert!(matches!(
        refused("clusters:", "clusters: 7 #"),
        Err(Error::KubeconfigSyntax { .. })
    ));
}

#[test]
fn bootstrap_tokens_are_strict_and_hide_their_secret() {
    let token: BootstrapToken = "abcdef.0123456789abcdef".parse().unwrap();
    assert_eq!((token.id(), token.secret()), ("abcdef", "0123456789abcdef"));
    assert_eq!(token.to_string(), "abcdef.0123456789abcdef");
    assert_eq!(token.user_name(), "system:bootstrap:abcdef");
    assert_eq!(token.secret_name(), "bootstrap-token-abcdef");
    assert!(!format!("{token:?}").contains("0123456789abcdef"));
    for wrong in [
        "",
        "abcdef",
        "ABCDEF.0123456789abcdef",
        "abcdef.0123456789abcde",
        "abcdef.0123456789abcdeé",
        "abcde.00123456789abcdef",
    ] {
        assert!(wrong.parse::<BootstrapToken>().is_err(), "{wrong:?}");
    }
    let made = BootstrapToken::generate();
    assert_eq!(made.to_string().parse::<BootstrapToken>().unwrap(), made);
    assert_ne!(made, BootstrapToken::generate());
}

#[test]
fn tokens_are_verified_by_key_and_algorithm() {
    let key = ServiceAccountKey::generate().unwrap();
    let claims = json!({"sub": "system:serviceaccount:default:default", "exp": 1});
    let token = key.sign(&claims);
    assert_eq!(key.verify(&token).unwrap(), claims);
    let other = ServiceAccountKey::generate().unwrap();
    assert!(matches!(other.verify(&token), Err(JwtError::UnknownKey(_))));
    let mut both = other.verifying_keys();
    both.extend(key.verifying_keys());
    assert_eq!(both.verify(&token).unwrap(), claims);

    let parts: Vec<&str> = token.split('.').collect();
    let foreign = other.sign(&json!({"sub": "root"}));
    let payload = foreign.split('.').nth(1).unwrap();
    let forged = format!("{}.{payload}.{}", parts[0], parts[2]);
    assert!(matches!(key.verify(&forged), Err(JwtError::Signature)));
    // {"alg":"none"}
    let none = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
    assert!(matches!(key.verify(&none), Err(JwtError::Algorithm(_))));
    assert!(matches!(key.verify("a.b"), Err(JwtError::Malformed)));
    let jwks = both.jwks();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
    assert_eq!(jwks["keys"][1]["kid"], key.id());
    assert_eq!(jwks["keys"][1]["x"].as_str().unwrap().len(), 43);
}

#[test]
fn renewal_is_due_between_70_and_90_percent() {
    let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let end = begin + SignedDuration::from_secs(1000);
    assert_eq!(
        rotation::deadline(begin, end, 0.0),
        begin + SignedDuration::from_secs(700)
    );
    assert_eq!(
        rotation::deadline(begin, end, 0.5),
        begin + SignedDuration::from_secs(800)
    );
    assert!(rotation::deadline(begin, end, 0.999_999) <= begin + SignedDuration::from_secs(900));
    assert_eq!(rotation::deadline(end, begin, 0.5), end);
    let due = begin + SignedDuration::from_secs(800);
    assert_eq!(rotation::plan(begin, end, 0.5, begin), Plan::Wait(due));
    assert_eq!(rotation::plan(begin, end, 0.5, due), Plan::Renew);
}
