//! `knode install` and `knode uninstall`: the binary as a service of the machine.

pub mod apply;
pub mod assets;
mod manifest;
mod plan;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser};
use knode_dbus::systemd::{self, Job, PRIVATE, Systemd};

use crate::cli::{Cli, Command, DataDir, DownArgs};
use crate::layout::DEFAULT_DATA_DIR;
use crate::{down, preflight};

use apply::{Done, below};
use assets::Service;
use manifest::Manifest;
use plan::{MANIFEST, ROLES, Wish};

pub use plan::BINARY;

/// What `knode install` can be told.
#[derive(Args, Clone, Debug)]
pub struct InstallArgs {
    /// Install below this directory, which becomes another machine's root later; nothing is started.
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Link this program's name to knode too, so that units written for it start knode; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(ROLES))]
    pub role: Vec<String>,
    /// Do not start the service with the machine.
    #[arg(long)]
    pub no_enable: bool,
    /// Do not start the service now.
    #[arg(long)]
    pub no_start: bool,
    /// Replace files that knode has not made.
    #[arg(long)]
    pub force: bool,
    /// What the service runs: `up`, `node`, `join` or `server` with its options. Without it: what it ran before, or
    /// `up`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What `knode uninstall` can be told.
#[derive(Args, Clone, Debug)]
pub struct UninstallArgs {
    /// The directory that `knode install` was given.
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Leave images, volumes, certificates and the store where they are; pods end all the same.
    #[arg(long)]
    pub keep_data: bool,
}

/// Installs; a second time it takes up what has changed.
pub fn install(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode install")?;
    let root = root(&args.root)?;
    let record = below(&root, Path::new(MANIFEST));
    let mut manifest = Manifest::load(&record)?.unwrap_or_default();
    let wish = wish(args, &manifest)?;
    let done = Done::apply(&root, &plan::items(&wish), &mut manifest, args.force)?;
    note(&mut manifest.units, wish.service.unit.to_owned());
    note(&mut manifest.data, wish.data.clone());
    if let Err(error) = manifest.save(&record) {
        done.undo();
        return Err(error.into());
    }
    let lines = done.commit();
    lines.iter().for_each(|line| println!("{line}"));
    if lines.is_empty() {
        println!("everything is there already");
    }
    if root == Path::new("/") {
        take_up(&wish, !args.no_start, lines.is_empty())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn note<T: PartialEq>(all: &mut Vec<T>, one: T) {
    if !all.contains(&one) {
        all.push(one);
    }
}

fn root(root: &Path) -> anyhow::Result<PathBuf> {
    let found = fs::canonicalize(root).with_context(|| format!("use --root {}", root.display()))?;
    ensure!(found.is_dir(), "--root {} is not a directory", root.display());
    Ok(found)
}

fn wish(args: &InstallArgs, before: &Manifest) -> anyhow::Result<Wish> {
    let (service, data) = match (before.units.last(), before.data.last()) {
        (Some(unit), Some(data)) if args.command.is_empty() => (assets::by_unit(unit), data.clone()),
        _ => service(&args.command)?,
    };
    Ok(Wish {
        service,
        arguments: (!args.command.is_empty()).then(|| args.command.join(" ")),
        data,
        source: std::env::current_exe().context("find this program's file")?,
        roles: args.role.clone(),
        enable: !args.no_enable,
    })
}

/// The unit that a command belongs to, and its data directory.
fn service(command: &[String]) -> anyhow::Result<(Service, PathBuf)> {
    if command.is_empty() {
        return Ok((assets::NODE, DEFAULT_DATA_DIR.into()));
    }
    // systemd splits the line at spaces and expands dollars and percents of its own.
    if let Some(word) = command
        .iter()
        .find(|word| word.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | '$')))
    {
        bail!(
            "{word:?} can't stand in a unit's environment: it has spaces, quotes, backslashes or dollars in it"
        );
    }
    let words = std::iter::once("knode").chain(command.iter().map(String::as_str));
    let parsed = Cli::try_parse_from(words).context("understand the command that the service is to run")?;
    let (service, data) = match parsed.command {
        Command::Up(args) if args.background => {
            bail!("a service runs in the foreground: leave --background out")
        }
        Command::Up(args) => (assets::NODE, args.data),
        Command::Node(args) => (assets::NODE, args.data),
        Command::Join(args) => (assets::NODE, args.data),
        Command::Server(args) => (assets::SERVER, args.data),
        _ => bail!("a service runs up, node, join or server, not {}", command[0]),
    };
    ensure!(
        data.data_dir.is_absolute(),
        "--data-dir {} must be absolute in a service",
        data.data_dir.display()
    );
    Ok((service, data.data_dir))
}

/// Makes the running machine use what was installed, or says how.
fn take_up(wish: &Wish, start: bool, unchanged: bool) -> anyhow::Result<()> {
    let unit = wish.service.unit;
    if !systemd::runs() {
        println!("systemd does not run here; where it does, this starts the service:");
        println!("  systemctl daemon-reload && systemctl start {unit}");
        return Ok(());
    }
    let mut systemd = Systemd::connect(Path::new(PRIVATE))?;
    if !unchanged {
        systemd.reload()?;
    }
    if !start {
        println!("start it with: systemctl start {unit}");
        return Ok(());
    }
    if wish.service.pods {
        for unit in ["systemd-modules-load.service", "systemd-sysctl.service"] {
            if let Err(error) = systemd.queue(Job::Restart, unit) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "settings hold after the next boot"
                );
            }
        }
    }
    systemd.queue(Job::Start, unit)?;
    println!("{unit} starts; `knode status` tells how it is");
    Ok(())
}

/// Ends the service and takes away what was installed.
pub async fn uninstall(args: UninstallArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode uninstall")?;
    let root = root(&args.root)?;
    let record = below(&root, Path::new(MANIFEST));
    let Some(manifest) = Manifest::load(&record)? else {
        println!("nothing is installed here: there is no {}", record.display());
        return Ok(ExitCode::SUCCESS);
    };
    let live = root == Path::new("/");
    let mut left = Vec::new();
    if live {
        left.extend(stop(&manifest.units));
    }
    for data in &manifest.data {
        left.extend(end(&root, data, live, !args.keep_data).await);
    }
    let removed = fs::remove_file(&record);
    left.extend(removed.err().map(|e| format!("remove {}: {e}", record.display())));
    left.extend(manifest.remove(&root));
    if live && systemd::runs() {
        let reloaded = Systemd::connect(Path::new(PRIVATE)).and_then(|mut systemd| systemd.reload());
        left.extend(reloaded.err().map(|e| knode_client::brief(&e)));
    }
    left.iter().for_each(|line| eprintln!("uninstall: {line}"));
    println!("knode is uninstalled");
    Ok(if left.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Stops the service whose process this is, so that systemd does not start it again; none if it is nobody's.
pub fn stop_service_of(pid: i32) -> anyhow::Result<Option<&'static str>> {
    if !systemd::runs() {
        return Ok(None);
    }
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let Some(unit) = unit_of(&groups) else {
        return Ok(None);
    };
    Systemd::connect(Path::new(PRIVATE))?.queue(Job::Stop, unit)?;
    Ok(Some(unit))
}

/// The unit of ours that stands in a process's control groups.
fn unit_of(groups: &str) -> Option<&'static str> {
    let units = [assets::NODE.unit, assets::SERVER.unit];
    let within = |unit: &&str| {
        groups
            .lines()
            .any(|line| line.split('/').any(|part| part == *unit))
    };
    units.into_iter().find(within)
}

fn stop(units: &[String]) -> Vec<String> {
    if !systemd::runs() {
        return Vec::new();
    }
    let stop = |unit: &String| Systemd::connect(Path::new(PRIVATE))?.queue(Job::Stop, unit);
    units
        .iter()
        .filter_map(|unit| stop(unit).err().map(|e| knode_client::brief(&e)))
        .collect()
}

/// Takes down what runs from a data directory, and the data itself if `purge`.
async fn end(root: &Path, data: &Path, live: bool, purge: bool) -> Option<String> {
    if !live {
        let removed = if purge {
            fs::remove_dir_all(below(root, data))
        } else {
            Ok(())
        };
        return removed
            .err()
            .filter(|e| e.kind() != io::ErrorKind::NotFound)
            .map(|e| format!("remove {}: {e}", data.display()));
    }
    let data = DataDir {
        data_dir: data.to_owned(),
    };
    match down::run(DownArgs { data, purge }).await {
        Ok(ExitCode::SUCCESS) => None,
        Ok(_) => Some("something was left behind, as said above".to_owned()),
        Err(error) => Some(knode_client::brief(error.as_ref())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Result<(&'static str, PathBuf), String> {
        let words: Vec<String> = line
            .split(' ')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect();
        service(&words)
            .map(|(service, data)| (service.unit, data))
            .map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn the_unit_follows_the_command() {
        let data = PathBuf::from(DEFAULT_DATA_DIR);
        assert_eq!(told(""), Ok(("knode.service", data.clone())));
        assert_eq!(told("server"), Ok(("knode-server.service", data.clone())));
        assert_eq!(
            told("up --data-dir /srv/k"),
            Ok(("knode.service", "/srv/k".into()))
        );
        let joins = "join https://h:6443 --token abcdef.0123456789abcdef --ca-hash sha256:00";
        assert_eq!(told(joins), Ok(("knode.service", data)));
    }

    #[test]
    fn a_process_belongs_to_a_unit() {
        let of = |line: &str| unit_of(&format!("1:name=systemd:/\n{line}\n"));
        assert_eq!(of("0::/system.slice/knode.service"), Some("knode.service"));
        assert_eq!(
            of("0::/system.slice/knode-server.service/x"),
            Some("knode-server.service")
        );
        assert_eq!(of("0::/user.slice/user-0.slice/session-1.scope"), None);
    }

    #[test]
    fn what_a_unit_cannot_run_is_refused() {
        assert!(told("verify").unwrap_err().contains("not verify"));
        assert!(told("up --background").unwrap_err().contains("foreground"));
        assert!(told("up --data-dir k").unwrap_err().contains("absolute"));
        assert!(told("up --no-such").unwrap_err().contains("--no-such"));
        let spaces = service(&["up".into(), "--node-name".into(), "a b".into()]).unwrap_err();
        assert!(spaces.to_string().contains("spaces"), "{spaces}");
    }
}
