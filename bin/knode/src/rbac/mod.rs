//! What proxy, overlay and network policies need beyond the rights of a node: as a manifest, and applied where that is
//! allowed.

mod manifest;
mod review;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use knode_client::Client;
use kube::Api;

pub use manifest::{binding, role};
pub use review::grant;

use crate::server::objects::{EnsureError, put};

/// What `knode rbac` is told.
#[derive(Args, Clone, Debug)]
pub struct RbacArgs {
    /// Apply the manifest instead of printing it.
    #[arg(long, requires = "kubeconfig")]
    pub apply: bool,
    /// With --apply: the kubeconfig of somebody who may grant rights.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Leave out what network policies need: for clusters in which another agent enforces them.
    #[arg(long)]
    pub without_network_policy: bool,
}

/// Prints the manifest, or applies it.
pub async fn run(args: RbacArgs) -> anyhow::Result<ExitCode> {
    let policies = !args.without_network_policy;
    let Some(path) = args.kubeconfig.filter(|_| args.apply) else {
        print!("{}", manifest::text(policies)?);
        return Ok(ExitCode::SUCCESS);
    };
    let client = knode_client::from_kubeconfig(&path)
        .with_context(|| format!("use {}", path.display()))?
        .client;
    apply(&client, policies).await?;
    println!("ClusterRole and ClusterRoleBinding {} are there", manifest::NAME);
    Ok(ExitCode::SUCCESS)
}

/// Makes the role and its binding, or brings what is there to their state.
async fn apply(client: &Client, policies: bool) -> Result<(), EnsureError> {
    put(&Api::all(client.clone()), &role(policies)).await?;
    put(&Api::all(client.clone()), &binding()).await
}
