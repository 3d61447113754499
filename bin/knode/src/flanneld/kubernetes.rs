use std::path::Path;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use knode_client::{Access, Api, Client, Material};
use knode_overlay::KubernetesLeases;
use knode_pki::kubeconfig::Kubeconfig;

/// Where a pod's account lies.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The lease store of the node that this daemon runs on: `NODE_NAME`, or that of the pod `POD_NAME` in
/// `POD_NAMESPACE`, as upstream.
pub async fn leases(
    kubeconfig: Option<&Path>,
    server: Option<&str>,
    prefix: &str,
    announce: bool,
) -> anyhow::Result<KubernetesLeases> {
    let connected = match (kubeconfig, server) {
        // A kubeconfig that is renewed while the overlay runs is taken up.
        (Some(path), None) => knode_client::from_kubeconfig(path)
            .with_context(|| format!("use -kubeconfig-file {}", path.display()))?,
        _ => {
            let access = access(kubeconfig, server)?;
            knode_client::connect(&access).with_context(|| format!("use {}", access.server))?
        }
    };
    let node = node_name(&connected.client).await?;
    Ok(KubernetesLeases::start_prefixed(connected.client, node, prefix).announcing(announce))
}

/// As upstream: a server that is named beats the kubeconfig's, and without a kubeconfig is asked by nobody in particular.
fn access(kubeconfig: Option<&Path>, server: Option<&str>) -> anyhow::Result<Access> {
    let access = match (kubeconfig, server) {
        (Some(path), _) => Kubeconfig::load_access(path)
            .with_context(|| format!("use -kubeconfig-file {}", path.display()))?,
        (None, Some(_)) => Access::default(),
        (None, None) => account()?,
    };
    Ok(match server {
        Some(server) => Access {
            server: server.to_owned(),
            ..access
        },
        None => access,
    })
}

/// The way to the API server that a pod has by its account.
pub fn account() -> anyhow::Result<Access> {
    let variable =
        |name: &str| std::env::var(name).with_context(|| format!("there is neither a kubeconfig nor {name}"));
    let (host, port) = (
        variable("KUBERNETES_SERVICE_HOST")?,
        variable("KUBERNETES_SERVICE_PORT")?,
    );
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    let file = |name: &str| Some(Material::File(Path::new(ACCOUNT).join(name)));
    Ok(Access {
        server: format!("https://{host}:{port}"),
        ca: file("ca.crt"),
        tls_server_name: None,
        client_cert: None,
        client_key: None,
        token: file("token"),
        namespace: None,
    })
}

async fn node_name(client: &Client) -> anyhow::Result<String> {
    if let Ok(name) = std::env::var("NODE_NAME") {
        return Ok(name);
    }
    let (Ok(pod), Ok(namespace)) = (std::env::var("POD_NAME"), std::env::var("POD_NAMESPACE")) else {
        bail!("the environment needs NODE_NAME, or POD_NAME and POD_NAMESPACE");
    };
    let found = Api::<Pod>::namespaced(client.clone(), &namespace).get(&pod).await;
    let found = found.with_context(|| format!("look for the pod {namespace}/{pod}"))?;
    found
        .spec
        .and_then(|s| s.node_name)
        .context("the pod has no node yet")
}
