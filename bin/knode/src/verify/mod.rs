//! `knode verify`: a web server on every node behind a NodePort Service, asked from every side.
//!
//! The original walk-through ended with this check and did not notice that its pod's address lay outside
//! the node's lease; here every address is held against the lease of its node.

mod checks;
mod fetch;
mod objects;
mod report;
mod steps;
pub mod web_image;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::cli::VerifyArgs;
use crate::cluster::State;
use crate::layout::Layout;
use crate::progress::Progress;

/// Runs the check; exit code 1 after a table whose first failed row is named again at the end.
pub async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let kubeconfig = kubeconfig(&args)?;
    let client = knode_client::from_kubeconfig(&kubeconfig)
        .with_context(|| format!("use kubeconfig {}", kubeconfig.display()))?
        .client;
    let progress = Progress::start();
    let setup = steps::Setup::new(client, &args, progress.clone());
    if args.image.is_none() {
        progress.done(format!(
            "image {}, which this binary carries (--image names another)",
            web_image::REFERENCE
        ));
    }
    let outcome = setup.create().await;
    let rows = match outcome {
        Ok(()) => setup.ask_everywhere(Duration::from_secs(args.timeout)).await,
        Err(e) => Err(e),
    };
    let failed = rows
        .as_ref()
        .map_or(true, |rows| rows.iter().any(|r| r.failure.is_some()));
    // What failed stays to be looked at.
    if failed {
        progress.done(format!(
            "namespace {} is kept; remove it with kubectl delete namespace",
            setup.namespace()
        ));
    } else if let Err(e) = setup.clean_up().await {
        tracing::warn!(
            error = format!("{e:#}"),
            "verify could not remove its namespace {}",
            setup.namespace()
        );
    }
    let rows = rows?;
    print!("{}", report::table(&rows));
    Ok(match rows.iter().find(|r| r.failure.is_some()) {
        None => ExitCode::SUCCESS,
        Some(first) => {
            eprintln!("{}", report::first_failure(first, &kubeconfig));
            ExitCode::FAILURE
        }
    })
}

fn kubeconfig(args: &VerifyArgs) -> anyhow::Result<PathBuf> {
    if let Some(given) = &args.kubeconfig {
        return Ok(given.clone());
    }
    let layout = Layout::new(&args.data.data_dir);
    let state = State::load(&layout.state_file())?;
    state.control_plane.map(|c| c.kubeconfig).with_context(|| {
        format!(
            "no cluster was started from {}; start one with `knode up`, or name a --kubeconfig",
            layout.data_dir().display()
        )
    })
}
