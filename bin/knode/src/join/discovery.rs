//! Which cluster it is: what the API server publishes, trusted because a token has signed it and a pin fits
//! (upstream: kubeadm's token discovery).

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use knode_client::Client;
use knode_pki::kubeconfig::{Access, Kubeconfig, Material};
use knode_pki::{BootstrapToken, Certificate, pem_certificates};
use kube::Api;

use super::unverified;

/// Where every cluster that takes tokens publishes itself.
const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
/// How long a new token may wait for its signature.
const SIGNING: Duration = Duration::from_secs(5);
/// Between two looks for it.
const PAUSE: Duration = Duration::from_millis(200);

/// The public keys of which one must be the cluster authority's.
#[derive(Clone, Debug)]
pub enum Pins {
    /// `sha256:<hex>` of a public key.
    Hashes(Vec<String>),
    /// Whoever can sign with the token is believed.
    None,
}

/// The cluster's authority, PEM, after every check.
///
/// # Errors
/// When the server can't be reached, publishes nothing, its publication isn't signed by this token, its authority has
/// another key than the pins say, or the server itself has no certificate of that authority.
pub async fn authority(server: &str, token: &BootstrapToken, pins: &Pins) -> anyhow::Result<String> {
    let kubeconfig = signed(server, token).await?;
    let ca = pinned(&kubeconfig, pins)?;
    // The first answer may have come from anybody; the second comes from a holder of the authority's certificate.
    let client = knode_client::connect(&Access {
        server: server.to_owned(),
        ca: Some(Material::Data(ca.clone())),
        ..Access::default()
    })
    .context("use the cluster's authority")?
    .client;
    let again = read_again(client)
        .await
        .with_context(|| format!("verify {server} by the cluster's authority"))?;
    let same = again.data.as_ref().and_then(|d| d.get("kubeconfig")) == Some(&kubeconfig);
    ensure!(same, "{server} published another cluster when it was asked again");
    Ok(ca)
}

/// What is published, once this token has signed it: the signature follows a new token within moments.
async fn signed(server: &str, token: &BootstrapToken) -> anyhow::Result<String> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}");
    let begun = Instant::now();
    loop {
        let published = unverified::fetch(server, &path)
            .await
            .with_context(|| format!("ask {server} which cluster it is"))?;
        let published: ConfigMap = serde_json::from_slice(&published)
            .with_context(|| format!("read ConfigMap {NAMESPACE}/{NAME}"))?;
        match trusted(&published, token) {
            Err(Distrust::Unsigned(_)) if begun.elapsed() < SIGNING => tokio::time::sleep(PAUSE).await,
            found => return Ok(found?),
        }
    }
}

async fn read_again(client: Client) -> Result<ConfigMap, kube::Error> {
    Api::namespaced(client, NAMESPACE).get(NAME).await
}

/// Why what is published isn't believed.
#[derive(Debug, thiserror::Error)]
enum Distrust {
    #[error("ConfigMap {NAMESPACE}/{NAME} has no key kubeconfig: this cluster doesn't take tokens")]
    Nothing,
    #[error(
        "the cluster knows no token {0}: it has expired or was deleted; make one by `knode token create`"
    )]
    Unsigned(String),
    #[error(
        "the cluster's signature isn't by this token: its second half is wrong, or somebody is in between"
    )]
    Forged,
}

/// The published kubeconfig, if the token has signed it.
fn trusted(published: &ConfigMap, token: &BootstrapToken) -> Result<String, Distrust> {
    let get = |key: &str| published.data.as_ref()?.get(key);
    let kubeconfig = get("kubeconfig").ok_or(Distrust::Nothing)?;
    let signature = get(&format!("jws-kubeconfig-{}", token.id()));
    let signature = signature.ok_or_else(|| Distrust::Unsigned(token.id().to_owned()))?;
    if !token.has_signed(kubeconfig.as_bytes(), signature) {
        return Err(Distrust::Forged);
    }
    Ok(kubeconfig.clone())
}

/// The authority in the kubeconfig, if one of its certificates is pinned.
fn pinned(kubeconfig: &str, pins: &Pins) -> anyhow::Result<String> {
    let parsed = Kubeconfig::parse(kubeconfig, NAME)?;
    let cluster = parsed
        .clusters
        .first()
        .context("the published kubeconfig names no cluster")?;
    let data = cluster.entry.cluster.certificate_authority_data.as_deref();
    let data = data.context("the published kubeconfig has no authority")?;
    let ca = STANDARD
        .decode(data)
        .context("the published authority is not base64")?;
    let ca = String::from_utf8(ca).context("the published authority is not PEM")?;
    let Pins::Hashes(hashes) = pins else { return Ok(ca) };
    let mut keys = Vec::new();
    for der in pem_certificates(&ca)? {
        keys.push(Certificate::from_der(&der)?.public_key_hash());
    }
    let fits = keys
        .iter()
        .any(|key| hashes.iter().any(|pin| pin.eq_ignore_ascii_case(key)));
    ensure!(
        fits,
        "the cluster's authority has the key {}, and --ca-hash says {}: it is another cluster, or somebody is in between",
        keys.join(", "),
        hashes.join(", ")
    );
    Ok(ca)
}

#[cfg(test)]
mod tests {
    use super::*;
    use knode_pki::CertificateAuthority;
    use std::collections::BTreeMap;

    fn published(token: &BootstrapToken, kubeconfig: &str) -> ConfigMap {
        let signature = token.sign(kubeconfig.as_bytes());
        ConfigMap {
            data: Some(BTreeMap::from([
                ("kubeconfig".to_owned(), kubeconfig.to_owned()),
                (format!("jws-kubeconfig-{}", token.id()), signature),
            ])),
            ..ConfigMap::default()
        }
    }

    fn kubeconfig(ca: &CertificateAuthority) -> String {
        let access = Access {
            server: "https://192.0.2.1:6443".into(),
            ca: Some(Material::Data(ca.cert_pem().to_owned())),
            ..Access::default()
        };
        Kubeconfig::for_access(&access).to_yaml().unwrap()
    }

    #[test]
    fn only_what_the_token_signed_is_believed() {
        let (token, other) = (BootstrapToken::generate(), BootstrapToken::generate());
        let right = published(&token, "apiVersion: v1");
        assert_eq!(trusted(&right, &token).unwrap(), "apiVersion: v1");
        let unknown = trusted(&right, &other).unwrap_err().to_string();
        assert!(unknown.contains("knows no token"), "{unknown}");
        let mut forged = right.clone();
        forged
            .data
            .as_mut()
            .unwrap()
            .insert("kubeconfig".into(), "apiVersion: v2".into());
        let forged = trusted(&forged, &token).unwrap_err().to_string();
        assert!(forged.contains("isn't by this token"), "{forged}");
    }

    #[test]
    fn the_authority_must_have_the_pinned_key() {
        let now = jiff::Timestamp::now();
        let (ca, other) = (
            CertificateAuthority::create("kubernetes", now).unwrap(),
            CertificateAuthority::create("kubernetes", now).unwrap(),
        );
        let pin = |ca: &CertificateAuthority| {
            Pins::Hashes(vec![
                knode_pki::public_key_hash(ca.cert_pem()).unwrap().to_uppercase(),
            ])
        };
        assert_eq!(
            pinned(&kubeconfig(&ca), &pin(&ca)).unwrap().trim(),
            ca.cert_pem().trim()
        );
        assert!(pinned(&kubeconfig(&ca), &Pins::None).is_ok());
        let error = pinned(&kubeconfig(&ca), &pin(&other)).unwrap_err().to_string();
        assert!(error.contains("another cluster"), "{error}");
    }
}
