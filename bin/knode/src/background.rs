//! `knode up --background`: the same command as a session of its own, followed until it is ready.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::Context;

use crate::cli::DataDir;
use crate::layout::Layout;
use crate::progress::READY;

/// Lines of the log that a failed start shows.
const TAIL: usize = 15;

/// Starts this program again without `--background`, prints its steps, and returns when it is ready or has failed.
pub fn start(data: &DataDir) -> anyhow::Result<ExitCode> {
    let layout = Layout::new(&data.data_dir);
    let log = layout.log_file();
    let existed = layout.data_dir().exists();
    let mut child = spawn(&log)?;
    let stdout = child.stdout.take().context("the started process has no output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("read the started process's output")?;
        if line.ends_with(&format!("] {READY}")) {
            return Ok(ExitCode::SUCCESS);
        }
        println!("{line}");
    }
    let status = child.wait().context("wait for the started process")?;
    eprintln!("knode did not start ({status}); the end of its log:");
    tail(&log).iter().for_each(|line| eprintln!("  {line}"));
    if !existed {
        // A start that was refused leaves no trace; a directory with more than the log in it stays.
        let _ = std::fs::remove_file(&log).and_then(|()| std::fs::remove_dir(layout.data_dir()));
    }
    Ok(ExitCode::FAILURE)
}

fn spawn(log: &Path) -> anyhow::Result<Child> {
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
    let file = file.with_context(|| format!("open the log {}", log.display()))?;
    let program = std::env::current_exe().context("find this program's file")?;
    let arguments = std::env::args_os().skip(1).filter(|a| a != "--background");
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file)
        .process_group(0)
        .spawn()
        .context("start knode in the background")
}

fn tail(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..]
        .iter()
        .map(|l| (*l).to_owned())
        .collect()
}
