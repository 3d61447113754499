//! `knode join`: from a URL, a token and a hash to a node.

mod discovery;
pub mod networks;
mod unverified;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use knode_pki::Certificate;
use knode_pki::kubeconfig::{Access, Kubeconfig, Material};

use crate::cli::{JoinArgs, NodeArgs};
use crate::layout::Layout;
use crate::{preflight, up};
use discovery::Pins;
use networks::Networks;

/// Verifies the cluster, keeps its bootstrap kubeconfig and goes on as `knode node`.
pub async fn run(args: JoinArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode join")?;
    let pins = pins(&args)?;
    let layout = Layout::new(&args.data.data_dir);
    let file = layout.bootstrap_kubeconfig();
    let access = match joined(&layout, &args.server, Timestamp::now())? {
        Some(access) => access,
        None => {
            let ca = discovery::authority(&args.server, &args.token, &pins).await?;
            let access = Access {
                server: args.server.clone(),
                ca: Some(Material::Data(ca)),
                token: Some(Material::Data(args.token.to_string())),
                ..Access::default()
            };
            keep(&access, &file)?;
            access
        }
    };
    let networks = ranges(&args, &access).await?;
    up::node(node_args(args, &file, &networks)?).await
}

fn pins(args: &JoinArgs) -> anyhow::Result<Pins> {
    if args.unsafe_skip_ca_hash {
        tracing::warn!("--unsafe-skip-ca-hash: whoever knows the token could pretend to be the cluster");
        return Ok(Pins::None);
    }
    for hash in &args.ca_hash {
        let hex = hash.strip_prefix("sha256:").unwrap_or_default();
        let whole = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        ensure!(
            whole,
            "--ca-hash {hash:?} is not sha256: and 64 hexadecimal digits"
        );
    }
    Ok(Pins::Hashes(args.ca_hash.clone()))
}

/// The node's own identity, where an earlier join to this server has got one that is good; the token of that join may
/// have ended since.
fn joined(layout: &Layout, server: &str, now: Timestamp) -> anyhow::Result<Option<Access>> {
    let certificate = layout.cert_dir().join("kubelet-client-current.pem");
    let (bootstrap, own) = (layout.bootstrap_kubeconfig(), layout.kubelet_kubeconfig());
    let Some(pem) = knode_pki::files::read_optional(&certificate)? else {
        return Ok(None);
    };
    if !Certificate::from_pem(&pem)?.is_valid_at(now) || !bootstrap.exists() || !own.exists() {
        return Ok(None);
    }
    let access = Kubeconfig::load_access(&bootstrap)?;
    ensure!(
        access.server == server,
        "this machine has joined {} already; `knode down --purge` takes it out of there",
        access.server
    );
    Ok(Some(Kubeconfig::load_access(&own)?))
}

fn keep(access: &Access, file: &Path) -> anyhow::Result<()> {
    if let Some(directory) = file.parent() {
        knode_pki::files::create_private_dir(directory)?;
    }
    Kubeconfig::for_access(access)
        .write(file)
        .context("keep the bootstrap kubeconfig")
}

/// The flags say it, or the cluster does.
async fn ranges(args: &JoinArgs, access: &Access) -> anyhow::Result<Networks> {
    if let (Some(pods), Some(services)) = (&args.pod_cidr, &args.service_cidr) {
        return Ok(Networks {
            pods: pods.clone(),
            services: services.clone(),
        });
    }
    let client = knode_client::connect(access)?.client;
    let told = networks::of_cluster(&client).await?;
    let pods = args.pod_cidr.clone().or(told.as_ref().map(|t| t.pods.clone()));
    let services = args.service_cidr.clone().or(told.map(|t| t.services));
    Ok(Networks {
        pods: pods.context("the cluster doesn't say which addresses its pods have: give --pod-cidr")?,
        services: services
            .context("the cluster doesn't say which addresses its services have: give --service-cidr")?,
    })
}

fn node_args(args: JoinArgs, file: &Path, networks: &Networks) -> anyhow::Result<NodeArgs> {
    Ok(NodeArgs {
        data: args.data,
        node: args.node,
        bootstrap_kubeconfig: file.to_owned(),
        proxy_kubeconfig: args.proxy_kubeconfig,
        cluster_dns: args.cluster_dns,
        pod_cidr: networks
            .pods
            .parse()
            .with_context(|| format!("pod addresses {:?}", networks.pods))?,
        service_cidr: networks
            .services
            .parse()
            .with_context(|| format!("service addresses {:?}", networks.services))?,
    })
}
