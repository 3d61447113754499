//! From a bootstrap token to an identity of one's own (TLS bootstrapping).

mod name;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use knode_client::{
    Access, Api, Backoff, Clock, Connected, Material, Retry, connect, from_kubeconfig, status_code,
};
use knode_pki::kubeconfig::Kubeconfig;
use knode_pki::{Certificate, Identity, PrivateKey, Subject, SubjectAltNames, files};

pub use name::request_name;

use crate::certificate::{
    CLIENT_SIGNER, CertificateStore, PendingRequest, request_pem, usages_of, wait_signed,
};
use crate::config::NodeConfig;
use crate::{Error, Result};

/// How long an approval is waited for.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long a credential may be refused before it counts as wrong.
const REFUSED: Duration = Duration::from_secs(15);
/// The key of a request under way, so that a restart finds the same request again.
const PENDING_KEY: &str = "kubelet-client.key.tmp";
const RETRY: Backoff = Backoff {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(5),
    factor: 2.0,
    jitter: 0.1,
};

/// Files `kubelet-client-…`.
pub(crate) const CLIENT_PREFIX: &str = "kubelet-client";

/// The user that a node is.
pub(crate) fn node_subject(node_name: &str) -> Subject {
    Subject::new(format!("system:node:{node_name}"), &["system:nodes"])
}

/// A client with the node's own certificate: the one that the kubeconfig names if it is still valid, else a new one
/// requested with the bootstrap kubeconfig. Waits for the API server and for the approval.
///
/// # Errors
/// [`Error::NoCredentials`], [`Error::Denied`], [`Error::NotSigned`] and the others of the request.
pub async fn ensure_client(config: &NodeConfig, clock: Arc<dyn Clock>) -> Result<Connected> {
    let lacking = match credential(config, clock.now())? {
        Credential::Good => return from_kubeconfig(&config.kubeconfig).map_err(Error::Client),
        Credential::Lacking(why) => why,
    };
    let Some(file) = &config.bootstrap_kubeconfig else {
        return Err(Error::NoCredentials {
            path: config.kubeconfig.clone(),
            why: lacking,
        });
    };
    tracing::info!(
        kubeconfig = %config.kubeconfig.display(),
        why = lacking,
        bootstrap = %file.display(),
        "asking for a certificate with the bootstrap credential"
    );
    let bootstrap = Kubeconfig::load_access(file)?;
    let store = CertificateStore::new(&config.cert_dir, CLIENT_PREFIX);
    let have = store
        .current()?
        .is_some_and(|identity| is_usable(&identity.cert_pem, clock.now()));
    if !have {
        let requested = request_certificate(config, &bootstrap, &store, clock.as_ref()).await;
        requested.map_err(|error| match &error {
            Error::Request { source, .. } if status_code(source) == Some(401) => Error::BootstrapRefused {
                path: file.clone(),
                server: bootstrap.server.clone(),
                why: lacking,
            },
            _ => error,
        })?;
    }
    let access = Access {
        client_cert: Some(Material::File(store.current_path())),
        client_key: Some(Material::File(store.current_path())),
        token: None,
        ..bootstrap
    };
    if let Some(parent) = config.kubeconfig.parent() {
        files::create_private_dir(parent)?;
    }
    Kubeconfig::for_access(&access).write(&config.kubeconfig)?;
    from_kubeconfig(&config.kubeconfig).map_err(Error::Client)
}

/// What a kubeconfig is good for.
enum Credential {
    Good,
    /// Why not.
    Lacking(String),
}

fn credential(config: &NodeConfig, now: Timestamp) -> Result<Credential> {
    let kubeconfig = &config.kubeconfig;
    if !kubeconfig.exists() {
        return Ok(Credential::Lacking("it does not exist".to_owned()));
    }
    let access = Kubeconfig::load_access(kubeconfig)?;
    if access.token.is_some() {
        return Ok(Credential::Good);
    }
    let certificate = match &access.client_cert {
        Some(Material::File(path)) => files::read_optional(path)?,
        Some(Material::Data(text)) => Some(text.clone()),
        None => None,
    };
    let Some(found) = certificate.and_then(|pem| Certificate::from_pem(&pem).ok()) else {
        return Ok(Credential::Lacking(
            "it has no readable client certificate".to_owned(),
        ));
    };
    let (shown, own) = (
        &found.subject.common_name,
        node_subject(&config.node_name).common_name,
    );
    if shown.starts_with("system:node:") && *shown != own {
        // Another node's identity is neither used nor written over.
        return Err(Error::OtherNode {
            path: kubeconfig.clone(),
            shown: shown.clone(),
            node: config.node_name.clone(),
        });
    }
    Ok(if now >= found.not_after {
        Credential::Lacking(format!("its certificate ended at {}", found.not_after))
    } else if now < found.not_before {
        Credential::Lacking(format!(
            "its certificate begins at {}, and this machine's clock says {now:.0}: is the clock right?",
            found.not_before
        ))
    } else {
        Credential::Good
    })
}

fn is_usable(cert_pem: &str, now: Timestamp) -> bool {
    Certificate::from_pem(cert_pem).is_ok_and(|certificate| certificate.is_valid_at(now))
}

async fn request_certificate(
    config: &NodeConfig,
    bootstrap: &Access,
    store: &CertificateStore,
    clock: &dyn Clock,
) -> Result<()> {
    let client = connect(bootstrap).map_err(Error::Client)?.client;
    let requests: Api<CertificateSigningRequest> = Api::all(client);
    files::create_private_dir(&config.cert_dir)?;
    let key_path = config.cert_dir.join(PENDING_KEY);
    let key = pending_key(&key_path)?;
    let subject = node_subject(&config.node_name);
    let name = request_name(&key, &subject, &usages_of(CLIENT_SIGNER))?;
    let pem = request_pem(&key, &subject, &SubjectAltNames::default())?;
    let request = PendingRequest {
        signer: CLIENT_SIGNER,
        name: Some(name),
        pem,
        key,
        lifetime: config.certificate_lifetime,
    };
    let name = send_patiently(&request, &requests, clock).await?;
    tracing::info!(
        name,
        "waiting for the node's certificate; where nothing approves it, `kubectl certificate approve` with this name does"
    );
    let signed = wait_signed(requests, &name, &request.key, Some(PATIENCE), clock).await;
    if matches!(
        signed,
        Err(Error::Denied { .. } | Error::Failed { .. } | Error::ForeignCertificate(_))
    ) {
        // Another try must be another request.
        files::remove(&key_path)?;
    }
    let identity = Identity {
        cert_pem: signed?,
        key_pem: request.key.to_pem()?,
    };
    store.update(&identity, clock.now())?;
    Ok(files::remove(&key_path)?)
}

/// The API server may not be up yet, or not have its rules yet.
async fn send_patiently(
    request: &PendingRequest,
    requests: &Api<CertificateSigningRequest>,
    clock: &dyn Clock,
) -> Result<String> {
    let mut retry = Retry::new(RETRY);
    let start = clock.monotonic();
    loop {
        let error = match request.send(requests).await {
            Ok(name) => return Ok(name),
            Err(error) => error,
        };
        let patience = match &error {
            Error::Request { source, .. } => match status_code(source) {
                Some(400 | 422) => Duration::ZERO,
                // A token may be newer than what the server knows, but not for long.
                Some(401) => REFUSED,
                _ => PATIENCE,
            },
            _ => Duration::ZERO,
        };
        if clock.monotonic().saturating_sub(start) >= patience {
            return Err(error);
        }
        if retry.failures() == 0 || retry.failures() == 10 {
            tracing::warn!(error = &error as &dyn std::error::Error, "trying on");
        }
        clock.sleep(retry.failed()).await;
    }
}

fn pending_key(path: &Path) -> Result<PrivateKey> {
    if path.exists() {
        return Ok(PrivateKey::from_pem(&files::read_private(path)?)?);
    }
    let key = PrivateKey::generate();
    files::write_atomic(path, key.to_pem()?.as_bytes(), files::PRIVATE)?;
    Ok(key)
}
