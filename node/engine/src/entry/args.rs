//! Command lines of the entry points. They are written and read by the same program, so they are plain
//! `--name value` pairs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::users::Settings;
use crate::runtime::OciProgram;
use crate::shim::ShimArgs;

/// Names of the entry points.
const ENTRIES: [&str; 6] = ["shim", "create", "exec-create", POD_INIT, POD_WAIT, USERS];

/// Name of [`Entry::PodInit`].
pub const POD_INIT: &str = "pod-init";

/// Name of [`Entry::Users`].
const USERS: &str = "pod-users";

/// Name of [`Entry::PodWait`].
pub const POD_WAIT: &str = "pod-wait";

/// An entry point with its arguments.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// The pod's shim.
    Shim(ShimArgs),
    /// The single-shot creator of a container or of a command in one.
    Create(CreateArgs),
    /// Makes the PID namespace of a pod and its first process, whose number it prints; in the user namespace at
    /// this path, if there is one.
    PodInit(Option<PathBuf>),
    /// The first process of a pod's PID namespace.
    PodWait,
    /// Makes the namespaces of a pod with users of its own, with these settings, and holds them for a while.
    Users(String),
}

/// What a creator makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A container out of the bundle in this directory.
    Bundle(PathBuf),
    /// The process in this file, in a running container.
    Process(PathBuf),
}

/// What a creator is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateArgs {
    /// Container id.
    pub id: String,
    /// Directory below which libcontainer keeps its state.
    pub runtime_root: PathBuf,
    /// What to make.
    pub target: Target,
    /// Socket that is sent the terminal.
    pub console: Option<PathBuf>,
    /// Score for the kernel's out-of-memory killer.
    pub oom_score_adj: Option<i32>,
    /// A command whose orphans stay below it, so that all can be killed.
    pub keeps_orphans: bool,
    /// Inherited descriptor of the status pipe.
    pub status_fd: i32,
    /// The OCI runtime that makes it, `None` for the linked-in one.
    pub program: Option<OciProgram>,
}

impl CreateArgs {
    /// The command line, without the program's name.
    pub fn to_command_line(&self) -> Vec<OsString> {
        let (entry, option, path) = match &self.target {
            Target::Bundle(path) => ("create", "--bundle", path),
            Target::Process(path) => ("exec-create", "--process", path),
        };
        let mut line: Vec<OsString> = vec![entry.into(), "--id".into(), self.id.clone().into()];
        line.extend([
            option.into(),
            path.into(),
            "--root".into(),
            self.runtime_root.clone().into(),
        ]);
        line.extend(["--status-fd".into(), self.status_fd.to_string().into()]);
        if let Some(console) = &self.console {
            line.extend(["--console".into(), console.into()]);
        }
        if let Some(score) = self.oom_score_adj {
            line.extend(["--oom-score-adj".into(), score.to_string().into()]);
        }
        if self.keeps_orphans {
            line.extend(["--keeps-orphans".into(), "1".into()]);
        }
        if let Some(program) = &self.program {
            let options = serde_json::Value::from(program.options.clone()).to_string();
            line.extend(["--program".into(), program.path.clone().into()]);
            line.extend(["--program-options".into(), options.into()]);
        }
        line
    }
}

/// The command line of a shim, without the program's name.
pub fn shim_command_line(args: &ShimArgs) -> Vec<OsString> {
    vec![
        "shim".into(),
        "--cgroup-root".into(),
        args.cgroup_root.clone().into(),
    ]
}

/// The command line of [`Entry::Users`], without the program's name.
pub(crate) fn users_command_line(settings: &Settings) -> std::io::Result<Vec<OsString>> {
    let settings = serde_json::to_string(settings)?;
    Ok(vec![USERS.into(), "--settings".into(), settings.into()])
}

/// The command line of [`Entry::PodInit`], without the program's name.
pub(crate) fn pod_init_command_line(users: Option<&PathBuf>) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec![POD_INIT.into()];
    if let Some(users) = users {
        line.extend(["--users".into(), users.into()]);
    }
    line
}

/// Reads a command line; `None` when it names no entry point.
///
/// # Errors
/// What is missing or cannot be read.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Result<Entry, String>> {
    let mut arguments = arguments.into_iter();
    let name = arguments.next()?;
    let name = name.to_str().filter(|name| ENTRIES.contains(name))?;
    Some(pairs(arguments).and_then(|mut given| entry(name, &mut given)))
}

fn entry(name: &str, given: &mut BTreeMap<String, OsString>) -> Result<Entry, String> {
    if name == POD_INIT {
        return Ok(Entry::PodInit(given.remove("--users").map(PathBuf::from)));
    }
    if name == USERS {
        let settings = take(given, "--settings")?.into_string();
        return Ok(Entry::Users(settings.map_err(|_| "--settings is not text")?));
    }
    if name == POD_WAIT {
        return Ok(Entry::PodWait);
    }
    if name == "shim" {
        let cgroup_root = take(given, "--cgroup-root")?.into();
        return Ok(Entry::Shim(ShimArgs { cgroup_root }));
    }
    let target = if name == "create" {
        Target::Bundle(take(given, "--bundle")?.into())
    } else {
        Target::Process(take(given, "--process")?.into())
    };
    Ok(Entry::Create(CreateArgs {
        id: take(given, "--id")?
            .into_string()
            .map_err(|_| "--id is not text")?,
        runtime_root: take(given, "--root")?.into(),
        target,
        console: given.remove("--console").map(PathBuf::from),
        oom_score_adj: given.remove("--oom-score-adj").map(number).transpose()?,
        keeps_orphans: given.remove("--keeps-orphans").is_some(),
        status_fd: number(take(given, "--status-fd")?)?,
        program: program(given)?,
    }))
}

fn program(given: &mut BTreeMap<String, OsString>) -> Result<Option<OciProgram>, String> {
    let Some(path) = given.remove("--program") else {
        return Ok(None);
    };
    let options = take(given, "--program-options")?;
    let options = options.to_str().and_then(|text| serde_json::from_str(text).ok());
    Ok(Some(OciProgram {
        path: path.into(),
        options: options.ok_or("--program-options are no list")?,
    }))
}

fn pairs(mut arguments: impl Iterator<Item = OsString>) -> Result<BTreeMap<String, OsString>, String> {
    let mut given = BTreeMap::new();
    while let Some(name) = arguments.next() {
        let name = name
            .into_string()
            .map_err(|name| format!("unexpected argument {name:?}"))?;
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        given.insert(name, value);
    }
    Ok(given)
}

fn take(given: &mut BTreeMap<String, OsString>, name: &str) -> Result<OsString, String> {
    given.remove(name).ok_or_else(|| format!("{name} is missing"))
}

fn number(text: OsString) -> Result<i32, String> {
    text.to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{text:?} is no number"))
}

/// Makes one line of a message.
pub fn escape(message: &str) -> String {
    message.replace('\\', "\\\\").replace('\n', "\\n")
}

/// The reverse of [`escape`].
pub fn unescape(line: &str) -> String {
    let mut message = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => message.push('\n'),
                Some(other) => message.push(other),
                None => {}
            },
            other => message.push(other),
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_read_as_they_were_written() {
        let mut create = CreateArgs {
            id: "c".into(),
            runtime_root: "/run/x".into(),
            target: Target::Bundle("/b".into()),
            console: Some("/c.sock".into()),
            oom_score_adj: Some(-998),
            keeps_orphans: true,
            status_fd: 7,
            program: Some(OciProgram {
                path: "/usr/bin/other".into(),
                options: vec!["--debug".into(), "a b".into()],
            }),
        };
        assert_eq!(
            parse(create.to_command_line()),
            Some(Ok(Entry::Create(create.clone())))
        );
        create.target = Target::Process("/p.json".into());
        create.console = None;
        create.oom_score_adj = None;
        create.program = None;
        assert_eq!(parse(create.to_command_line()), Some(Ok(Entry::Create(create))));
        let shim = ShimArgs {
            cgroup_root: "/sys/fs/cgroup".into(),
        };
        assert_eq!(parse(shim_command_line(&shim)), Some(Ok(Entry::Shim(shim))));
    }

    #[test]
    fn other_words_are_left_alone() {
        assert_eq!(parse(["up".into()]), None);
        assert_eq!(parse([]), None);
        assert!(matches!(parse(["shim".into()]), Some(Err(_))));
    }

    #[test]
    fn messages_become_one_line_and_come_back() {
        let message = "a\\b\nc";
        assert_eq!(unescape(&escape(message)), message);
        assert!(!escape(message).contains('\n'));
    }
}
