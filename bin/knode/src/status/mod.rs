//! `knode status`: what runs here, on one screen.

mod gather;
mod model;
mod screen;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use crate::cli::DataDir;
use crate::layout::Layout;
use crate::output::Format;
use crate::{preflight, shutdown};

/// Clears the screen and goes to its beginning.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What `knode status` can be told.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// Look again and again until interrupted.
    #[arg(long, short)]
    pub watch: bool,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub interval: u64,
    /// How to print; JSON with --watch is one object a line.
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// Prints it; exit code 1 if no daemon answers.
pub async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode status")?;
    let layout = Layout::new(&args.data.data_dir);
    if args.watch {
        let mut tick = tokio::time::interval(Duration::from_secs(args.interval));
        let end = shutdown::asked_by_signal();
        tokio::pin!(end);
        loop {
            tokio::select! {
                _ = tick.tick() => drop(show(&layout, &args).await?),
                signal = &mut end => return Ok(signal.map(|_| ExitCode::SUCCESS)?),
            }
        }
    }
    Ok(if show(&layout, &args).await? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether a daemon has answered.
async fn show(layout: &Layout, args: &StatusArgs) -> anyhow::Result<bool> {
    let status = gather::all(layout).await;
    let text = match (args.output, args.watch) {
        (Format::Json, true) => serde_json::to_string(&status)? + "\n",
        (Format::Json, false) => serde_json::to_string_pretty(&status)? + "\n",
        (Format::Text, true) => format!("{CLEAR}{}", screen::render(&status, Timestamp::now())),
        (Format::Text, false) => screen::render(&status, Timestamp::now()),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(status.daemon.is_some())
}
