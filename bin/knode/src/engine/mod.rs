//! `knode engine`: the container engine alone, and commands to an engine over its CRI socket.

mod cli;
mod config;
mod daemon;
mod exec;
mod find;
mod images;
mod inspect;
mod json;
mod list;
mod logs;
mod remove;
mod start;
mod stats;
mod stop;
mod subnet;
mod table;
mod watch;

use std::process::ExitCode;

pub use cli::EngineArgs;
use cli::EngineCommand;
pub use config::runtimes;
pub use start::{Plan, ended, import_ready, open_images, registries};
pub use subnet::forget_masquerade;
pub use watch::serve as tell_pulls;

/// Runs the engine, or a command.
pub async fn run(args: EngineArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        None => daemon::run(args.daemon).await,
        Some(command) => asked(command).await,
    }
}

async fn asked(command: EngineCommand) -> anyhow::Result<ExitCode> {
    match command {
        EngineCommand::Ps { listing, all, quiet } => list::ps(&listing, all, quiet).await?,
        EngineCommand::Pods { listing, quiet } => list::pods(&listing, quiet).await?,
        EngineCommand::Images {
            listing, watch: true, ..
        } => watch::run(&listing).await?,
        EngineCommand::Images { listing, quiet, .. } => list::images(&listing, quiet).await?,
        EngineCommand::Pull { place, creds, image } => images::pull(&place, &image, creds.as_deref()).await?,
        EngineCommand::Import { data, file } => images::import(&data.data_dir, &file).await?,
        EngineCommand::Export { data, file, images } => {
            images::export(&data.data_dir, &file, &images).await?
        }
        EngineCommand::Pin { data, off, images } => images::pin(&data.data_dir, &images, !off).await?,
        EngineCommand::Logs {
            place,
            follow,
            tail,
            timestamps,
            container,
        } => {
            let wish = logs::Wish {
                follow,
                tail,
                timestamps,
            };
            logs::run(&place, &container, &wish).await?;
        }
        EngineCommand::Exec {
            place,
            interactive,
            tty,
            container,
            command,
        } => return exec::run(&place, &container, command, interactive, tty).await,
        EngineCommand::Inspect { place, ids } => inspect::run(&place, &ids).await?,
        EngineCommand::Rm { place, force, ids } => return remove::rm(&place, &ids, force).await,
        EngineCommand::Prune { place, all } => remove::prune(&place, all).await?,
        EngineCommand::Stats { listing, pods } => stats::run(&listing, pods).await?,
        EngineCommand::Events { listing } => inspect::events(&listing).await?,
    }
    Ok(ExitCode::SUCCESS)
}
