//! Joining by bootstrap token, as recorded of upstream's kubelet.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use http::Request;
use knode_client::{Clock, Connected, SystemClock};
use knode_kubelet_node::{Error, NodeConfig, ensure_client};
use serde_json::{Value, json};
use support::api::{Api, REQUESTS, decode};
use support::{PATIENCE, config, until};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::default())
}

fn join(config: &NodeConfig) -> tokio::task::JoinHandle<Result<Connected, Error>> {
    let config = config.clone();
    tokio::spawn(async move { ensure_client(&config, clock()).await })
}

async fn request(api: &Api) -> (String, Value) {
    until("a certificate request", || {
        let found = api.find(REQUESTS, "kube-apiserver-client-kubelet");
        let first = found.into_iter().next().ok_or(())?;
        Ok::<_, ()>((first["metadata"]["name"].as_str().unwrap().to_owned(), first))
    })
    .await
}

async fn joined(joining: tokio::task::JoinHandle<Result<Connected, Error>>) -> Result<Connected, Error> {
    tokio::time::timeout(PATIENCE, joining)
        .await
        .expect("joining ends")
        .unwrap()
}

#[tokio::test]
async fn a_node_joins_and_its_files_are_upstreams() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let config = config(dir.path());
    api.write_bootstrap(config.bootstrap_kubeconfig.as_ref().unwrap());
    let joining = join(&config);
    let (name, object) = request(&api).await;
    assert!(name.starts_with("node-csr-"), "{name}");
    assert_eq!(
        object["spec"]["signerName"],
        "kubernetes.io/kube-apiserver-client-kubelet"
    );
    assert_eq!(
        object["spec"]["usages"],
        json!(["digital signature", "client auth"])
    );
    assert_eq!(object["spec"]["username"], "system:bootstrap:abcdef");
    assert!(object["spec"].get("expirationSeconds").is_none(), "{object}");
    let parsed =
        knode_pki::SigningRequest::parse(&decode(object["spec"]["request"].as_str().unwrap())).unwrap();
    assert_eq!(
        parsed.subject,
        knode_pki::Subject::new("system:node:node1", &["system:nodes"])
    );
    api.sign(&name);
    let connected = joined(joining).await.unwrap();

    let current = config.cert_dir.join("kubelet-client-current.pem");
    let target = std::fs::read_link(&current).unwrap();
    let file = target.file_name().unwrap().to_str().unwrap().to_owned();
    let date = file
        .strip_prefix("kubelet-client-")
        .and_then(|rest| rest.strip_suffix(".pem"))
        .unwrap();
    assert!(date.len() == 19 && date.split('-').count() == 6, "{file}");
    for private in [&current, &config.kubeconfig] {
        let mode = std::fs::metadata(private).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{}", private.display());
    }
    assert!(!config.cert_dir.join("kubelet-client.key.tmp").exists());
    let kubeconfig = std::fs::read_to_string(&config.kubeconfig).unwrap();
    assert!(
        kubeconfig.contains(current.to_str().unwrap()) && !kubeconfig.contains("token"),
        "{kubeconfig}"
    );
    assert!(kubeconfig.contains("default-auth"), "{kubeconfig}");

    let get = Request::get("/api/v1/nodes/none").body(Vec::new()).unwrap();
    assert!(connected.client.request_text(get).await.is_err());
    let log = api.log();
    assert_eq!(log.last().unwrap().user, "system:node:node1");
    // recordings: kubelet-bootstrap begins with this POST and this streaming watch
    assert_eq!((log[0].method.as_str(), log[0].path.as_str()), ("POST", REQUESTS));
    assert_eq!((log[1].method.as_str(), log[1].path.as_str()), ("GET", REQUESTS));
    for part in [
        format!("fieldSelector=metadata.name%3D{name}"),
        "sendInitialEvents=true".to_owned(),
        "resourceVersionMatch=NotOlderThan".to_owned(),
        "allowWatchBookmarks=true".to_owned(),
    ] {
        assert!(log[1].query.contains(&part), "{part} is not in {}", log[1].query);
    }

    // From now on neither token nor approval is needed.
    std::fs::remove_file(config.bootstrap_kubeconfig.as_ref().unwrap()).unwrap();
    let before = api.log().len();
    joined(join(&config)).await.unwrap();
    assert_eq!(api.log().len(), before);
}

#[tokio::test]
async fn a_restarted_node_takes_up_its_pending_request() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let config = config(dir.path());
    api.write_bootstrap(config.bootstrap_kubeconfig.as_ref().unwrap());
    let first = join(&config);
    let (name, _) = request(&api).await;
    first.abort();
    assert!(first.await.is_err(), "the first start ends before the approval");
    let second = join(&config);
    until("the second start finds the request", || {
        let log = api.log();
        let posts = log.iter().filter(|request| request.method == "POST").count();
        let watches = log
            .iter()
            .filter(|request| request.query.contains("watch=true"))
            .count();
        if posts == 2 && watches >= 1 && log.last().unwrap().query.contains("watch=true") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert_eq!(api.find(REQUESTS, "").len(), 1);
    api.sign(&name);
    joined(second).await.unwrap();
}

#[tokio::test]
async fn a_denied_request_ends_the_joining_and_the_next_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let config = config(dir.path());
    api.write_bootstrap(config.bootstrap_kubeconfig.as_ref().unwrap());
    let joining = join(&config);
    let (name, _) = request(&api).await;
    api.deny(&name);
    let error = joined(joining).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("certificate request {name} was denied: No: not you")
    );
    assert!(!config.kubeconfig.exists());
    let again = join(&config);
    until("another request", || {
        let found = api.find(REQUESTS, "");
        if found.len() == 2 {
            Ok(())
        } else {
            Err(found.len())
        }
    })
    .await;
    again.abort();
}

#[tokio::test]
async fn without_any_credentials_the_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        bootstrap_kubeconfig: None,
        ..config(dir.path())
    };
    let error = joined(join(&config)).await.unwrap_err();
    assert!(
        error.to_string().contains(config.kubeconfig.to_str().unwrap()),
        "{error}"
    );
}

#[tokio::test]
async fn a_request_of_the_same_name_with_another_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let config = config(dir.path());
    api.write_bootstrap(config.bootstrap_kubeconfig.as_ref().unwrap());
    let first = join(&config);
    let (name, mut object) = request(&api).await;
    first.abort();
    assert!(first.await.is_err());
    let other = knode_pki::PrivateKey::generate();
    let subject = knode_pki::Subject::new("system:node:node1", &["system:nodes"]);
    let pem = knode_pki::SigningRequest::create(&other, &subject, &Default::default()).unwrap();
    object["spec"]["request"] = json!(support::api::encode(&pem));
    api.put(&format!("{REQUESTS}/{name}"), object);
    let error = joined(join(&config)).await.unwrap_err();
    assert!(
        matches!(error, Error::ForeignRequest { what: "key", .. }),
        "{error}"
    );
}

/// A kubeconfig of the node with a certificate that was issued then, for an hour.
fn write_own(api: &Api, config: &NodeConfig, issued: jiff::Timestamp) {
    let hour = std::time::Duration::from_secs(3600);
    let subject = knode_pki::Subject::new("system:node:node1", &["system:nodes"]);
    let identity = api
        .ca
        .issue(&knode_pki::Profile::client(subject, hour), issued)
        .unwrap();
    let store = knode_kubelet_node::CertificateStore::new(&config.cert_dir, "kubelet-client");
    store.update(&identity, issued).unwrap();
    let current = knode_client::Material::File(store.current_path());
    let access = knode_client::Access {
        client_cert: Some(current.clone()),
        client_key: Some(current),
        ..api.access()
    };
    knode_pki::kubeconfig::Kubeconfig::for_access(&access)
        .write(&config.kubeconfig)
        .unwrap();
}

#[tokio::test]
async fn a_node_that_was_off_past_its_certificates_end_asks_by_its_bootstrap_credential() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let config = config(dir.path());
    api.write_bootstrap(config.bootstrap_kubeconfig.as_ref().unwrap());
    write_own(
        &api,
        &config,
        jiff::Timestamp::now() - jiff::SignedDuration::from_hours(2),
    );
    let joining = join(&config);
    let (name, object) = request(&api).await;
    assert_eq!(object["spec"]["username"], "system:bootstrap:abcdef");
    api.sign(&name);
    joined(joining).await.unwrap();
}

#[tokio::test]
async fn without_a_bootstrap_credential_it_is_said_what_has_ended_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let config = NodeConfig {
        bootstrap_kubeconfig: None,
        ..config(dir.path())
    };
    for (hours, says) in [(2, "its certificate ended at"), (-1, "is the clock right?")] {
        write_own(
            &api,
            &config,
            jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours),
        );
        let before = std::fs::read(&config.kubeconfig).unwrap();
        let error = joined(join(&config)).await.unwrap_err().to_string();
        for part in [says, config.kubeconfig.to_str().unwrap(), "knode token create"] {
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        assert_eq!(std::fs::read(&config.kubeconfig).unwrap(), before);
    }
}

/// A clock whose seconds are a hundredth as long.
struct Hurried(SystemClock);

impl Clock for Hurried {
    fn now(&self) -> jiff::Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> std::time::Duration {
        self.0.monotonic() * 100
    }

    fn sleep(&self, duration: std::time::Duration) -> futures::future::BoxFuture<'static, ()> {
        self.0.sleep(duration / 100)
    }
}

#[tokio::test]
async fn a_token_that_was_revoked_is_named_with_its_file_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let config = config(dir.path());
    let bootstrap = config.bootstrap_kubeconfig.as_ref().unwrap();
    let access = knode_client::Access {
        token: Some(knode_client::Material::Data("abcdef.ffffffffffffffff".to_owned())),
        ..api.access()
    };
    knode_pki::kubeconfig::Kubeconfig::for_access(&access)
        .write(bootstrap)
        .unwrap();
    let refused = ensure_client(&config, Arc::new(Hurried(SystemClock::default()))).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::BootstrapRefused { .. }), "{error}");
    let text = error.to_string();
    for part in [bootstrap.to_str().unwrap(), "knode token create", "deleted"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!config.kubeconfig.exists());
}

#[tokio::test]
async fn another_nodes_identity_is_neither_used_nor_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let own = config(dir.path());
    api.write_bootstrap(own.bootstrap_kubeconfig.as_ref().unwrap());
    write_own(&api, &own, jiff::Timestamp::now());
    let before = std::fs::read(&own.kubeconfig).unwrap();
    let renamed = NodeConfig {
        node_name: "node2".to_owned(),
        ..own.clone()
    };
    let error = joined(join(&renamed)).await.unwrap_err().to_string();
    for part in ["system:node:node1", "node2", own.kubeconfig.to_str().unwrap()] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert_eq!(std::fs::read(&own.kubeconfig).unwrap(), before);
    joined(join(&own)).await.expect("under its own name it is good");
}
