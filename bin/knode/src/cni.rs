//! `knode cni`: the pod network as a CNI plugin.

use std::process::ExitCode;

use anyhow::Context;

/// Does what the environment and standard input ask for, and answers on standard output.
pub async fn run() -> anyhow::Result<ExitCode> {
    let done = knode_podnet::cni_process().await;
    Ok(if done.context("talk with the container engine")? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
