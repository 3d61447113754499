//! The end of an engine alone, and of everything that it leaves running.

use std::process::ExitCode;

use crate::down;
use crate::layout::Layout;
use crate::node;
use crate::progress::Progress;

use super::subnet;

/// Ends the daemon if there is one, then pods, links, rules, mounts and control groups. Goes on after errors.
pub async fn all(layout: &Layout, progress: &Progress) -> anyhow::Result<ExitCode> {
    down::end_daemon(layout, progress).await?;
    // While the pods' namespaces are there: plugins look into them.
    let mut errors = node::detach_all(layout).await;
    errors.extend(down::end_pods(layout).await);
    progress.done("pods ended");
    let podnet = knode_podnet::Config::new(layout.podnet_dir());
    errors.extend(
        knode_podnet::teardown(&podnet)
            .iter()
            .map(|e| knode_client::brief(e)),
    );
    errors.extend(subnet::forget_masquerade());
    progress.done("links and rules removed");
    for error in &errors {
        eprintln!("engine: {error}");
    }
    Ok(match errors.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
