//! Following which authorities the cluster has, so that the node trusts a new one before the old one ends.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use knode_client::{Api, Change, Client, WatchConfig, WatchError, status_code, watch};
use knode_pki::kubeconfig::{Kubeconfig, Material};
use knode_pki::pem_certificates;

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";

/// Keeps the authorities in these kubeconfigs as the cluster publishes them. What comes here came from a server that
/// the authorities of today vouch for. Files that a kubeconfig names are their owner's and stay, and so does a
/// kubeconfig with a certificate that somebody else has put into it.
pub async fn follow(client: Client, kubeconfigs: [PathBuf; 2]) -> String {
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let mut changes = watch(maps, WatchConfig::fields(format!("metadata.name={NAME}")));
    while let Some(change) = changes.next().await {
        let found = match change {
            Ok(Change::Restarted(list)) => list.into_iter().next(),
            Ok(Change::Applied(map)) => Some(map),
            Ok(Change::Deleted(_)) => None,
            Err(error) if is_forbidden(&error) => {
                tracing::info!(
                    "this cluster does not let nodes follow ConfigMap {NAMESPACE}/{NAME}: a replaced authority must be brought here"
                );
                break;
            }
            Err(_) => None,
        };
        let Some(ca) = found.as_ref().and_then(published) else {
            continue;
        };
        for path in &kubeconfigs {
            match replace(path, &ca) {
                Ok(true) => {
                    tracing::info!(kubeconfig = %path.display(), "the cluster's authorities have changed")
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the cluster's authorities cannot be kept"
                ),
            }
        }
    }
    std::future::pending().await
}

fn is_forbidden(error: &WatchError) -> bool {
    match error {
        WatchError::InitialListFailed(error)
        | WatchError::WatchStartFailed(error)
        | WatchError::WatchFailed(error) => status_code(error) == Some(403),
        WatchError::WatchError(status) => status.code == 403,
        WatchError::NoResourceVersion => false,
    }
}

/// The authorities, PEM, if there are any that can be read.
fn published(map: &ConfigMap) -> Option<String> {
    let text = map.data.as_ref()?.get("kubeconfig")?;
    let kubeconfig = Kubeconfig::parse(text, NAME).ok()?;
    let data = kubeconfig
        .clusters
        .first()?
        .entry
        .cluster
        .certificate_authority_data
        .as_ref()?;
    let ca = String::from_utf8(STANDARD.decode(data).ok()?).ok()?;
    pem_certificates(&ca).is_ok().then_some(ca)
}

fn replace(path: &Path, ca: &str) -> knode_pki::Result<bool> {
    if !path.exists() {
        return Ok(false);
    }
    if matches!(
        Kubeconfig::load_access(path)?.client_cert,
        Some(Material::Data(_))
    ) {
        return Ok(false);
    }
    let mut kubeconfig = Kubeconfig::load(path)?;
    let changed = kubeconfig.replace_authorities(ca);
    if changed {
        kubeconfig.write(path)?;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use knode_pki::CertificateAuthority;
    use knode_pki::kubeconfig::Access;

    use super::*;

    fn kubeconfig(ca: Material) -> Kubeconfig {
        Kubeconfig::for_access(&Access {
            server: "https://192.0.2.1:6443".into(),
            ca: Some(ca),
            token: Some(Material::Data("t".into())),
            ..Access::default()
        })
    }

    #[test]
    fn what_is_published_replaces_what_a_kubeconfig_holds_and_nothing_else() {
        let now = jiff::Timestamp::now();
        let [one, two] = [1, 2].map(|_| CertificateAuthority::create("kubernetes", now).unwrap());
        let text = kubeconfig(Material::Data(two.cert_pem().to_owned()))
            .to_yaml()
            .unwrap();
        let map = |text: String| ConfigMap {
            data: Some(BTreeMap::from([("kubeconfig".to_owned(), text)])),
            ..ConfigMap::default()
        };
        let ca = published(&map(text)).unwrap();
        let path = std::env::temp_dir().join(format!("knode-authority-{}.kubeconfig", std::process::id()));
        kubeconfig(Material::Data(one.cert_pem().to_owned()))
            .write(&path)
            .unwrap();
        assert!(replace(&path, &ca).unwrap());
        assert!(
            !replace(&path, &ca).unwrap(),
            "a second time there is nothing to do"
        );
        let access = Kubeconfig::load_access(&path).unwrap();
        assert_eq!(access.ca, Some(Material::Data(two.cert_pem().to_owned())));
        assert_eq!(access.token, Some(Material::Data("t".into())));
        kubeconfig(Material::File("/etc/ca.pem".into()))
            .write(&path)
            .unwrap();
        assert!(
            !replace(&path, &ca).unwrap(),
            "a file that is named is its owner's"
        );
        std::fs::remove_file(&path).unwrap();
        assert!(!replace(&path, &ca).unwrap());
        let broken = kubeconfig(Material::Data("no certificate".into()))
            .to_yaml()
            .unwrap();
        assert_eq!(published(&map(broken)), None);
    }
}
