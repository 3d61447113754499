//! `knode cni`: the pod network as a CNI plugin.

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;

/// Does what the environment and standard input ask for, and answers on standard output.
pub async fn run() -> anyhow::Result<ExitCode> {
    let mut input = Vec::new();
    std::io::stdin()
        .read_to_end(&mut input)
        .context("read the network's configuration")?;
    let answer = knode_podnet::cni_plugin(|key| std::env::var(key).ok(), &input).await;
    if !answer.output.is_empty() {
        println!("{}", answer.output);
    }
    Ok(if answer.success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
