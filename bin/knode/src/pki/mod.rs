//! `knode pki`: certificates as files.

mod cli;
mod make;
mod options;
mod places;
mod renew;
mod show;
mod tokens;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use jiff::Timestamp;

pub use cli::PkiCommand;
pub use options::{CertificateOptions, parse_requested_life};

/// Runs one of the commands.
pub fn run(command: PkiCommand) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let lines = match command {
        PkiCommand::Init(args) => make::init(&args, now)?,
        PkiCommand::Issue(args) => make::issue(&args, now)?,
        PkiCommand::Renew(args) => renew::renew(&args, now)?,
        PkiCommand::Kubeconfig(args) => make::kubeconfig(&args, now)?,
        PkiCommand::TokenCsv(args) => make::token_csv(&args)?,
        PkiCommand::Show(args) => {
            let (text, good) = show::show(&args, now)?;
            print!("{text}");
            return Ok(if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
    };
    for line in lines {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}
